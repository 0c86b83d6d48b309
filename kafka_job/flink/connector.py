"""Java's classes, by way of PyFlink's connection to the JVM; and the Kafka connector, with Kafka's own client in Java.

Leans on: get_gateway; the names of Kafka's classes in the connector's jar, and of the package of its source; private
fields of AdminClient and KafkaSource. Whoever calls `private` leans on a field that its class does not promise.
"""

import functools
import sys
import zipfile
from pathlib import Path
from typing import Any

from kafka_job.terminal import say

from py4j.java_gateway import JavaObject
from pyflink.datastream.connectors.kafka import KafkaSource
from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION

CONNECTORS = Path(__file__).resolve().parent.parent.parent / "connectors"
NAME = "flink-sql-connector-kafka-"
TRIED = {("2.2.1", "5.0.0-2.2")}  # versions of Flink and of the connector, with which all tests have passed
CONNECTOR = "org.apache.flink.connector.kafka.source"  # the package of its source
SHADED = "org.apache.flink.kafka.shaded."  # what the names of Kafka's classes begin with in there


@functools.cache  # the sentence comes once
def find_connector(folder: Path = CONNECTORS, flink_version: str = FLINK_VERSION) -> Path:
    """The Kafka connector jar for this Flink. Says where the two were not tried together; exits where there is none."""
    flink_minor = ".".join(flink_version.split(".")[:2])
    jars = {jar.stem.removeprefix(NAME): jar for jar in sorted(folder.glob(f"{NAME}*.jar"))}
    for version, jar in jars.items():
        if version.endswith(f"-{flink_minor}"):
            if not zipfile.is_zipfile(jar):
                sys.exit(f"{jar} is damaged; run: rm {jar} && python {folder / 'fetch.py'}")
            if (flink_version, version) not in TRIED:
                say(f"{jar.name} was not tried with Flink {flink_version}; run the tests first: make test")
            return jar
    if not folder.is_dir():
        mend = "install it from its repository, in place: pip install --editable REPOSITORY"
        sys.exit(f"kafka_job in {folder.parent} has no folder connectors beside it, where its connector jar is; {mend}")
    if jars:
        found = ", ".join(jar.name for jar in jars.values())
        mend = f"pip install -r requirements.txt && python {folder / 'fetch.py'}"
        sys.exit(f"{found} is not for Flink {flink_version}, which is installed; run: {mend}")
    sys.exit(f"No Kafka connector jar in {folder}; run: python {folder / 'fetch.py'}")


def connector_jars() -> list[Path]:
    """The connector's jar, and that for records compressed with zstd; exits where one is not there."""
    zstd = sorted(CONNECTORS.glob("zstd-jni-*.jar"))
    if not zstd:
        sys.exit(f"No zstd-jni jar in {CONNECTORS}; run: python {CONNECTORS / 'fetch.py'}")
    return [find_connector(), zstd[-1]]


def java_class(name: str) -> Any:
    """A Java class by its full name; the JVM must have been started, see gateway.py."""
    return functools.reduce(getattr, name.split("."), get_gateway().jvm)


def private(java: JavaObject, *names: str) -> JavaObject:
    """The value of a private field, the first of these names that there is; raises AttributeError: Flink has others."""
    owner = java.getClass()
    while owner:
        fields = {field.getName(): field for field in owner.getDeclaredFields()}
        for name in names:
            if name in fields:
                fields[name].setAccessible(True)
                return fields[name].get(java)
        owner = owner.getSuperclass()
    raise AttributeError(f"{java.getClass().getName()} has no field {' or '.join(names)}; see tests/test_seams.py")


def kafka_class(name: str) -> Any:
    """One of Kafka's Java classes, as the connector has it. `name`: what follows org.apache.kafka."""
    return java_class(f"{SHADED}org.apache.kafka.{name}")


def without_gaps(source: KafkaSource) -> KafkaSource:
    """A source that fails where the records that come next are gone; Flink has it leave them out, and says nothing."""
    private(source.get_java_function(), "props").setProperty("auto.offset.reset", "none")
    return source


def known_brokers(admin: JavaObject) -> list[tuple[str, int]]:
    """The addresses of the brokers that an AdminClient was told of; its public methods would have to reach one."""
    cluster = private(private(admin, "metadataManager"), "cluster")
    return [(node.host(), node.port()) for node in cluster.nodes().toArray() if node.id() >= 0]  # those told to us: -1
