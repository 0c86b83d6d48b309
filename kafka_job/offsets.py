"""Where a run starts to read a topic, and where it ends.

All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from kafka_job.clients import Refused, java_admin, shaded
from kafka_job.kafka_config import Properties, set_properties

from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSourceBuilder, KafkaTopicPartition

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True)
class TopicOffsets:
    """What a broker says of a topic."""

    id: UUID | None  # another one if the topic was deleted and created again; Redpanda has none
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
    kafka_config: Properties = field(default_factory=dict, repr=False)  # with secrets
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
        if "client.id" in self.kafka_config:  # Flink's clients need names of their own, which begin with this one
            source.set_property("client.id.prefix", self.kafka_config["client.id"])
        set_properties(source, self.kafka_config)
        source.set_starting_offsets(self._initializer(self.start))
        if self.end is not None:
            # Both stop before `end`. With set_unbounded Flink goes on after that, until the job is stopped.
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
        Refused: the broker does not answer, or refuses.
        SystemExit: it does not let this client use the group.
    """
    specification, isolation = shaded("clients.admin.OffsetSpec"), shaded("common.IsolationLevel")
    as_the_source_reads = shaded("clients.admin.ListOffsetsOptions")(isolation.READ_COMMITTED)
    with one_sentence_for(options.group_id), java_admin(options, timeout=15) as admin:
        described = admin.describeTopics([options.topic]).allTopicNames().get()[options.topic]
        partitions = [shaded("common.TopicPartition")(options.topic, one.partition()) for one in described.partitions()]
        earliest = admin.listOffsets(dict.fromkeys(partitions, specification.earliest())).all()
        latest = admin.listOffsets(dict.fromkeys(partitions, specification.latest()), as_the_source_reads).all()
        committed = admin.listConsumerGroupOffsets(options.group_id).partitionsToOffsetAndMetadata().get()
        number = described.topicId()
        bits = (number.getMostSignificantBits() % 2**64 << 64) + number.getLeastSignificantBits() % 2**64
        return TopicOffsets(
            id=UUID(int=bits) if bits else None,
            first={one.partition(): found.offset() for one, found in earliest.get().items()},
            end={one.partition(): found.offset() for one, found in latest.get().items()},
            committed={one.partition(): committed[one].offset() for one in partitions if committed.get(one)},
        )


def start_offsets(start: str, topic: TopicOffsets) -> Offsets:
    """Where to start without a checkpoint. `start`: committed, earliest or latest."""
    return {"committed": topic.first | topic.committed, "earliest": topic.first, "latest": topic.end}[start]


def missing_records(start: Offsets, first: Offsets) -> int:
    """How many records the topic's retention has deleted before they were read."""
    return sum(max(0, first[partition] - start[partition]) for partition in first)


def check_start(start: Offsets, topic: TopicOffsets, who: str, mend: str) -> None:
    """Exit with one sentence where `start` is behind the topic's end; say how many records are gone before it.

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
        anew = "choose another folder: --checkpoint-dir DIR (after -s: leave it out)"
        check_start(start, topic, "the checkpoint", anew)
    plan = Plan(options.topic, start, settings=settings, kafka_config=options.kafka_config)
    if options.bounded:
        return replace(plan, end=topic.end, bounded=bounded_by_flink)
    return replace(plan, idle_timeout=options.idle_timeout)


def commit_offsets(options: argparse.Namespace, offsets: Offsets) -> None:
    """Commit offsets for the job's group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.

    Raises:
        Refused: the broker does not answer, or refuses: the group has active members, or this client no right to it.
    """
    partition, position = shaded("common.TopicPartition"), shaded("clients.consumer.OffsetAndMetadata")
    positions = {partition(options.topic, number): position(offset) for number, offset in offsets.items()}
    with java_admin(options, timeout=30) as admin:  # a broker may be away for seconds
        admin.alterConsumerGroupOffsets(options.group_id, positions).all().get()


def check_group(options: argparse.Namespace, topic: TopicOffsets) -> None:
    """Exit with one sentence where the group's offsets cannot be committed.

    This is found out by committing those that it has; for a partition without any, the topic's first one.

    Raises:
        SystemExit: they cannot.
    """
    with one_sentence_for(options.group_id):
        commit_offsets(options, topic.first | topic.committed)


@contextlib.contextmanager
def one_sentence_for(group: str) -> Iterator[None]:
    """End the program with one sentence where the `with` block is not let use a group."""
    try:
        yield
    except Refused as error:
        if error.kind == "UnknownMemberIdException":
            sys.exit(f"The group {group} has other consumers; stop them, or choose another: --group-id GROUP_ID")
        if error.kind == "GroupAuthorizationException":
            ask = "ask for the right Read to it, or choose another: --group-id GROUP_ID"
            sys.exit(f"The broker says that this client has no right to use the group {group}; {ask}")
        raise
