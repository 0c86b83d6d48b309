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
    run,
    split_lines,
    write_to_topic,
)

from pyflink.common import Time, Types
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingEventTimeWindows

# After so long a broker aborts a transaction by itself. A run that goes on later than this may find that what it should
# commit is gone. Flink's default, an hour, is more than brokers allow by default: transaction.max.timeout.ms.
TRANSACTION_TIMEOUT = 15 * 60 * 1000  # milliseconds


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5
    to_topic: Annotated[str, "topic to write counts to", str, "TOPIC"] = "counts"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output:
            raise ValueError("counts go to a topic, not to files: --to-topic TOPIC in place of --output")
        if self.to_topic == self.topic:
            raise ValueError(f"--to-topic {self.topic} is the topic that is read: the job would count its own counts")

    def rows_go_to(self) -> str:
        return f"kafka://{self.to_topic}"

    def transactional_ids(self) -> str:
        """What the names of this job's transactions begin with: the same in each of its runs, another in other jobs.

        With the name of a transaction goes the right to abort it. The next run does that with what a crash has left
        open.
        """
        return f"{self.topic}/{self.to_topic}/{self.group_id}"  # no topic's name has a slash


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink."""
    words = split_lines(batch_lines(read_lines(environment, options, plan), options.window))
    windows = TumblingEventTimeWindows.of(Time.seconds(options.window))
    rows = count_windows(key_by_shard(words), windows, f"count per {options.window} s window")
    write_counts(rows, options, plan)


def write_counts(rows: DataStream, options: Options, plan: Plan) -> None:
    """Write rows to the topic, a record each; many rows may come as one text."""
    records = rows.flat_map(lambda text: text.split("\n"), output_type=Types.STRING())
    records.name("one record a row").uid("split-rows")
    write_to_topic(
        records,
        plan,
        options.to_topic,
        SimpleStringSchema(),
        {"transaction.timeout.ms": str(TRANSACTION_TIMEOUT)},
        transactional_ids=options.transactional_ids(),
        name=f"write to topic {options.to_topic}",
        uid="write-to-kafka",
    )


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time, into another topic.")
    state = f"counts per window of {options.window} s in {SHARDS} shards"
    run("counts_to_kafka", build, options, state, to_topic=options.to_topic)


if __name__ == "__main__":
    main()
