"""Where results go: files, the screen, a topic."""

import sys
from collections.abc import Sequence

from kafka_job.flink.operators import rows_as_messages
from kafka_job.pipeline.source import Plan

from pyflink.common import Row, Types
from pyflink.common.serialization import Encoder
from pyflink.datastream import DataStream
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaSink

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
MESSAGE = Types.ROW([BYTES, BYTES, Types.OBJECT_ARRAY(Types.STRING()), Types.OBJECT_ARRAY(BYTES), Types.LONG()])
# After so long a broker aborts a transaction by itself. A run that goes on later than this may find that what it should
# commit is gone. Flink's default, an hour, is more than brokers allow by default: transaction.max.timeout.ms.
TRANSACTION_TIMEOUT = 15 * 60 * 1000  # milliseconds

# A plain tuple: between steps PyFlink pickles by the name of a class, and workers have classes of ours by another way.
Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int | None]


def message(
    value: bytes | None,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    timestamp: int | None = None,
) -> Message:
    """A record for `write_messages`. `timestamp`: in milliseconds; None: the end of its window; now, if it is later."""
    return value, key, list(headers), timestamp


def write_rows(rows: DataStream, folder: str | None) -> None:
    """Write rows to `folder`/DAY/counts-….tsv, or print them; see `write_rows` of word_count.py."""
    if not folder:
        rows.print().set_parallelism(1).name("print").uid("print")
        return
    sink = FileSink.for_row_format(folder, Encoder.simple_string_encoder("UTF-8"))
    sink.with_bucket_assigner(BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd", "UTC"))
    names = OutputFileConfig.builder().with_part_prefix("counts").with_part_suffix(".tsv").build()
    sink.with_output_file_config(names).with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
    rows.sink_to(sink.build()).name("write files").uid("write-files")


def write_messages(
    messages: DataStream, plan: Plan, topic: str, *, transactional_ids: str | None = None, uid: str
) -> None:
    """Write each `message` to a topic, on the broker that the job reads from.

    `transactional_ids`: what the names of transactions begin with, the same in each run, another in other jobs; each
    message is then written exactly once. None: at least once. Exits with one sentence where checkpoints are too rare.
    """
    sink = KafkaSink.builder().set_bootstrap_servers(plan.broker.bootstrap_servers)
    rows_as_messages(sink, topic)
    properties = {"max.request.size": "33554432"}  # what is larger than 1 MB is for the topic to refuse, not for us
    if transactional_ids:
        interval = messages.get_execution_environment().get_checkpoint_config().get_checkpoint_interval()
        if interval >= TRANSACTION_TIMEOUT:
            limit = f"a broker aborts a transaction that is open for {TRANSACTION_TIMEOUT // 1000} s"
            rare = f"Checkpoints every {interval // 1000} s are too rare: they commit what is written"
            sys.exit(f"{rare}, and {limit}; set execution.checkpointing.interval: 1 min")
        properties["transaction.timeout.ms"] = str(TRANSACTION_TIMEOUT)
        sink.set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE).set_transactional_id_prefix(transactional_ids)
    else:  # a checkpoint waits until the broker has all of them
        properties["compression.type"] = "gzip"  # what came compressed may be too large for its topic else
        sink.set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    for name, value in (properties | plan.broker.properties).items():
        sink.set_property(name, value)
    rows = messages.map(to_row, output_type=MESSAGE).name("messages").uid(f"{uid}-messages")
    rows.sink_to(sink.build()).name(f"write to topic {topic}").uid(uid)


def to_row(message: Message) -> Row:
    """As Messages.java takes it."""
    value, key, headers, timestamp = message
    return Row(key, value, [name for name, _ in headers], [one for _, one in headers], timestamp)
