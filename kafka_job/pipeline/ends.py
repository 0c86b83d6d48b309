"""The two ends of a pipeline: the topic that a run reads, from where and up to where; and where rows of text go."""

import time
from dataclasses import dataclass

from kafka_job.flink.connector import without_gaps
from kafka_job.flink.operators import raw_values
from kafka_job.kafka.broker import Broker, Offsets
from kafka_job.kafka.config import set_properties
from kafka_job.options import JobOptions

from pyflink.common import Duration, WatermarkStrategy
from pyflink.common.serialization import Encoder, SerializationSchema
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors import kafka
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy

SOURCE_UID = "kafka-source"


@dataclass(frozen=True)
class Plan:
    """What one run of the job reads."""

    broker: Broker
    topic: str
    start: Offsets  # first offset to read; a partition that is added later is read from its start
    end: Offsets | None = None  # offset to stop before; None: read on for ever
    bounded: bool = False  # whether Flink ends the job at `end`; a local run does that itself
    # Seconds until a partition without records no longer holds windows back; 0: never, as where partitions have an end.
    idle_timeout: int = 0
    source_uid: str = SOURCE_UID  # its name in checkpoints; another one after a checkpoint, see resume/plans.py

    def read(
        self, environment: StreamExecutionEnvironment, source: kafka.KafkaSourceBuilder, watermarks: WatermarkStrategy
    ) -> DataStream:
        """The records' values, as rows of one field, line: bytes, or null for a null value (a tombstone).

        `source`: with brokers, topic and group; the rest comes from the plan. `watermarks`: those of one partition.
        """
        self._configure(source)
        if self.idle_timeout:
            watermarks = watermarks.with_idleness(Duration.of_seconds(self.idle_timeout))
        lines = environment.from_source(without_gaps(source.build()), watermarks, f"Kafka topic {self.topic}")
        return lines.uid(self.source_uid)

    def _configure(self, source: kafka.KafkaSourceBuilder) -> None:
        # Partitions that are added are found in so many milliseconds, by default in 5 minutes; never where all have an
        # end, since one that is added has none.
        source.set_property("partition.discovery.interval.ms", "10000" if self.end is None else "-1")
        # Partitions take turns after so many bytes. With the default, 1 MB, one of many may wait for its turn for
        # longer than --idle-timeout, no longer hold windows back, and find its windows closed.
        source.set_property("max.partition.fetch.bytes", "262144")
        # By default records of transactions that were given up are read, too.
        source.set_property("isolation.level", "read_committed")
        if "client.id" in self.broker.properties:  # Flink's clients need names of their own, which begin with this one
            source.set_property("client.id.prefix", self.broker.properties["client.id"])
        set_properties(source, self.broker.properties)
        source.set_value_only_deserializer(raw_values("line"))
        source.set_starting_offsets(self._initializer(self.start))
        if self.end is not None:
            # Both stop before `end`. With set_unbounded Flink goes on after that, until the job is stopped.
            set_end = source.set_bounded if self.bounded else source.set_unbounded
            set_end(self._initializer(self.end))

    def _initializer(self, offsets: Offsets) -> kafka.KafkaOffsetsInitializer:
        by_partition = {kafka.KafkaTopicPartition(self.topic, number): offset for number, offset in offsets.items()}
        return kafka.KafkaOffsetsInitializer.offsets(by_partition)


def read_lines(environment: StreamExecutionEnvironment, options: JobOptions, plan: Plan) -> DataStream:
    """The topic's lines, as `Plan.read` has them; see `read_lines` of word_count.py."""
    source = kafka.KafkaSource.builder().set_bootstrap_servers(options.bootstrap_servers)
    source.set_topics(options.topic).set_group_id(options.group_id)
    watermarks = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(options.max_delay))
    return plan.read(environment, source, watermarks)


def utc(milliseconds: int) -> str:
    """A time since the epoch as text: 2026-11-22T14:00:05Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds // 1000))


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
    """Write each value as a record to a topic, on the broker that the job reads from. `properties`: of the producer.

    `transactional_ids`: what the names of transactions begin with, the same in each run, another in other jobs; each
    value is then written exactly once. None: at least once.
    """
    record = kafka.KafkaRecordSerializationSchema.builder().set_topic(topic).set_value_serialization_schema(schema)
    sink = kafka.KafkaSink.builder().set_bootstrap_servers(plan.broker.bootstrap_servers)
    sink.set_record_serializer(record.build())
    if transactional_ids:
        sink.set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE).set_transactional_id_prefix(transactional_ids)
    else:  # a checkpoint waits until the broker has all of them
        sink.set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    set_properties(sink, properties | plan.broker.properties)
    values.sink_to(sink.build()).name(name).uid(uid)
