"""The file of --kafka-config for kafka-python, the client of these tools: what it can do of it."""

import re
import ssl
import tempfile
from typing import Any

from kafka_job.kafka.broker import Broker
from kafka_job.kafka.config import Properties, login_options

PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")  # SASL mechanisms; it needs no other library for them
# Those of the properties that say how to get in that it is given.
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


def python_settings(broker: Broker) -> dict[str, Any]:
    """What kafka-python's clients are given; raises NotInPython, and as `ssl_context`."""
    properties, protocol = broker.properties, broker.protocol
    check_known(properties, "security.", SECURITY_PROPERTIES)
    settings = {"bootstrap_servers": broker.bootstrap_servers.split(","), "security_protocol": protocol}
    if "client.id" in properties:
        settings["client_id"] = properties["client.id"]
    if protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        settings |= password_settings(properties)
    if protocol in ("SSL", "SASL_SSL"):
        settings["ssl_context"] = ssl_context(properties)
    return settings


def password_settings(properties: Properties) -> dict[str, str]:
    """Mechanism, user and password, from a login module's options; raises NotInPython for what it does not know."""
    mechanism = properties.get("sasl.mechanism", "GSSAPI")  # Kafka's default, which is Kerberos
    if mechanism not in PASSWORDS:
        raise NotInPython(f"sasl.mechanism={mechanism}")
    check_known(properties, "sasl.", SASL_PROPERTIES)
    login = properties.get("sasl.jaas.config", "")
    if {*re.findall(r"\\(.)", login, re.DOTALL)} & {*"abfnrtv01234567"}:  # to Java, \t is a tab, and \101 an A
        raise NotInPython("a sasl.jaas.config with a backslash before a letter or a digit")
    if "tokenauth" in login:
        raise NotInPython("a sasl.jaas.config with tokenauth")
    options = login_options(properties)
    if not {"username", "password"} <= options.keys():
        raise NotInPython('a sasl.jaas.config without username="..." and password="..."')
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": options["username"],
        "sasl_plain_password": options["password"],
    }


def check_known(properties: Properties, prefix: str, known: set[str]) -> None:
    """Raise NotInPython where a property with this prefix is not among those that kafka-python is given."""
    for name in properties:
        if name.startswith(prefix) and name not in known:
            raise NotInPython(name)


def ssl_context(properties: Properties) -> ssl.SSLContext:
    """Whom to trust, and who we are. Raises NotInPython: a store that is not of the type PEM, or an unknown property;
    ssl.SSLError or ValueError: a certificate or a key is damaged, or does not fit.
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
