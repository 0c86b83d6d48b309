"""Where a run starts to read a topic, and where it ends.

All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
"""

import argparse
import contextlib
import sys
from dataclasses import dataclass, field

from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, NoError, UnknownMemberIdError
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSourceBuilder, KafkaTopicPartition

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True)
class TopicOffsets:
    """What a broker says of a topic."""

    first: Offsets
    end: Offsets  # the offset that the next record will have, or where a transaction begins that is still open
    committed: Offsets  # of a group; only the partitions for which it has committed


@dataclass(frozen=True)
class Plan:
    """What one execution of the job reads, and with which settings."""

    topic: str
    start: Offsets  # first offset to read; a partition that is added later is read from its start
    end: Offsets | None = None  # offset to stop before; None: read on for ever
    bounded: bool = False  # whether Flink ends the job at `end`; a local run does that itself
    # Seconds until a partition without records no longer holds windows back; 0: never, as where partitions have an end.
    idle_timeout: int = 0
    settings: dict[str, str] = field(default_factory=dict)  # Flink's configuration
    after: str | None = None  # the checkpoint that it goes on from
    source_uid: str = "kafka-source"  # another one after a checkpoint, see checkpoints.go_on

    def configure(self, source: KafkaSourceBuilder) -> KafkaSourceBuilder:
        """Let a source read what the plan says, and all partitions in turn."""
        # Partitions that are added are found in so many milliseconds, by default in 5 minutes; never where all have an
        # end, since one that is added has none.
        source.set_property("partition.discovery.interval.ms", "10000" if self.end is None else "-1")
        # Partitions take turns after so many bytes. With the default, 1 MB, one of many may wait for its turn for
        # longer than --idle-timeout, no longer hold windows back, and find its windows closed.
        source.set_property("max.partition.fetch.bytes", "262144")
        # By default records of transactions that were given up are read, too.
        source.set_property("isolation.level", "read_committed")
        source.set_starting_offsets(self._initializer(self.start))
        if self.end is not None:
            set_end = source.set_bounded if self.bounded else source.set_unbounded
            set_end(self._initializer(self.end))
        return source

    def _initializer(self, offsets: Offsets) -> KafkaOffsetsInitializer:
        return KafkaOffsetsInitializer.offsets(
            {KafkaTopicPartition(self.topic, partition): offset for partition, offset in offsets.items()}
        )


def ask_for_offsets(options: argparse.Namespace) -> TopicOffsets:
    """Ask the broker for the offsets of the topic, and of the group.

    Raises:
        KafkaError: the broker does not answer.
    """
    with contextlib.closing(
        KafkaConsumer(
            bootstrap_servers=options.bootstrap_servers.split(","),
            group_id=options.group_id,
            isolation_level="read_committed",  # as the source reads
        )
    ) as consumer:
        partitions = [TopicPartition(options.topic, number) for number in consumer.partitions_for_topic(options.topic)]
        committed = {one.partition: consumer.committed(one) for one in partitions}
        return TopicOffsets(
            first={one.partition: offset for one, offset in consumer.beginning_offsets(partitions).items()},
            end={one.partition: offset for one, offset in consumer.end_offsets(partitions).items()},
            committed={partition: offset for partition, offset in committed.items() if offset is not None},
        )


def start_offsets(start: str, topic: TopicOffsets) -> Offsets:
    """Where to start without a checkpoint. `start`: committed, earliest or latest."""
    return {"committed": topic.first | topic.committed, "earliest": topic.first, "latest": topic.end}[start]


def missing_records(start: Offsets, first: Offsets) -> int:
    """How many records the topic's retention has deleted before they were read."""
    return sum(max(0, first[partition] - start[partition]) for partition in first)


def check_start(start: Offsets, topic: TopicOffsets, who: str, mend: str) -> None:
    """Exit with one sentence where more was read than there is; say so where what was not read is gone.

    Args:
        who: has read up to `start`.
        mend: what to do where the topic is another one.
    """
    for partition, offset in start.items():
        if partition not in topic.end or offset > topic.end[partition]:
            end = topic.end.get(partition, "not there any more")
            ends = f"partition {partition} is at {offset} for {who}, but its end is {end}"
            sys.exit(f"The topic was deleted and created again, or cut off ({ends}); {mend}")
    if missing := missing_records(start, topic.first):
        why = "the topic's retention has deleted them before they were read"
        print(f"{missing} records are missing: {why}", file=sys.stderr)


def make_plan(
    options: argparse.Namespace,
    settings: dict[str, str],
    topic: TopicOffsets,
    read: Offsets | None = None,
    bounded_by_flink: bool = False,
) -> Plan:
    """Start where --start says, or go on from what a checkpoint has `read`; --bounded ends at the end of now.

    Raises:
        SystemExit: where it should start, there is no topic any more.
    """
    if read is None:
        start = start_offsets(options.start, topic)
        check_start(start, topic, f"the group {options.group_id}", "say where to start: --start earliest (or latest)")
    else:
        # A partition that no one knew of was added since, so nothing of it was read.
        start = dict.fromkeys(topic.first, 0) | read
        check_start(start, topic, "the checkpoint", "choose another folder: --checkpoint-dir DIR")
    if options.bounded:
        return Plan(options.topic, start, topic.end, bounded=bounded_by_flink, settings=settings)
    return Plan(options.topic, start, idle_timeout=options.idle_timeout, settings=settings)


def commit_offsets(options: argparse.Namespace, offsets: Offsets) -> None:
    """Commit offsets for the job's group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.

    Raises:
        KafkaError: the broker does not answer, or refuses: the group has active members, or this client no right to it.
    """
    with KafkaAdminClient(
        bootstrap_servers=options.bootstrap_servers.split(","),
        reconnect_backoff_max_ms=1000,  # by default a broker that is away for seconds is asked too seldom
    ) as admin:
        answers = admin.alter_group_offsets(
            options.group_id,
            {
                TopicPartition(options.topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
            },
        )
    for error in answers.values():
        if error is not NoError:
            raise error(f"group {options.group_id}")


def check_group(options: argparse.Namespace, topic: TopicOffsets) -> None:
    """Exit with one sentence where the group's offsets cannot be committed; found out by committing what it has.

    Raises:
        SystemExit: they cannot.
    """
    try:
        commit_offsets(options, topic.first | topic.committed)
    except UnknownMemberIdError:
        sys.exit(f"The group {options.group_id} has other consumers; stop them, or choose another: --group-id GROUP_ID")
    except KafkaError as error:
        why = f"{type(error).__name__}: {error.description}"
        sys.exit(f"Offsets cannot be committed ({why}); ask for access to it, or choose another: --group-id GROUP_ID")
