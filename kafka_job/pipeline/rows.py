"""Where rows of text go: files, the screen, or a topic."""

import time

from kafka_job.kafka.config import set_properties
from kafka_job.pipeline.source import Plan

from pyflink.common.serialization import Encoder, SerializationSchema
from pyflink.datastream import DataStream
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink


def utc(milliseconds: int) -> str:
    """A time since the epoch as text: 2026-11-22T14:00:05Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds // 1000))


def write_rows(rows: DataStream, folder: str | None) -> None:
    """Write rows to `folder`/DAY/counts-….tsv, or print them; see `write_rows` of word_count.py."""
    if not folder:
        rows.print().set_parallelism(1).name("print").uid("print")
        return
    files = OutputFileConfig.builder().with_part_prefix("counts").with_part_suffix(".tsv").build()
    sink = (
        FileSink.for_row_format(folder, Encoder.simple_string_encoder("UTF-8"))
        .with_bucket_assigner(BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd", "UTC"))
        .with_output_file_config(files)
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    rows.sink_to(sink).name("write files").uid("write-files")


def write_to_topic(
    values: DataStream,
    plan: Plan,
    topic: str,
    schema: SerializationSchema,
    properties: dict[str, str],
    *,
    transactional_ids: str | None = None,
    name: str,
    uid: str,
) -> None:
    """Write each value as a record to a topic, on the broker that the job reads from.

    Args:
        properties: of Kafka's producer.
        transactional_ids: what the names of this job's transactions begin with, the same in each of its runs, another
            in other jobs; each value is then written exactly once. None: at least once.
    """
    to_topic = KafkaRecordSerializationSchema.builder().set_topic(topic).set_value_serialization_schema(schema).build()
    builder = KafkaSink.builder().set_bootstrap_servers(plan.broker.bootstrap_servers).set_record_serializer(to_topic)
    if transactional_ids:
        builder.set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE).set_transactional_id_prefix(transactional_ids)
    else:  # a checkpoint waits until the broker has all of them
        builder.set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    sink = set_properties(builder, properties | plan.broker.properties).build()
    values.sink_to(sink).name(name).uid(uid)
