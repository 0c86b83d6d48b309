"""Records that have a time of their own, as in JSON: read by a function of the script, record by record."""

import codecs
import operator
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from kafka_job.flink.operators import keyed_by_first_field, pickled_records, through_operator, watermarks_of_times_read
from kafka_job.options import JobOptions
from kafka_job.pipeline.parts import PART, Add, in_shards
from kafka_job.pipeline.sessions import Joined
from kafka_job.pipeline.sinks import Message, message, write_messages
from kafka_job.pipeline.source import AHEAD, Plan
from kafka_job.pipeline.steps import report, report_nulls
from kafka_job.pipeline.windows import Windows

from pyflink.common import Row, Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaSource

MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST, LAST = -62135596800000, 253402300799999  # of the years 1 to 9999: other times cannot be written
REJECTED = OutputTag("rejected", Types.PICKLED_BYTE_ARRAY())
REASON = "reason"  # the header of a rejected record that says why
Piece = tuple[bytes, bytes]  # values, and all else of them, pickled; see BatchRecords.java
TOO_FAR = "a time further ahead than --max-ahead"


class Record(NamedTuple):
    """A record as Kafka has it."""

    value: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int
    offset: int
    timestamp: int  # milliseconds since the epoch


Read = Callable[[Any], tuple[int, Any, Any] | None]  # of a value or a Record: its time in milliseconds, a key, a value


class JsonFields:
    """Reads JSON objects with these fields, JsonFields(name=str, at=datetime), as objects with these attributes.

    Raises msgspec.ValidationError, a ValueError, for anything else. It travels to workers, as msgspec's types do not.
    """

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.decode: Callable[[bytes], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"fields": self.fields, "decode": None}

    def __call__(self, value: bytes) -> Any:
        if not self.decode:
            import msgspec  # only here: few need it

            self.decode = msgspec.json.Decoder(msgspec.defstruct("Fields", [*self.fields.items()], gc=False)).decode
        return self.decode(value.removeprefix(codecs.BOM_UTF8))


def milliseconds(moment: datetime) -> int:
    """A time as milliseconds since the epoch; raises ValueError where it does not say its time zone."""
    if not moment.tzinfo:
        raise ValueError(f"a time without a time zone: {moment}")
    return (moment - EPOCH) // MILLISECOND


def read_records(
    environment: StreamExecutionEnvironment,
    options: JobOptions,
    plan: Plan,
    read: Read,
    add: Add,
    windows: Windows,
    with_metadata: bool = False,
) -> tuple[KeyedStream, DataStream]:
    """The topic's records by their own time, as parts for `aggregate`; and those that are rejected, as messages.

    Args:
        read: is given each record's value, as bytes; returns its time in milliseconds since the epoch, its key, and
            what is to be added up; None leaves it out. Where it raises ValueError (OverflowError, RecursionError), that
            is why the record is rejected.
        add: makes one value of two, and changes neither.
        windows: those that it is for.
        with_metadata: `read` is given a Record instead, which costs some time.
    """
    source = KafkaSource.builder().set_bootstrap_servers(options.bootstrap_servers)
    source.set_topics(options.topic).set_group_id(options.group_id)
    pickled_records(source)
    records = plan.stream(environment, source, watermarks_of_times_read(options.max_delay, plan.idle_timeout))
    batch = Types.PICKLED_BYTE_ARRAY()
    batches = through_operator(records, "BatchRecords", uid="batch-records", output_type=batch)
    report_nulls(batches)
    reader = ReadRecords(read, add, windows, options.max_ahead, with_metadata)
    key = Types.INT()
    parts = batches.process(reader, output_type=Types.ROW([key, PART])).name("read records").uid("read-records")
    timed = through_operator(parts, "EventTime", uid="event-time")
    keyed = keyed_by_first_field(timed, key, PART)
    keyed.cut = windows.cut
    return keyed, parts.get_side_output(REJECTED).name("rejected").uid("rejected")


class ReadRecords(ProcessFunction):
    """Reads batches of records, and adds up what can be added up at once."""

    def __init__(self, read: Read, add: Add, windows: Windows, max_ahead: int, with_metadata: bool) -> None:
        """See `read_records`; `max_ahead`: in seconds."""
        self.read, self.max_ahead, self.with_metadata = read, max_ahead * 1000, with_metadata
        self.slice, self.shards, self.gap = windows.cut
        self.add = Joined(add, self.gap) if self.gap else add

    def process_element(self, batch: tuple[int, list[Piece]], context: ProcessFunction.Context) -> Iterator[Any]:
        """Rows of a key and a part; the last one has the newest time of the partition, see EventTime.java."""
        partition, pieces = batch
        last = min(LAST, time.time_ns() // 1_000_000 + self.max_ahead) if self.max_ahead else LAST
        read, add, length = self.read, self.add, self.slice
        newest = FIRST
        # By number: values, and of how many records.
        slices: dict[int, tuple[dict[Any, Any], dict[Any, int]]] = defaultdict(lambda: ({}, {}))
        for piece in pieces:
            whole = records_of(piece, partition) if self.with_metadata else None
            for place, record in enumerate(whole or pickle.loads(piece[0])):
                try:
                    found = read(record)
                    if not found:
                        continue
                    moment, key, value = found
                    moment = operator.index(moment)  # no float, which Java would not take
                    if not FIRST <= moment <= last:
                        raise ValueError(TOO_FAR if moment > last else "a time before the year 1")
                except (ValueError, OverflowError, RecursionError) as error:
                    whole = whole or records_of(piece, partition)  # once for all that is rejected of a piece
                    yield REJECTED, rejected(whole[place], error)
                    continue
                if moment > newest:
                    newest = moment
                if self.gap:
                    value = [(moment, moment, 1, value)]
                sums, numbers = slices[moment // length]
                if key in sums:
                    sums[key] = add(sums[key], value)
                    numbers[key] += 1
                else:
                    sums[key], numbers[key] = value, 1
        for number, (sums, numbers) in slices.items():
            for part in in_shards(sums, numbers, self.shards, (number + 1) * length - 1):
                yield Row(part[0], part)
        if slices:
            yield Row(0, (-1 - partition, None, newest))


def records_of(piece: Piece, partition: int) -> list[Record]:
    """All that there is of the records of a piece."""
    return [
        Record(value, key, headers, partition, offset, timestamp)
        for value, (key, headers, offset, timestamp) in zip(*map(pickle.loads, piece), strict=True)
    ]


def rejected(record: Record, error: Exception) -> Message:
    """The record as it came, with one header more."""
    reason = str(error)[:1000].encode(errors="backslashreplace")  # some quote all of the value
    return message(record.value, record.key, [*record.headers, (REASON, reason)], record.timestamp)


def write_rejected(records: DataStream, plan: Plan, topic: str) -> None:
    """Send rejected records to a topic, at least once, and report how many there are.

    After a crash, what came since the last checkpoint is read again, and what is rejected there is sent again.
    """
    write_messages(records, plan, topic, uid="write-rejected")
    ones = records.map(lambda message: 1, output_type=Types.LONG()).name("number of rejected").uid("rejected-ones")
    report(ones, "rejectedRecords", f"Rejected records, not counted, sent to topic {topic}")
    ahead = records.map(is_ahead, output_type=Types.LONG()).name("number of those ahead").uid("rejected-ahead")
    report(ahead, "tooFarAhead", f"Rejected records {AHEAD}", at_once=True)


def is_ahead(one: Message) -> int:
    """1 for a record that was rejected since its time is too far ahead, else 0."""
    return int(one[2][-1] == (REASON, TOO_FAR.encode()))
