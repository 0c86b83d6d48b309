"""JSON records, counted per value of a field, in windows of the time that Kafka has of them.

    python examples/json_lines.py --topic pages --field page --output out/

A record is JSON, {"user": "ann", "page": "/home"}. A row has window (UTC), page and count, with tabs between them:

    2026-11-22T14:00:00Z    /home    3

Every other record goes to --rejected-topic as it came, at least once, with a header that has the reason. (Records that
have a time of their own: orders.py.)
"""

import json
import operator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    Plan,
    Record,
    WithRejected,
    aggregate,
    count_rows,
    read_records,
    run,
    tumbling,
    write_rejected,
    write_rows,
)

from pyflink.datastream import StreamExecutionEnvironment


@dataclass(frozen=True, kw_only=True)
class Options(WithRejected):
    """The flags of this job, beside those that every job has, and --rejected-topic."""

    field: Annotated[str, "the field whose values are counted"] = "page"
    window: Annotated[int, "length of the windows in seconds"] = 5


def value_of(record: bytes, field: str) -> str:
    r"""The text that a JSON object has in a field, with \t for a tab, as in JSON; raises ValueError: it has none."""
    try:
        value = json.loads(record.decode("utf-8-sig"))[field]
    except (LookupError, TypeError):
        raise ValueError(f"no JSON object with the field {field}") from None
    if not isinstance(value, str):
        raise ValueError(f"{field} is not a text")
    # A tab or a line feed would break a row. Half a character, "\ud800", is in no UTF-8: it stays as it is in JSON.
    return json.dumps(value, ensure_ascii=False)[1:-1].encode(errors="backslashreplace").decode()


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, counts, sink; and a sink for what is rejected."""
    field, windows = options.field, tumbling(options.window)

    def read(record: Record) -> tuple[int, str, int]:
        return record.timestamp, value_of(record.value, field), 1

    ones, rejected = read_records(environment, options, plan, read, operator.add, windows, with_metadata=True)
    write_rows(aggregate(ones, windows, operator.add, count_rows, things="records"), options.output)
    write_rejected(rejected, plan, options.topic_of_rejected())


def main() -> None:
    options = Options.parse("Count the JSON records of a Kafka topic per value of a field, per window of event time.")
    state = f"{options.field} per window of {options.window} s"
    run("json_lines", build, options, state, to_topics=[options.topic_of_rejected()])


if __name__ == "__main__":
    main()
