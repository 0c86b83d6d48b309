"""What is wrong with a broker, its listeners, a topic, or our rights: one sentence, and what mends it."""

import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

from kafka_job.flink.connector import kafka_class, known_brokers
from kafka_job.kafka.broker import Address, Broker, Refused, Unusable, id_of, result_of
from kafka_job.kafka.config import login_options
from kafka_job.options import host_and_port

from py4j.java_gateway import JavaObject

TIMEOUT = 3.0  # seconds that a broker has to say its first byte
# Kafka's request ApiVersions, which anybody may send: length, kind, version, number, and no client's name.
API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000000 ffff")
NOBODY, SILENT, OTHER, KAFKA, TLS = "nobody", "silent", "another program", "Kafka without TLS", "TLS"
# What listens, by the first byte of its answer: the highest one of a length; an alert, or a handshake.
FIRST_BYTES = {b"\0": KAFKA, b"\x15": TLS, b"\x16": TLS}
SAY_SO = "say so in a file, and name it: security.protocol={}, --kafka-config FILE"

REASONS = {  # why a broker does not let us in: the first one of these Java exceptions that is there
    "CertificateExpiredException": "has a certificate that has expired; let whoever runs it renew that",
    "SunCertPathBuilderException": "has a certificate of an authority that is not trusted; "
    "name its own: ssl.truststore.location=FILE.pem",
    "CertPathValidatorException": "has a certificate that is not valid ({message})",
    "CertificateException": "has a certificate for another name ({message}); mend --bootstrap-servers",
    "SslAuthenticationException": "asks for a certificate, and got none, or one that it does not take ({message}); "
    "name one that its authority has signed: ssl.keystore.location=FILE.pem",
    "IllegalSaslStateException": "asks for no user and password; mend --kafka-config: security.protocol={open}",
    "UnsupportedSaslMechanismException": "does not know sasl.mechanism={mechanism}; mend --kafka-config",
    "SaslAuthenticationException": "does not let in {who} in --kafka-config: sasl.jaas.config",
}


def check_kafka(broker: Broker, rights: Mapping[str, str], answering: Broker | None = None) -> dict[str, UUID | None]:
    """The ids of topics; exits with one sentence where a broker or a topic is out of reach: Flink waits in silence.

    `rights`: {"input": "READ", "counts": "WRITE"}. `answering`: of `check_addresses`, where that was asked before.
    """
    try:
        with (answering or check_addresses(broker)).admin() as admin:
            check_way_in(admin, broker)
            return {topic: check_topic(admin, broker, topic, right) for topic, right in rights.items()}
    except Refused as error:
        sys.exit(why_not_in(error, broker))


def check_addresses(broker: Broker) -> Broker:
    """The broker by its addresses that answer as they should; exits with one sentence where none does."""
    # (The Java client tries in vain, or takes the answer of another program for a length, and asks for so much memory.)
    where, tls = broker.bootstrap_servers, "SSL" in broker.protocol
    addresses = {host_and_port(text): text for text in where.split(",")}
    found = look_at(addresses, tls)
    good = [text for address, text in addresses.items() if found[address] == (TLS if tls else KAFKA)]
    if good:
        return replace(broker, bootstrap_servers=",".join(good))
    answers = {*found.values()}
    if OTHER in answers and not tls:  # it may be TLS that does not answer with an alert
        answers |= {*look_at(addresses, tls=True).values()}
    if answers == {NOBODY}:
        sys.exit(f"No Kafka broker answers on {where}; start one: docker compose up -d (or: make broker)")
    if TLS in answers:
        protocol = "SASL_SSL" if "SASL" in broker.protocol else "SSL (or SASL_SSL)"
        sys.exit(f"The broker on {where} asks for TLS; {SAY_SO.format(protocol)}")
    if OTHER not in answers:
        sys.exit(f"What listens on {where} does not answer within {TIMEOUT:.0f} seconds; see what it is")
    if tls:
        mend = "mend --kafka-config: security.protocol=PLAINTEXT (or SASL_PLAINTEXT)"
        sys.exit(f"The broker on {where} does not speak TLS; {mend}")
    sys.exit(f"What listens on {where} is not Kafka; see what it is")


def look_at(addresses: Iterable[Address], tls: bool) -> dict[Address, str]:
    """What listens at each address, by its answer to the first message of a client, which speaks TLS or does not."""

    def listens(address: Address) -> str:
        try:
            hello = client_hello(address[0]) if tls else API_VERSIONS
            connection = socket.create_connection(address, TIMEOUT)
        except (OSError, ValueError):  # the second one for what cannot be a name
            return NOBODY
        with connection:
            try:
                connection.sendall(hello)
                return FIRST_BYTES.get(connection.recv(1), OTHER)
            except TimeoutError:
                return SILENT
            except OSError:
                return OTHER

    with ThreadPoolExecutor(max_workers=16) as pool:  # one that is out of reach takes seconds
        return dict(zip(addresses, pool.map(listens, addresses), strict=True))


def client_hello(host: str) -> bytes:
    """The first message of a client that speaks TLS."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):  # it waits for an answer
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()


def check_way_in(admin: JavaObject, broker: Broker) -> None:
    """Exit with one sentence where a broker sends its clients on to what cannot be reached; raises Refused."""
    where, protocol = broker.bootstrap_servers, broker.protocol
    asked, ended, brokers = admin.describeCluster().nodes(), False, []
    late = time.monotonic() + 0.5  # most have answered by then; to count connections takes hundreds of calls to Java
    while not ended and not brokers:
        time.sleep(0.02)
        ended, brokers = asked.isDone(), known_brokers(admin)
        unanswered = "SASL" not in protocol and time.monotonic() > late
        if unanswered and closed_connections(admin) > 2 and not asked.isDone():
            why = f"is not Kafka, or asks for user and password; {SAY_SO.format(f'SASL_{protocol}')}"
            sys.exit(f"What listens on {where} {why}")
    # The client goes on to one of the advertised listeners, and tries in vain where that is out of reach.
    listeners = look_at(brokers, tls="SSL" in protocol)
    lost = ", ".join(f"{host}:{port}" for (host, port), listens in listeners.items() if listens == NOBODY)
    if lost:
        mend = "change the broker's advertised listener"
        sys.exit(f"The broker on {where} advertises {lost}, which cannot be reached from here; {mend}")
    result_of(asked)


def closed_connections(admin: JavaObject) -> float:
    metrics = admin.metrics()
    return sum(metrics[name].metricValue() for name in metrics if name.name() == "connection-close-total")


def why_not_in(error: Refused, broker: Broker) -> str:
    """One sentence: why a broker does not let us in. `error`: what the Java client got in place of an answer."""
    where = broker.bootstrap_servers
    mechanism = broker.properties.get("sasl.mechanism", "GSSAPI")  # Kafka's default, which is Kerberos
    if isinstance(error, Unusable):
        return f"Kafka's client cannot work with what --kafka-config says ({error}); mend it"
    who = f"this client with {mechanism} ({error}); mend it"  # who has no name has a ticket or a token
    if user := login_options(broker.properties).get("username"):
        who = f"the user {user} with {mechanism}; mend name or password"
    facts = {"open": broker.protocol.removeprefix("SASL_"), "mechanism": mechanism, "who": who}
    for name in REASONS:
        if name in error.causes:
            return f"The broker on {where} {REASONS[name].format(message=error.causes[error.kind], **facts)}"
    what = f"sasl.mechanism={mechanism}" if "SASL" in broker.protocol else "what Flink's client asks for"
    return f"What listens on {where} is not Kafka, or refuses {what}: {error}"


def check_topic(admin: JavaObject, broker: Broker, topic: str, right: str) -> UUID | None:
    """A topic's id; exits with one sentence where there is no such topic, or it may not be read, or written."""
    here, hidden = f"The broker on {broker.bootstrap_servers}", ""
    with_rights = kafka_class("clients.admin.DescribeTopicsOptions")().includeAuthorizedOperations(True)
    try:
        described = result_of(admin.describeTopics([topic], with_rights).allTopicNames())[topic]
        rights = described.authorizedOperations()  # None where the broker does not tell
        if rights is None or right in [one.name() for one in rights.toArray()]:
            return id_of(described)
    except Refused as error:
        if error.kind == "UnknownTopicOrPartitionException":
            sys.exit(missing_topic(admin, broker, topic))
        if error.kind == "InvalidTopicException":
            mend = "of which a job reads one; mend --topic" if right == "READ" else "to which the job writes; mend it"
            sys.exit(f"{topic} cannot be the name of a topic, {mend}")
        if error.kind != "TopicAuthorizationException":
            sys.exit(f"{here} does not say what it knows of the topic {topic} ({error}); ask for access to it")
        hidden = ", or to know whether there is one"
    why = f"has no right to {right.lower()} the topic {topic}{hidden}"
    sys.exit(f"{here} says that this client {why}; ask for the rights Describe and {right.capitalize()}")


def missing_topic(admin: JavaObject, broker: Broker, topic: str) -> str:
    address = broker.bootstrap_servers.partition(",")[0]
    # It prints 150 lines about the topic that it has created.
    create = f"python -m kafka.admin --bootstrap-servers {address} topics create --topic {topic} > /dev/null"
    if broker.properties:  # which kafka-python's command does not read
        create = f"kafka-topics.sh --bootstrap-server {address} --command-config FILE --create --topic {topic}"
    others = sorted(name for name in result_of(admin.listTopics().names()) if not name.startswith("__"))  # Kafka's own
    exist = f" (there are: {', '.join(others)})" if 0 < len(others) <= 10 else ""
    return f"There is no topic {topic} on {broker.bootstrap_servers}{exist}; create it: {create}"
