"""What is wrong with a broker, said by the Java client and before it; brokers that are none are made of sockets."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from kafka_job.flink.connector import private
from kafka_job.flink.gateway import Jvm
from kafka_job.kafka import checks
from kafka_job.kafka.broker import Broker, Refused
from kafka_job.kafka.checks import check_kafka, why_not_in
from kafka_job.options import host_and_port

import pytest
import trustme
from pyflink.datastream import StreamExecutionEnvironment

from conftest import Topic
from test_kafka_config import AUTHORITY
from test_pipeline import environment  # noqa: F401

TRUST = {
    "ssl.truststore.type": "PEM",
    "ssl.truststore.certificates": AUTHORITY.cert_pem.bytes().decode(),
}
LOGIN = {
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.PlainLoginModule "
    'required username="alice" password="x username=\'Rq7x\'";',
}
Talk = Callable[[socket.socket], Any]


def with_protocol(protocol: str) -> dict[str, str]:
    """Properties of a client."""
    return {"security.protocol": protocol} | TRUST | LOGIN


@contextlib.contextmanager
def listening(talk: Talk, certificate: trustme.LeafCert | None = None) -> Iterator[str]:
    """The address of a server that talks so to whoever connects, by TLS where it has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        certificate.configure_cert(context)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            talk(context.wrap_socket(connection, server_side=True) if certificate else connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()

    with socket.create_server(("localhost", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"localhost:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def closes(connection: socket.socket) -> None:
    connection.recv(1000)


def silent(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def refused(broker: Broker, topic: str = "input") -> str:
    """What is said where no broker lets us in, without the name of where it listens."""
    with pytest.raises(SystemExit) as exit:
        check_kafka(broker, {topic: "READ"})
    return str(exit.value).replace(broker.bootstrap_servers, "HOST:PORT")


NOT_TLS = "The broker on HOST:PORT does not speak TLS; mend --kafka-config: security.protocol=PLAINTEXT"
SILENT = "What listens on HOST:PORT does not answer within 3 seconds; see what it is"


@pytest.mark.parametrize(
    ("talk", "protocol", "said"),
    [
        (http, "PLAINTEXT", "What listens on HOST:PORT is not Kafka; see what it is"),
        (http, "SASL_PLAINTEXT", "What listens on HOST:PORT is not Kafka; see what it is"),
        (http, "SSL", NOT_TLS),
        (closes, "PLAINTEXT", "What listens on HOST:PORT is not Kafka; see what it is"),
        (closes, "SASL_SSL", NOT_TLS),
        (silent, "PLAINTEXT", SILENT),
        (silent, "SASL_PLAINTEXT", SILENT),
        (silent, "SSL", SILENT),
    ],
)
def test_what_is_no_broker(talk: Talk, protocol: str, said: str) -> None:
    """It is found out without the Java client, which would try in vain, or run out of memory."""
    with listening(talk) as address:
        assert refused(Broker(address, with_protocol(protocol))).startswith(said)


@pytest.mark.parametrize(
    ("talk", "protocol", "said"),
    [
        (http, "PLAINTEXT", "The broker on HOST:PORT asks for TLS; say so in a file, and name it: "),
        (http, "SSL", "What listens on HOST:PORT is not Kafka, or "),
        (closes, "SSL", "What listens on HOST:PORT is not Kafka, or asks for user and password; say so in a file, "),
    ],
)
def test_what_is_no_broker_and_speaks_tls(
    talk: Talk,
    protocol: str,
    said: str,
    jvm: Jvm,
) -> None:
    with listening(talk, AUTHORITY.issue_cert("localhost")) as address:
        assert refused(Broker(address, with_protocol(protocol))).startswith(said)


@pytest.mark.parametrize("address", ["nowhere.invalid:9092", "no..name:9092", f"{'x' * 64}:9092", "[::1]:1"])
def test_an_address_that_is_none(address: str) -> None:
    said = "No Kafka broker answers on HOST:PORT; start one: docker compose up -d (or: make broker)"
    assert refused(Broker(address)) == said


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address where nobody answers at all, as behind a firewall: the queue of who waits to be accepted is full."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())
        yield f"127.0.0.1:{hole.getsockname()[1]}"


def test_one_of_several_addresses_is_enough(
    new_topic: Callable[..., Topic],
    jvm: Jvm,
) -> None:
    topic = new_topic()
    with black_hole() as hole, listening(silent) as silence:
        assert refused(Broker(hole)).startswith("No Kafka broker answers on HOST:PORT; ")
        check_kafka(Broker(f"{hole}, {silence}, {topic.bootstrap_servers}"), {topic.name: "READ"})


def test_a_topic_of_which_the_broker_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Refused.__new__(Refused, "ClusterAuthorizationException: no")
    error.kind = "ClusterAuthorizationException"
    monkeypatch.setattr(checks, "kafka_class", Mock())
    monkeypatch.setattr(checks, "result_of", Mock(side_effect=error))
    said = r"^The broker on a:1 does not say what it knows of the topic input \(ClusterAuthorizationException: no\); "
    with pytest.raises(SystemExit, match=said):
        checks.check_topic(Mock(), Broker("a:1"), "input", "READ")


def test_a_topic_that_may_not_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rights = Mock(toArray=lambda: [SimpleNamespace(name=lambda: "READ")])
    topic_id = "AAAAAAAAAAAAAAAAAAAAAQ"  # as Kafka writes a UUID
    described = {"input": Mock(authorizedOperations=lambda: rights, topicId=lambda: topic_id)}
    monkeypatch.setattr(checks, "kafka_class", Mock())
    monkeypatch.setattr(checks, "result_of", lambda future: described)
    with pytest.raises(SystemExit, match=r"has no right to write the topic input; ask for the rights Describe and Wri"):
        checks.check_topic(Mock(), Broker("a:1"), "input", "WRITE")
    assert checks.check_topic(Mock(), Broker("a:1"), "input", "READ").int == 1


@pytest.mark.parametrize(
    ("causes", "properties", "said"),
    [
        (
            {"UnsupportedSaslMechanismException": "not enabled"},
            LOGIN,
            "The broker on a:1 does not know sasl.mechanism=PLAIN; mend --kafka-config",
        ),
        (
            {"SaslAuthenticationException": "no"},
            LOGIN,
            "The broker on a:1 does not let in the user alice with PLAIN; "
            "mend name or password in --kafka-config: sasl.jaas.config",
        ),
        (
            {"SaslAuthenticationException": "no ticket"},
            {},
            "The broker on a:1 does not let in this client with GSSAPI (no ticket); "
            "mend it in --kafka-config: sasl.jaas.config",
        ),
        (
            {"SslAuthenticationException": "failed", "CertPathValidatorException": "no", "CertificateX": "not yet"},
            {},
            "The broker on a:1 has a certificate that is not valid (not yet)",
        ),
    ],
)
def test_why_a_broker_does_not_let_us_in(causes: dict[str, str], properties: dict[str, str], said: str) -> None:
    error = Refused.__new__(Refused, *causes.values())
    error.causes, error.kind = causes, [*causes][-1]
    assert why_not_in(error, Broker("a:1", properties)) == said


def test_an_address_of_ipv6() -> None:
    assert host_and_port("[::1]:9092") == host_and_port(" ::1:9092 ") == ("::1", 9092)


def test_a_broker_shows_no_secrets() -> None:
    assert repr(Broker("a:1", LOGIN)) == "Broker(bootstrap_servers='a:1')"


def test_a_private_name_that_is_gone(environment: StreamExecutionEnvironment) -> None:  # noqa: F811
    with pytest.raises(AttributeError, match=r"^org\.apache\.flink\..* has no field gone; see tests/test_seams.py$"):
        private(environment._j_stream_execution_environment, "gone")
