"""Two clients of Kafka: kafka-python, for the checks before Flink starts, and the one in Java, which Flink has, too."""

import argparse
import contextlib
import re
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any

from kafka_job.kafka_config import SHADED, Properties

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")  # SASL mechanisms; kafka-python needs no other library for them
# Those of the properties that say how to get in that kafka-python is given.
SECURITY_PROPERTIES = {"security.protocol"}
SASL_PROPERTIES = {"sasl.mechanism", "sasl.jaas.config"}
SSL_PROPERTIES = {
    "ssl.endpoint.identification.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.type",
}


class NotInPython(Exception):
    """Kafka-python cannot get in with these properties, though Java can; the message names the property."""


class Refused(Exception):
    """A broker does not answer the Java client, or refuses what it asks for; the message is Kafka's."""

    def __init__(self, error: Py4JJavaError) -> None:
        cause = error.java_exception
        while cause.getCause():  # the last one says most
            cause = cause.getCause()
        self.kind = cause.getClass().getSimpleName()  # UnknownMemberIdException
        message = str(cause.getMessage())
        if "JAAS config" in message:  # it quotes what may be the rest of a password without quotation marks
            message = re.sub("'.*'", "'...'", message, flags=re.DOTALL)
        super().__init__(f"{self.kind}: {message}")


def host_and_port(text: str) -> tuple[str, int]:
    """An address, HOST:PORT, where HOST may be [IPv6]; raises ValueError where the port is not a number."""
    host, _, port = text.strip().rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def python_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What kafka-python's clients are given.

    Raises:
        NotInPython: it cannot have what --kafka-config says.
        ssl.SSLError, ValueError: a certificate or a key is damaged, or does not fit.
    """
    properties = options.kafka_config
    check_known(properties, "security.", SECURITY_PROPERTIES)
    protocol = properties.get("security.protocol", "PLAINTEXT").upper()
    settings = {"bootstrap_servers": options.bootstrap_servers.split(","), "security_protocol": protocol}
    if "client.id" in properties:
        settings["client_id"] = properties["client.id"]
    if protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        settings |= password_settings(properties)
    if protocol in ("SSL", "SASL_SSL"):
        settings["ssl_context"] = ssl_context(properties)
    return settings


def password_settings(properties: Properties) -> dict[str, str]:
    """Mechanism, user and password, from a login module's options.

    Raises:
        NotInPython: another mechanism, or no such options, or others that kafka-python does not know.
    """
    mechanism = properties.get("sasl.mechanism", "GSSAPI")  # Kafka's default, which is Kerberos
    if mechanism not in PASSWORDS:
        raise NotInPython(f"sasl.mechanism={mechanism}")
    check_known(properties, "sasl.", SASL_PROPERTIES)
    login = properties.get("sasl.jaas.config", "")
    options = re.findall(r"""(\w+)=(["'])((?:(?!\2)[^\\]|\\.)*)\2""", login, re.DOTALL)
    escaped = {one for _, _, value in options for one in re.findall(r"\\(.)", value, re.DOTALL)}
    if escaped & set("abfnrtv01234567"):  # to Java, \t is a tab, and \101 an A
        raise NotInPython("a sasl.jaas.config with a backslash before a letter or a digit")
    if "tokenauth" in login:
        raise NotInPython("a sasl.jaas.config with tokenauth")
    quoted = {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, _, value in options}
    if not {"username", "password"} <= quoted.keys():
        raise NotInPython('a sasl.jaas.config without username="..." and password="..."')
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": quoted["username"],
        "sasl_plain_password": quoted["password"],
    }


def check_known(properties: Properties, prefix: str, known: set[str]) -> None:
    """Raise NotInPython where a property with this prefix is not among those that kafka-python is given."""
    for name in properties:
        if name.startswith(prefix) and name not in known:
            raise NotInPython(name)


def ssl_context(properties: Properties) -> ssl.SSLContext:
    """Whom to trust, and who we are.

    Raises:
        NotInPython: a store that is not of the type PEM, or a property that kafka-python does not know.
        ssl.SSLError, ValueError: a certificate or a key is damaged, or does not fit.
    """
    for store in ("ssl.truststore", "ssl.keystore"):
        if f"{store}.location" in properties:  # a PEM file has become a text
            raise NotInPython(f"{store}.type={properties.get(f'{store}.type', 'JKS')}")
    check_known(properties, "ssl.", SSL_PROPERTIES)
    context = ssl.create_default_context(cadata=properties.get("ssl.truststore.certificates"))
    # Set, and empty, it lets a broker have a certificate for any name.
    context.check_hostname = properties.get("ssl.endpoint.identification.algorithm", "https") != ""
    key = properties.get("ssl.keystore.key")
    if key:
        with tempfile.NamedTemporaryFile("w") as file:  # Python reads them from files alone; nobody else can read it
            file.write(f"{key}\n{properties.get('ssl.keystore.certificate.chain', '')}\n")
            file.flush()
            context.load_cert_chain(file.name, password="")
    return context


@contextlib.contextmanager
def java_admin(options: argparse.Namespace, timeout: float) -> Iterator[JavaObject]:
    """Kafka's Java AdminClient, whose calls take at most `timeout` seconds.

    Raises:
        Refused: a broker does not answer, or refuses what the `with` block asks for.
    """
    jvm = get_gateway().jvm
    properties = jvm.java.util.Properties()
    for name, value in options.kafka_config.items():
        properties.setProperty(name, value)
    properties.setProperty("bootstrap.servers", options.bootstrap_servers)
    properties.setProperty("request.timeout.ms", str(int(timeout * 1000)))  # may not be longer than the next one
    properties.setProperty("default.api.timeout.ms", str(int(timeout * 1000)))
    try:
        admin = shaded("clients.admin.AdminClient").create(properties)
        try:
            yield admin
        finally:
            admin.close(jvm.java.time.Duration.ofSeconds(1))
    except Py4JJavaError as error:
        raise Refused(error) from None


def shaded(name: str) -> Any:
    """One of Kafka's Java classes, as the connector has it. `name`: what follows org.apache.kafka."""
    found = get_gateway().jvm
    for part in f"{SHADED}org.apache.kafka.{name}".split("."):
        found = getattr(found, part)
    return found
