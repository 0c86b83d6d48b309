"""The Kafka connector: its jar, and the classes in it.

Leans on: the names of the connector's classes, and what the names of Kafka's begin with in it.
"""

import sys
import zipfile
from pathlib import Path
from typing import Any

from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION

CONNECTORS = Path(__file__).resolve().parent.parent.parent / "connectors"
SHADED = "org.apache.flink.kafka.shaded."  # what the names of Kafka's classes begin with in Flink's connector
CONNECTOR = "org.apache.flink.connector.kafka.source"


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


def kafka_class(name: str) -> Any:
    """One of Kafka's Java classes, as the connector has it. `name`: what follows org.apache.kafka."""
    found = get_gateway().jvm
    for part in f"{SHADED}org.apache.kafka.{name}".split("."):
        found = getattr(found, part)
    return found
