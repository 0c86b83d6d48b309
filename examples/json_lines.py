"""JSON records, counted per value of a field; what is malformed is counted, too, and goes to a topic of its own.

    python examples/json_lines.py --topic pages --field page --output out/

A record is a line of JSON, {"user": "ann", "page": "/home"}. A row has window (UTC), page and count, between tabs:

    2026-11-22T14:00:00Z    /home    3

Every other line is malformed, and goes to --malformed-topic byte for byte, at least once: after a crash, what came
since the last checkpoint is read again, and what is malformed there is sent again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    SHARDS,
    JobOptions,
    Plan,
    batch_lines,
    count_windows,
    key_by_shard,
    read_lines,
    report,
    run,
    write_rows,
    write_to_topic,
)

from pyflink.common import Time, Types
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import DataStream, OutputTag, ProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingEventTimeWindows

MALFORMED = OutputTag("malformed", Types.PRIMITIVE_ARRAY(Types.BYTE()))  # marks lines that have no value to count


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    field: Annotated[str, "the field whose values are counted"] = "page"
    window: Annotated[int, "length of the windows in seconds"] = 5
    malformed_topic: Annotated[str | None, "where malformed records go; None: TOPIC-malformed", str, "TOPIC"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.malformed_topic == self.topic:
            raise ValueError(
                "--malformed-topic must be another one than --topic: the job would read what it has written"
            )

    def topic_of_malformed(self) -> str:
        return self.malformed_topic or f"{self.topic}-malformed"


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
    windows = TumblingEventTimeWindows.of(Time.seconds(window))
    return count_windows(key_by_shard(values), windows, f"count per {window} s window", things="records")


def keep_malformed(lines: DataStream, options: Options, plan: Plan) -> None:
    """Send malformed lines to their topic, and report how many there are."""
    topic = options.topic_of_malformed()
    # What is larger than 1 MB is for the topic to refuse, not for us.
    properties = {"max.request.size": "33554432"}
    write_to_topic(lines, plan, topic, ByteArraySchema(), properties, name="write malformed", uid="write-malformed")
    ones = lines.map(lambda line: 1, output_type=Types.LONG()).name("number of malformed").uid("malformed-ones")
    report(ones, "malformedRecords", f"Malformed records, not counted, sent to topic {topic}")


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, values, count, two sinks."""
    lines = read_lines(environment, options, plan)
    values = batch_lines(lines, options.window).process(ReadValues(options.field)).name("read").uid("read-values")
    write_rows(count_values(values, options.window), options.output)
    keep_malformed(values.get_side_output(MALFORMED).name("malformed").uid("malformed"), options, plan)


def main() -> None:
    options = Options.parse("Count the JSON records of a Kafka topic per value of a field, per window of event time.")
    state = f"{options.field} per window of {options.window} s in {SHARDS} shards"
    run("json_lines", build, options, state, to_topic=options.topic_of_malformed())


if __name__ == "__main__":
    main()
