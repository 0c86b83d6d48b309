"""Send lines to a topic: those of files, with times of their own, or what is typed, with the time of now.

    python tools/produce.py --topic input                   # each line that is typed, until Ctrl-D
    python tools/produce.py --topic input FILE              # FILE may be - for stdin
    python tools/produce.py --topic input --partitions 2 FILE
    python tools/produce.py --topic input --bootstrap-servers localhost:19093 --kafka-config secure/client.properties

Without a file, a line of stdin is the text of a record, whatever it is, and is sent when it comes.

In a file, lines have times of their own, so that a job that works on event time does the same for everybody. There a
line is a time of DAY (UTC), a partition if it is not 0, and the text of the record:

    14:00:01 to be or not to be
    14:00:02.250 @1 that is the question

The text may be missing: that is a record without words, which moves event time on. All lines are read before the first
one is sent. With --pause 1 they are sent a second apart, as they would come in life; a job that finds them all at once
sees no watermark between them.

The topic is created where it is missing.
"""

import argparse
import contextlib
import re
import ssl
import sys
from dataclasses import dataclass
from datetime import datetime, time, timezone
from pathlib import Path
from time import sleep
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from broker import PORT, ROOT, create_topic, is_kafka

sys.path.append(str(ROOT))  # kafka_job is there; it is imported where it is needed, since PyFlink takes a second

DAY = datetime(2026, 11, 22, tzinfo=timezone.utc)
LINE = re.compile(rb"(\d\d:\d\d:\d\d(?:\.\d{3})?)(?: @(\d{1,4}))?(?: (.*))?")
FORM = "'14:00:01 some text' or '14:00:01.250 @1 some text', @1 being the partition"


@dataclass(frozen=True)
class Line:
    """What becomes one record."""

    time: datetime
    partition: int
    text: bytes


def parse(line: bytes) -> Line:
    """A line of a file, without its line feed; raises ValueError where it has not this form."""
    parts = LINE.fullmatch(line)
    if not parts:
        raise ValueError
    at = datetime.combine(DAY, time.fromisoformat(parts[1].decode()), timezone.utc)
    return Line(at, int(parts[2] or 0), parts[3] or b"")


def read(file: str, partitions: int) -> list[Line]:
    """The lines of a file, or of stdin for '-'; exits with one sentence where they are not as they should be."""
    found: list[Line] = []
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        for line in content.splitlines():
            found.append(parse(line))
            if found[-1].partition >= partitions:
                where = f"{file}, line {len(found)}"
                sys.exit(f"{where}: there is no partition {found[-1].partition}; nothing is sent (--partitions N)")
    except OSError as error:
        sys.exit(f"Cannot read {file}: {error.strerror}")
    except ValueError:
        sys.exit(f"{file}, line {len(found) + 1}: expected {FORM}; nothing is sent")
    return found


def access_to(options: argparse.Namespace) -> dict[str, Any]:
    """What kafka-python's clients are given; exits with one sentence where it cannot get in with --kafka-config."""
    if not options.kafka_config:
        return {"bootstrap_servers": options.bootstrap_servers.split(","), "security_protocol": "PLAINTEXT"}
    from kafka_job.kafka.broker import Broker
    from kafka_job.kafka.config import read_config

    from kafka_python import NotInPython, python_settings

    options.kafka_config = read_config(options.kafka_config)
    try:
        return python_settings(Broker(options.bootstrap_servers, options.kafka_config))
    except NotInPython as error:
        sys.exit(f"This program cannot get in with {error}; Kafka's own kafka-console-producer can")
    except (ssl.SSLError, ValueError) as error:
        sys.exit(f"A certificate or key of --kafka-config is damaged, or they do not fit together: {error}")


def check_broker(options: argparse.Namespace, access: dict[str, Any]) -> None:
    """Exit with the sentence that a job would end with, where no broker lets us in."""
    if not options.kafka_config and is_kafka(**access):
        return
    from kafka_job.flink import gateway
    from kafka_job.kafka.broker import Broker
    from kafka_job.kafka.checks import check_addresses, check_kafka

    broker = Broker(options.bootstrap_servers, options.kafka_config or {})
    answering = check_addresses(broker)  # where TLS is not what is spoken, kafka-python would wait without end
    if not is_kafka(**access):
        # The client of Flink knows why.
        gateway.start(has_python=True)
        check_kafka(broker, rights={}, answering=answering)
        sys.exit(f"The broker on {options.bootstrap_servers} lets in Flink's client, but not this program")


def send_as_typed(topic: str, access: dict[str, Any]) -> None:
    """Send each line of stdin when it comes, with the time of now; raises KafkaError: the broker does not take one."""
    if sys.stdin.isatty():
        print("Type lines of words; Ctrl-D ends.", flush=True)
    with contextlib.closing(KafkaProducer(**access)) as producer:
        for line in sys.stdin.buffer:
            producer.send(topic, line.rstrip(b"\r\n")).get(30)


def send(lines: list[Line], topic: str, partitions: int, access: dict[str, Any], pause: float) -> None:
    """Send lines in their order, and wait until the broker has them all, with `pause` seconds between two lines.

    Raises KafkaError: the broker does not take them; exits where the topic has another number of partitions.
    """
    with contextlib.closing(KafkaProducer(**access)) as producer:
        there = len(producer.partitions_for(topic))
        if there != partitions:
            sys.exit(f"Topic {topic} is there already, partitions: {there}, not {partitions}; nothing is sent")
        sent = []
        for number, line in enumerate(lines):
            if pause and number:
                producer.flush()
                sleep(pause)
            at = int(line.time.timestamp() * 1000)
            sent.append(producer.send(topic, line.text, partition=line.partition, timestamp_ms=at))
        for future in sent:
            future.get(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=f"Send lines to a topic: what is typed, or {FORM}, from files.")
    parser.add_argument("--topic", required=True, help="created where it is missing")
    parser.add_argument("--partitions", type=int, default=1, metavar="N", help="of the topic (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=0, metavar="SECONDS", help="between two lines")
    parser.add_argument("--bootstrap-servers", default=f"localhost:{PORT}", help="Kafka (default: %(default)s)")
    parser.add_argument("--kafka-config", metavar="FILE", help="properties of a Kafka client, as a job takes them")
    where = f"lines with times of {DAY:%Y-%m-%d}, UTC; -: stdin; none: stdin as it is typed, with the time of now"
    parser.add_argument("files", nargs="*", metavar="FILE", help=where)
    options = parser.parse_args()
    if options.pause < 0:
        parser.error("argument --pause: it cannot be less than 0")
    access = access_to(options)
    lines = [line for file in options.files for line in read(file, options.partitions)]
    if options.files and not lines:
        sys.exit("There is no line to send")
    check_broker(options, access)
    try:
        create_topic(topic=options.topic, partitions=options.partitions, **access)
        if not options.files:
            return send_as_typed(options.topic, access)
        send(lines, options.topic, options.partitions, access, options.pause)
    except KafkaError as error:
        sys.exit(f"The broker on {options.bootstrap_servers} does not take the lines: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    times = sorted(line.time for line in lines)
    first, last = f"{times[0]:%H:%M:%S}", f"{times[-1]:%H:%M:%S}"
    print(f"Sent to topic {options.topic}: {len(lines)} lines, from {first} to {last} of {DAY:%Y-%m-%d} (UTC)")


if __name__ == "__main__":
    main()
