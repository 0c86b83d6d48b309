"""The topic that a run reads, from where and up to where."""

from dataclasses import dataclass

from kafka_job.flink.connector import without_gaps
from kafka_job.flink.operators import max_ahead, raw_values, side_output, through_operator
from kafka_job.kafka.broker import Broker, Offsets
from kafka_job.options import JobOptions
from kafka_job.pipeline.steps import report

from pyflink.common import Duration, WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors import kafka

SOURCE_UID = "kafka-source"
AHEAD = "whose time is further ahead than --max-ahead"


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
    max_ahead: int = 0  # seconds that a record's time may be ahead of the wall clock; 0: any number
    source_uid: str = SOURCE_UID  # its name in checkpoints; another one after a checkpoint, see resume/plans.py

    def read(
        self, environment: StreamExecutionEnvironment, source: kafka.KafkaSourceBuilder, watermarks: WatermarkStrategy
    ) -> DataStream:
        """The records' values, as rows of one field, line: bytes, or null for a null value (a tombstone).

        `source`: with brokers, topic and group; the rest comes from the plan. `watermarks`: those of one partition.
        """
        source.set_value_only_deserializer(raw_values("line"))
        # A partition with nothing but records that are too far ahead is idle, too; else it would hold all windows back.
        guarded = max_ahead(watermarks, self.max_ahead, self.idle_timeout)
        lines = self.stream(environment, source, guarded)
        kept = through_operator(lines, "MaxAhead$Filter", guarded, uid="leave-out-too-far-ahead")
        report(side_output(kept, "tooFarAhead"), "tooFarAhead", f"Records {AHEAD}, not counted", at_once=True)
        return kept

    def stream(
        self, environment: StreamExecutionEnvironment, source: kafka.KafkaSourceBuilder, watermarks: WatermarkStrategy
    ) -> DataStream:
        """What `source` gives, with brokers, topic, group and deserializer; the rest comes from the plan."""
        self._configure(source)
        stream = environment.from_source(without_gaps(source.build()), watermarks, f"Kafka topic {self.topic}")
        return stream.uid(self.source_uid)

    def _configure(self, source: kafka.KafkaSourceBuilder) -> None:
        # Partitions that are added are found in so many milliseconds, by default in 5 minutes; never where all have an
        # end, since one that is added has none.
        source.set_property("partition.discovery.interval.ms", "10000" if self.end is None else "-1")
        # Partitions take turns after so many bytes. With the default, 1 MB, one of many may wait for its turn for
        # longer than --idle-timeout, no longer hold windows back, and find its windows closed.
        source.set_property("max.partition.fetch.bytes", "262144")
        # By default records of transactions that were given up are read, too.
        source.set_property("isolation.level", "read_committed")
        # By default a client of Kafka 4 begins anew when the broker is away for five minutes. The one that finds
        # partitions does so without a pause, and writes to the log each time: more than a gigabyte an hour.
        source.set_property("metadata.recovery.strategy", "none")
        if "client.id" in self.broker.properties:  # Flink's clients need names of their own, which begin with this one
            source.set_property("client.id.prefix", self.broker.properties["client.id"])
        source.set_properties(self.broker.properties)
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
