"""What is wrong with a broker, its listeners, a topic, or our rights: one sentence, and what mends it."""

import contextlib
import socket
import ssl
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto

from kafka_job.flink.connector import kafka_class, known_brokers
from kafka_job.kafka.broker import Address, Broker, Refused, Unusable, host_and_port, result_of
from kafka_job.kafka.config import login_options

from py4j.java_gateway import JavaObject

TIMEOUT = 3.0  # seconds that a broker has to answer before the job starts
# Kafka's request ApiVersions, which is answered before anybody has said who he is: its length, its number, its version,
# a number that the answer has, and no client's name.
API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000000 ffff")


def check_kafka(broker: Broker, topic: str, right: str = "READ") -> None:
    """Exit with one sentence where brokers or topic are out of reach: Flink would wait for them in silence.

    Args:
        right: what the job does with the topic, READ or WRITE.
    """
    answering = check_addresses(broker)
    try:
        with answering.admin(TIMEOUT) as admin:
            check_listeners(admin, broker)
            check_topic(admin, broker, topic, right)
    except Refused as error:
        sys.exit(why_not_in(error, broker))


# --- What the Java client cannot tell: it tries in vain, until its time is over -------------------------------------


class Answer(Enum):
    """What listens at an address, by its first bytes."""

    NOBODY = auto()
    SILENCE = auto()
    OTHER = auto()  # what closes the connection, too
    KAFKA = auto()  # without TLS
    TLS = auto()


def look_at(address: Address, tls: bool) -> Answer:
    """What answers there to the first message of a client that speaks TLS, or of one that does not.

    (The Java client would take the answer of another program for a length, and ask for so much memory.)
    """
    try:
        hello = client_hello(address[0]) if tls else API_VERSIONS
        connection = socket.create_connection(address, TIMEOUT)
    except (OSError, ValueError):  # the second one for what cannot be a name
        return Answer.NOBODY
    with connection:
        try:
            connection.sendall(hello)
            first = connection.recv(1)
        except TimeoutError:
            return Answer.SILENCE
        except OSError:
            return Answer.OTHER
    # An alert of TLS, and its handshake; the highest byte of a length.
    return {b"\x15": Answer.TLS, b"\x16": Answer.TLS, b"\0": Answer.KAFKA}.get(first, Answer.OTHER)


def client_hello(host: str) -> bytes:
    """The first message of a client that speaks TLS."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):  # it waits for an answer
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()


def look_at_all(addresses: Iterable[Address], tls: bool) -> dict[Address, Answer]:
    """What answers at each address. All are asked at once: one that is out of reach takes seconds."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = {address: pool.submit(look_at, address, tls) for address in addresses}
    return {address: answer.result() for address, answer in found.items()}


def check_addresses(broker: Broker) -> Broker:
    """The broker by those of its addresses that answer as it should; exits with one sentence where there are none."""
    where, tls = broker.bootstrap_servers, "SSL" in broker.protocol
    addresses = {host_and_port(text): text for text in where.split(",")}
    found = look_at_all(addresses, tls)
    good = [text for address, text in addresses.items() if found[address] == (Answer.TLS if tls else Answer.KAFKA)]
    if good:
        # With this property it does not forget which brokers it was told of; see check_listeners.
        keeping = {"metadata.recovery.strategy": "none"}
        return Broker(",".join(good), broker.properties | keeping)
    answers = {*found.values()}
    if answers == {Answer.NOBODY}:
        sys.exit(f"No Kafka broker answers on {where}; start one: docker compose up -d (or: make broker)")
    if not tls and Answer.TLS in answers | {*look_at_all(addresses, tls=True).values()}:
        protocol = "SASL_SSL" if "SASL" in broker.protocol else "SSL (or SASL_SSL)"
        mend = f"say so in a file, and name it: security.protocol={protocol}, --kafka-config FILE"
        sys.exit(f"The broker on {where} asks for TLS; {mend}")
    if Answer.OTHER not in answers:
        sys.exit(f"What listens on {where} does not answer within {TIMEOUT:.0f} seconds; see what it is")
    if tls:
        mend = "mend --kafka-config: security.protocol=PLAINTEXT (or SASL_PLAINTEXT)"
        sys.exit(f"The broker on {where} does not speak TLS; {mend}")
    sys.exit(f"What listens on {where} is not Kafka; see what it is")


def check_listeners(admin: JavaObject, broker: Broker) -> None:
    """Exit with one sentence where a broker sends its clients on to an address that cannot be reached.

    Raises:
        Refused: the broker does not let this client in.
    """
    asked = admin.describeCluster().nodes()
    try:
        result_of(asked)
    finally:  # the client asks a broker by its advertised listener, in vain where that is out of reach
        found = look_at_all(known_brokers(admin), "SSL" in broker.protocol)
        lost = ", ".join(f"{host}:{port}" for (host, port), answer in found.items() if answer == Answer.NOBODY)
        if lost:
            mend = "change the broker's advertised listener"
            where = broker.bootstrap_servers
            sys.exit(f"The broker on {where} advertises {lost}, which cannot be reached from here; {mend}")


# --- What it can tell -----------------------------------------------------------------------------------------------


def why_not_in(error: Refused, broker: Broker) -> str:
    """One sentence: why a broker does not let us in. `error`: what the Java client has got in place of an answer."""
    here, causes, protocol = f"The broker on {broker.bootstrap_servers}", error.causes, broker.protocol
    mechanism = broker.properties.get("sasl.mechanism", "GSSAPI")  # Kafka's default, which is Kerberos
    if isinstance(error, Unusable):
        return f"Kafka's client cannot work with what --kafka-config says ({error}); mend it"
    if why := why_not_by_tls(causes):
        return f"{here} {why}"
    if "IllegalSaslStateException" in causes:
        plain = protocol.replace("SASL_PLAINTEXT", "PLAINTEXT").replace("SASL_", "")
        return f"{here} asks for no user and password; mend --kafka-config: security.protocol={plain}"
    if "UnsupportedSaslMechanismException" in causes:
        return f"{here} does not know sasl.mechanism={mechanism} ({error}); mend --kafka-config"
    if "SaslAuthenticationException" in causes:
        user = login_options(broker.properties).get("username")
        if user:
            mend = "mend name or password in --kafka-config: sasl.jaas.config"
            return f"{here} does not let in the user {user} with {mechanism}; {mend}"
        return f"{here} does not let this client in with {mechanism} ({error}); mend --kafka-config"
    if "node assignment" in str(error) and "SASL" not in protocol:  # it has answered, and then closes the connection
        mend = f"say so in a file, and name it: security.protocol=SASL_{protocol}, --kafka-config FILE"
        if protocol == "SSL":
            return f"What listens on {broker.bootstrap_servers} is not Kafka, or asks for user and password; {mend}"
        return f"{here} asks for user and password (or is very slow); {mend}"
    return f"{here} does not answer Flink's client, or refuses what it asks for ({error}); ask whoever runs it"


def why_not_by_tls(causes: dict[str, str]) -> str | None:
    """What is wrong with certificates, as the end of a sentence; None where nothing is, as far as `causes` say."""
    if "SslAuthenticationException" not in causes:
        return None
    if "CertificateExpiredException" in causes:
        return "has a certificate that has expired; let whoever runs it renew that"
    if "CertPathBuilderException" in causes or "SunCertPathBuilderException" in causes:
        return "has a certificate of an authority that is not trusted; name its own: ssl.truststore.location=FILE.pem"
    if "CertPathValidatorException" in causes:
        return f"has a certificate that is not valid ({causes['CertPathValidatorException']})"
    if "CertificateException" in causes:
        return f"has a certificate for another name ({causes['CertificateException']}); mend --bootstrap-servers"
    *_, reason = causes.values()
    mend = "name one that its authority has signed: ssl.keystore.location=FILE.pem"
    return f"asks for a certificate, and got none, or one that it does not take ({reason}); {mend}"


def check_topic(admin: JavaObject, broker: Broker, topic: str, right: str) -> None:
    """Exit with one sentence where there is no such topic, or it may not be read, or written."""
    here, hidden = f"The broker on {broker.bootstrap_servers}", ""
    with_rights = kafka_class("clients.admin.DescribeTopicsOptions")().includeAuthorizedOperations(True)
    try:
        described = result_of(admin.describeTopics([topic], with_rights).allTopicNames())[topic]
        rights = described.authorizedOperations()  # None where the broker does not tell
        if rights is None or right in [one.name() for one in rights.toArray()]:
            return
    except Refused as error:
        if error.kind == "UnknownTopicOrPartitionException":
            sys.exit(missing_topic(admin, broker, topic))
        if error.kind != "TopicAuthorizationException":
            sys.exit(f"{here} does not say what it knows of the topic {topic} ({error}); ask for access to it")
        hidden = ", or to know whether there is one"
    why = f"has no right to {right.lower()} the topic {topic}{hidden}"
    sys.exit(f"{here} says that this client {why}; ask for the rights Describe and {right.capitalize()}")


def missing_topic(admin: JavaObject, broker: Broker, topic: str) -> str:
    """The sentence that says so, and what to run."""
    address = broker.bootstrap_servers.partition(",")[0]
    # It prints 150 lines about the topic that it has created.
    create = f"python -m kafka.admin --bootstrap-servers {address} topics create --topic {topic} > /dev/null"
    if broker.properties:  # which kafka-python's command does not read
        create = f"kafka-topics.sh --bootstrap-server {address} --command-config FILE --create --topic {topic}"
    others = sorted(name for name in result_of(admin.listTopics().names()) if not name.startswith("__"))  # Kafka's own
    exist = f" (there are: {', '.join(others)})" if 0 < len(others) <= 10 else ""
    return f"There is no topic {topic} on {broker.bootstrap_servers}{exist}; create it: {create}"
