"""Records that have a time of their own, as in JSON: read by a function of the script, record by record."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from kafka_job.flink.operators import through_operator
from kafka_job.options import JobOptions
from kafka_job.pipeline.sinks import Message, message, write_messages
from kafka_job.pipeline.source import AHEAD, Plan
from kafka_job.pipeline.steps import report
from kafka_job.pipeline.windows import PART, Add, Windows, in_shards

from pyflink.common import Types
from pyflink.datastream import DataStream, OutputTag, ProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaSource

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST, LAST = -62135596800000, 253402300799999  # of the years 1 to 9999: other times cannot be written
TIMED_PART = Types.TUPLE([Types.LONG(), Types.INT(), Types.PICKLED_BYTE_ARRAY()])
REJECTED = OutputTag("rejected", Types.PICKLED_BYTE_ARRAY())
REASON = "reason"  # the header of a rejected record that says why
TOO_FAR = f"a time {AHEAD.removeprefix('whose time is ')}"


class Record(NamedTuple):
    """A record as Kafka has it."""

    value: bytes
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int
    offset: int
    timestamp: int  # milliseconds since the epoch


Read = Callable[[Any], tuple[int, Any, Any] | None]  # of a value or a Record: its time in milliseconds, a key, a value


def milliseconds(text: str) -> int:
    """An ISO time with its time zone, 2026-11-22T14:00:03.250Z, as milliseconds since the epoch.

    Raises ValueError for anything else. Where a record has numbers: round(seconds * 1000).
    """
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    if not moment.tzinfo:
        raise ValueError(f"a time without a time zone: {text}")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def read_records(
    environment: StreamExecutionEnvironment,
    options: JobOptions,
    plan: Plan,
    read: Read,
    add: Add,
    windows: Windows,
    with_metadata: bool = False,
) -> tuple[DataStream, DataStream]:
    """The topic's records by their own time, as parts for `aggregate`; and those that are rejected, as messages.

    Args:
        read: is given each record's value, as bytes; returns its time in milliseconds since the epoch, its key, and
            what is to be added up; None leaves it out. Where it raises ValueError (OverflowError, RecursionError), that
            is why the record is rejected.
        add: makes one value of two, and changes neither.
        windows: those that it is for.
        with_metadata: `read` is given a Record instead, and what is rejected keeps its key and headers.
    """
    source = KafkaSource.builder().set_bootstrap_servers(options.bootstrap_servers)
    source.set_topics(options.topic).set_group_id(options.group_id)
    batches = plan.read_records(environment, source, options.max_delay, with_metadata)
    reader = ReadRecords(read, add, windows.slice, windows.shards, options.max_ahead * 1000, with_metadata)
    timed = batches.process(reader, output_type=TIMED_PART).name("read records").uid("read-records")
    parts = through_operator(timed, "EventTime", uid="event-time", output_type=PART)
    return parts, timed.get_side_output(REJECTED).name("rejected").uid("rejected")


class ReadRecords(ProcessFunction):
    """Reads batches of records, and adds up what can be added up at once."""

    def __init__(self, read: Read, add: Add, slice: int, shards: int, max_ahead: int, with_metadata: bool) -> None:
        """`slice` and `max_ahead`: in milliseconds. See `read_records`."""
        self.read, self.add, self.with_metadata = read, add, with_metadata
        self.slice, self.shards, self.max_ahead = slice, shards, max_ahead

    def process_element(self, batch: tuple[int, list[Any]], context: ProcessFunction.Context) -> Iterator[Any]:
        """Parts as (time, shard, part), then the newest time as (time, -1 - partition, None); see EventTime.java."""
        partition, records = batch
        read, add, length = self.read, self.add, self.slice
        last = min(LAST, time.time_ns() // 1_000_000 + self.max_ahead) if self.max_ahead else LAST
        newest = FIRST
        slices: dict[int, tuple[dict[Any, Any], dict[Any, int]]] = {}  # by number: values, and of how many records
        for record in map(Record._make, records) if self.with_metadata else records:
            try:
                found = read(record)
                if found and not FIRST <= found[0] <= last:
                    raise ValueError(TOO_FAR if found[0] > last else "a time before the year 1")
            except (ValueError, OverflowError, RecursionError) as error:
                yield REJECTED, self.rejected(record, error)
                continue
            if not found:
                continue
            moment, key, value = found
            newest = max(newest, moment)
            number = moment // length
            if number not in slices:
                slices[number] = {}, {}
            values, numbers = slices[number]
            if key in values:
                values[key] = add(values[key], value)
                numbers[key] += 1
            else:
                values[key], numbers[key] = value, 1
        for number, (values, numbers) in slices.items():
            for shard, part in in_shards(values, numbers, self.shards):
                yield (number + 1) * length - 1, shard, part
        if slices:
            yield newest, -1 - partition, None

    def rejected(self, record: Any, error: Exception) -> Message:
        """The record as it came, with one header more."""
        reason = [(REASON, str(error).encode(errors="backslashreplace"))]
        if not self.with_metadata:
            return message(record, headers=reason)
        return message(record.value, record.key, record.headers + reason)


def write_rejected(rejected: DataStream, plan: Plan, topic: str) -> None:
    """Send rejected records to a topic, at least once, and report how many there are.

    After a crash, what came since the last checkpoint is read again, and what is rejected there is sent again.
    """
    write_messages(rejected, plan, topic, uid="write-rejected")
    ones = rejected.map(lambda message: 1, output_type=Types.LONG()).name("number of rejected").uid("rejected-ones")
    report(ones, "rejectedRecords", f"Rejected records, not counted, sent to topic {topic}")
    ahead = rejected.map(is_ahead, output_type=Types.LONG()).name("number of those ahead").uid("rejected-ahead")
    report(ahead, "tooFarAhead", f"Rejected records {AHEAD}", at_once=True)


def is_ahead(rejected: Message) -> int:
    """1 for a record that was rejected since its time is too far ahead, else 0."""
    return int(rejected[2][-1] == (REASON, TOO_FAR.encode()))
