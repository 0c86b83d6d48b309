"""JSON records, counted per value of a field; what is malformed is counted, too, and goes to a topic of its own.

    python examples/json_lines.py --topic pages --field page --output out/

A record is a line of JSON, {"user": "ann", "page": "/home"}. A row has window (UTC), page and count, between tabs:

    2026-11-22T14:00:00Z    /home    3

Every other line is malformed, and goes to --malformed-topic byte for byte, at least once: after a crash, what came
since the last checkpoint is read again, and what is malformed there is sent again.
"""

import argparse
import json
from collections.abc import Iterator

from kafka_job import JobParser, Plan, batch_lines, keep_watermark, positive, report, run, set_properties

from pyflink.common import Time, Types
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import DataStream, OutputTag, ProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink
from pyflink.datastream.window import TumblingEventTimeWindows

from word_count import LATE, SETTINGS, SHARDS, MakeRows, add_counts, count_by_shard, read_lines, write_rows

MALFORMED = OutputTag("malformed", Types.PRIMITIVE_ARRAY(Types.BYTE()))  # marks lines that have no value to count


def value_of(line: bytes, field: str) -> str | None:
    r"""The text that a JSON object has in a field, with \t for a tab, as in JSON; None where the line is malformed."""
    try:
        value = json.loads(line.decode())[field]
    except (ValueError, LookupError, TypeError, RecursionError):  # the last one for [[[[[[[[..., a thousand deep
        return None
    if not isinstance(value, str):
        return None
    # A tab or a line feed would break a row. Half a character, "\ud800", is in no UTF-8: it stays as it is in JSON.
    return json.dumps(value, ensure_ascii=False)[1:-1].encode(errors="backslashreplace").decode()


class ReadValues(ProcessFunction):
    """The values of a batch of lines; malformed lines go to the side."""

    def __init__(self, field: str) -> None:
        self.field = field

    def process_element(self, lines: bytes, context: ProcessFunction.Context) -> Iterator[tuple | list[str]]:
        values = []
        for line in lines.split(b"\n")[:-1]:  # there is a line feed after each
            if (value := value_of(line, self.field)) is None:
                yield MALFORMED, line
            else:
                values.append(value)
        yield values


def count_values(values: DataStream, window: int) -> DataStream:
    """Count values per window of `window` seconds: this is how word_count.py counts words."""
    pairs = values.flat_map(count_by_shard, output_type=Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()]))
    pairs.name("count in batch").uid("count-by-shard")  # (80, {"/home": 2}), (67, {"/about": 1})
    rows = (
        keep_watermark(pairs.key_by(lambda pair: pair[0], key_type=Types.INT()))
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add_counts, MakeRows(), output_type=Types.STRING())  # "2026-11-22T14:00:00Z\t/home\t3"
        .name(f"count per {window} s window")
        .uid(f"count-in-{SHARDS}-shards")
    )
    late = rows.get_side_output(LATE).name("late").uid("late")
    late_records = late.map(lambda pair: pair[1].total(), output_type=Types.LONG()).name("number of records")
    report(late_records, "lateRecords", "Records that came after their windows had closed, not counted (--max-delay)")
    return rows


def keep_malformed(lines: DataStream, options: argparse.Namespace) -> None:
    """Send malformed lines to their topic, and report how many there are."""
    to_topic = KafkaRecordSerializationSchema.builder().set_topic(options.malformed_topic)
    builder = (
        KafkaSink.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_record_serializer(to_topic.set_value_serialization_schema(ByteArraySchema()).build())
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)  # a checkpoint waits until the broker has all of them
        .set_property("max.request.size", "33554432")  # what is larger than 1 MB is for the topic to refuse, not for us
    )
    sink = set_properties(builder, options.kafka_config).build()
    lines.sink_to(sink).name("write malformed").uid("write-malformed")
    ones = lines.map(lambda line: 1, output_type=Types.LONG()).name("number of malformed").uid("malformed-ones")
    report(ones, "malformedRecords", f"Malformed records, not counted, sent to topic {options.malformed_topic}")


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, values, count, two sinks."""
    lines = read_lines(environment, options, plan)
    values = batch_lines(lines, options.window).process(ReadValues(options.field)).name("read").uid("read-values")
    write_rows(count_values(values, options.window), options.output)
    keep_malformed(values.get_side_output(MALFORMED).name("malformed").uid("malformed"), options)


def main() -> None:
    parser = JobParser("Count the JSON records of a Kafka topic per value of a field, per window of event time.")
    parser.add_argument("--field", default="page", help="the field whose values are counted")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    parser.add_argument("--malformed-topic", metavar="TOPIC", help="where malformed records go; None: TOPIC-malformed")
    options = parser.parse_args()
    options.malformed_topic = options.malformed_topic or f"{options.topic}-malformed"
    if options.malformed_topic == options.topic:
        parser.error("--malformed-topic must be another one than --topic: the job would read what it has written")
    state = f"{options.field} per window of {options.window} s in {SHARDS} shards"
    run("json_lines", build, options, SETTINGS, state, options.malformed_topic)


if __name__ == "__main__":
    main()
