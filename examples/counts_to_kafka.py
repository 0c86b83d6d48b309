"""Write the counts to a Kafka topic, each of them exactly once.

    python examples/counts_to_kafka.py --checkpoint-dir checkpoints/         # to the topic counts, which must exist
    python examples/counts_to_kafka.py --checkpoint-dir checkpoints/ --to-topic other
    flink run --python examples/counts_to_kafka.py

A record is a row of word_count.py: start of the window (UTC), word, count, with tabs between them.

    2026-11-22T14:00:05Z    hello    3

Records are written in transactions, one for each checkpoint: when the checkpoint is complete the transaction is
committed, and its records become visible, all at once. A crash leaves a transaction that is not committed; the next run
aborts it, and writes its records again. The reader has its part, too: by default it is given what was aborted as well.
It must set

    isolation.level=read_committed
"""

import operator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    Message,
    Plan,
    ToTopic,
    aggregate,
    batch_lines,
    count_rows,
    count_values,
    message,
    read_lines,
    run,
    tumbling,
    write_messages,
)

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment


@dataclass(frozen=True, kw_only=True)
class Options(ToTopic):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5
    to_topic: Annotated[str, "topic to write counts to", str, "TOPIC"] = "counts"


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink."""
    batches = batch_lines(read_lines(environment, options, plan), options.window)
    rows = aggregate(count_values(batches), tumbling(options.window), operator.add, count_rows)
    write_counts(rows, options, plan)


def write_counts(rows: DataStream, options: Options, plan: Plan) -> None:
    """Write rows to the topic, a record each; many rows may come as one text."""
    records = rows.flat_map(to_messages, output_type=Types.PICKLED_BYTE_ARRAY())
    records.name("one record a row").uid("split-rows")
    transactional_ids = options.transactional_ids()
    write_messages(records, plan, options.to_topic, transactional_ids=transactional_ids, uid="write-to-kafka")


def to_messages(rows: str) -> list[Message]:
    return [message(row.encode()) for row in rows.split("\n")]


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time, into another topic.")
    state = f"counts per window of {options.window} s"
    run("counts_to_kafka", build, options, state, to_topics=[options.to_topic])


if __name__ == "__main__":
    main()
