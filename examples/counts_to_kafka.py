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
from collections.abc import Mapping
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

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.window import TimeWindow


@dataclass(frozen=True, kw_only=True)
class Options(ToTopic):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5
    to_topic: Annotated[str, "topic to write counts to", str, "TOPIC"] = "counts"


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink."""
    batches = batch_lines(read_lines(environment, options, plan), options.window)
    records = aggregate(count_values(batches), tumbling(options.window), operator.add, messages, as_text=False)
    transactional_ids = options.transactional_ids()
    write_messages(records, plan, options.to_topic, transactional_ids=transactional_ids, uid="write-to-kafka")


def messages(window: TimeWindow, counts: Mapping[str, int]) -> list[Message]:
    """The rows of word_count.py, a record each."""
    return [message(row.encode()) for row in count_rows(window, counts)]


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time, into another topic.")
    state = f"counts per window of {options.window} s"
    run("counts_to_kafka", build, options, state, to_topics=[options.to_topic])


if __name__ == "__main__":
    main()
