"""Jobs at a broker with TLS, passwords, certificates and rights: who gets in, who does not, and where secrets are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from kafka.admin import ACLOperation, ResourceType

import secure_broker
from broker import free_port, running
from conftest import Job, Topic
from secure_broker import Listener, SecureBroker, authority, certificate_chain, login, private_key, trust
from support import Record, expected_counts, random_lines, read_files

PASSWORDS = {
    "alice": 'al"ce=\\;secret',  # has what means something in a login module's options
    "no-topic": "no-topic-secret",  # may not know that there is a topic
    "no-records": "no-records-secret",  # may not read them
    "no-group": "no-group-secret",
}
LIMIT = 10.0  # seconds for a refusal


@dataclass
class Doors:
    """A broker, how to come in, and a topic with records, which alice may read."""

    broker: SecureBroker
    folder: Path
    topic: Topic
    records: list[Record]

    def address(self, door: str) -> str:
        """Where a listener is."""
        return f"localhost:{self.broker.listeners[door].port}"

    @property
    def trusted(self) -> str:
        """Properties of a client that trusts the broker."""
        return trust(self.broker.folder / "ca.pem")

    def password(self, user: str = "alice", mechanism: str = "SCRAM-SHA-256", password: str = "") -> str:
        """Properties of a client with a password, by default the right one."""
        return f"security.protocol=SASL_SSL\n{login(user, password or PASSWORDS[user], mechanism)}{self.trusted}"

    def arguments(self, door: str, properties: str, group: str) -> list[str]:
        """The flags with which a job reads the topic to its end, through a door, as a group of its own."""
        file = self.folder / f"{group}.properties"
        secure_broker.write_secret(file, properties)
        where = ["--bootstrap-servers", self.address(door), "--topic", self.topic.name, "--group-id", group]
        return [*where, "--kafka-config", str(file), "--bounded"]


def listener(folder: Path, certificate: trustme.LeafCert) -> Listener:
    """A door with a certificate of its own that asks for no password, and for no certificate."""
    file = folder / f"{free_port()}.pem"
    secure_broker.write_secret(file, private_key(certificate) + certificate_chain(certificate))
    settings = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(file), "ssl.client.auth": "none"}
    return Listener(free_port(), "SSL", settings)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One broker for all tests here, with good doors and bad ones."""
    folder = tmp_path_factory.mktemp("doors")
    broker = SecureBroker(folder / "kafka", free_port(), free_port(), {**PASSWORDS})
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    broker.listeners |= {
        "PLAIN": Listener(free_port(), "PLAINTEXT", {}),
        "TLS": listener(folder, broker.ca.issue_cert("localhost")),
        "EXPIRED": listener(folder, broker.ca.issue_cert("localhost", not_after=yesterday)),
        "OTHER_NAME": listener(folder, broker.ca.issue_cert("kafka.example.com")),
        "UNKNOWN_CA": listener(folder, trustme.CA().issue_cert("localhost")),
    }
    with running(broker):
        # Who says no name is ANONYMOUS.
        broker.allow("ANONYMOUS", ResourceType.TOPIC, "*", ACLOperation.ALL)
        broker.allow("ANONYMOUS", ResourceType.GROUP, "*", ACLOperation.ALL)
        topic = Topic(f"localhost:{broker.listeners['PLAIN'].port}", partitions=2)
        records = topic.produce(random_lines(1, 200, partitions=2))
        for user in ("alice", "no-group"):
            broker.allow(user, ResourceType.TOPIC, topic.name, ACLOperation.READ)
        broker.allow("no-records", ResourceType.TOPIC, topic.name, ACLOperation.DESCRIBE)
        for user in ("alice", "no-topic", "no-records"):
            broker.allow(user, ResourceType.GROUP, "*", ACLOperation.READ)
        yield Doors(broker, folder, topic, records)


def as_string(pem: str, line_end: str = r"\n") -> str:
    """A PEM as the value of a property, with its line ends written out."""
    return pem.strip().replace("\n", line_end)


def with_certificate(doors: Doors, password: str | None = None, line_end: str = r"\n") -> str:
    """Properties of a client with alice's certificate, as strings."""
    own = doors.broker.certificate_for("alice")
    unlock = f"ssl.key.password={password}\n" if password else ""
    return (
        "security.protocol=SSL\n"
        "ssl.keystore.type=PEM\n"
        f"ssl.keystore.key={as_string(private_key(own, password), line_end)}\n"
        f"ssl.keystore.certificate.chain={as_string(certificate_chain(own), line_end)}\n"
        f"{unlock}{doors.trusted}"
    )


def with_certificate_file(doors: Doors, password: str | None = None) -> str:
    """Properties of a client with alice's certificate in a file."""
    own = doors.broker.certificate_for("alice")
    file = doors.folder / f"alice-{bool(password)}.pem"
    secure_broker.write_secret(file, private_key(own, password) + certificate_chain(own))
    unlock = f"ssl.key.password={password}\n" if password else ""
    keystore = f"ssl.keystore.type=PEM\nssl.keystore.location={file}\n"
    return f"security.protocol=SSL\n{keystore}{unlock}{doors.trusted}"


def trust_as_string(doors: Doors, line_end: str) -> str:
    pem = as_string(authority(doors.broker.ca), line_end)
    return f"security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.certificates={pem}\n"


CONTINUED = " \\\n  "  # as in Kafka's documentation: the value goes on in the next line
WAYS_IN = {
    "SCRAM-SHA-256": ("PASSWORD", lambda doors: doors.password(mechanism="SCRAM-SHA-256")),
    "SCRAM-SHA-512": ("PASSWORD", lambda doors: doors.password(mechanism="SCRAM-SHA-512")),
    "PLAIN": ("PASSWORD", lambda doors: doors.password(mechanism="PLAIN")),
    "TLS": ("TLS", lambda doors: f"security.protocol=SSL\n{doors.trusted}"),
    "TLS with a string": ("TLS", lambda doors: trust_as_string(doors, r"\n")),
    "TLS with a string in lines": ("TLS", lambda doors: trust_as_string(doors, CONTINUED)),
    "mutual TLS": ("CERTIFICATE", with_certificate_file),
    "mutual TLS, encrypted": ("CERTIFICATE", lambda doors: with_certificate_file(doors, "unlock-it")),
    "mutual TLS with strings": ("CERTIFICATE", with_certificate),
    "mutual TLS with strings, encrypted, in lines": (
        "CERTIFICATE",
        lambda doors: with_certificate(doors, "unlock-it", CONTINUED),
    ),
}
IN_MAKE_TEST = ("SCRAM-SHA-512", "PLAIN", "mutual TLS with strings, encrypted, in lines")


@pytest.mark.parametrize(
    "way", [way if way in IN_MAKE_TEST else pytest.param(way, marks=pytest.mark.chaos) for way in WAYS_IN]
)
def test_ways_in(doors: Doors, start_job: Callable[..., Job], tmp_path: Path, way: str) -> None:
    door, properties = WAYS_IN[way]
    arguments = doors.arguments(door, properties(doors), group=way.replace(" ", "-"))
    ended = start_job(*arguments, "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0, ended.stderr
    assert "not checked" not in ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(doors.records)
