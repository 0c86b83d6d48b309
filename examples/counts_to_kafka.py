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

import argparse

from kafka_job import JobParser, Plan, batch_lines, positive, run, set_properties

from pyflink.common import Types
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink

from word_count import SETTINGS, SHARDS, count_words, read_lines

# After so long a broker aborts a transaction by itself. A run that goes on later than this may find that what it should
# commit is gone. Flink's default, an hour, is more than brokers allow by default: transaction.max.timeout.ms.
TRANSACTION_TIMEOUT = 15 * 60 * 1000  # milliseconds


def transactional_ids(options: argparse.Namespace) -> str:
    """What the names of this job's transactions begin with: the same in each of its runs, another in other jobs.

    With the name of a transaction goes the right to abort it. The next run does that with what a crash has left open.
    """
    return f"{options.group_id}-{options.topic}-{options.to_topic}"


def write_to_topic(rows: DataStream, options: argparse.Namespace) -> None:
    """Write rows to the topic `options.to_topic`, a record each; many rows may come as one text."""
    records = rows.flat_map(lambda text: text.split("\n"), output_type=Types.STRING())
    records.name("one record a row").uid("split-rows")
    value = KafkaRecordSerializationSchema.builder().set_topic(options.to_topic)
    builder = (
        KafkaSink.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_record_serializer(value.set_value_serialization_schema(SimpleStringSchema()).build())
        .set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .set_transactional_id_prefix(transactional_ids(options))
        .set_property("transaction.timeout.ms", str(TRANSACTION_TIMEOUT))
    )
    sink = set_properties(builder, options.kafka_config).build()
    records.sink_to(sink).name(f"write to topic {options.to_topic}").uid("write-to-kafka")


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, count, sink; the first two are those of word_count.py."""
    lines = read_lines(environment, options, plan)
    rows = count_words(batch_lines(lines, options.window), options.window)
    write_to_topic(rows, options)


def main() -> None:
    parser = JobParser("Count the words of a Kafka topic per window of event time, into another topic.")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    parser.add_argument("--to-topic", default="counts", metavar="TOPIC", help="topic to write counts to")
    options = parser.parse_args()
    if options.output:
        parser.error("counts go to a topic, not to files: --to-topic TOPIC in place of --output")
    if options.to_topic == options.topic:
        parser.error(f"--to-topic {options.to_topic} is the topic that is read: the job would count its own counts")
    options.output = f"kafka://{options.to_topic}"  # that is what checkpoints belong to; no folder is looked for
    state = f"counts per window of {options.window} s in {SHARDS} shards"
    run("counts_to_kafka", build, options, SETTINGS, state, options.to_topic)


if __name__ == "__main__":
    main()
