"""Where a run starts to read a topic, and where it ends.

All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from kafka_job.flink.connector import kafka_class
from kafka_job.kafka.broker import Broker, Refused

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True)
class TopicOffsets:
    """What a broker says of a topic."""

    id: UUID | None  # another one if the topic was deleted and created again; Redpanda has none
    first: Offsets
    end: Offsets  # the offset that the next record will have, or where a transaction begins that is still open
    committed: Offsets  # of a group; only the partitions for which it has committed


def ask_for_offsets(broker: Broker, topic: str, group_id: str) -> TopicOffsets:
    """Ask the broker for the offsets of the topic, and of the group.

    Raises:
        Refused: the broker does not answer, or refuses.
        SystemExit: it does not let this client use the group.
    """
    specification, isolation = kafka_class("clients.admin.OffsetSpec"), kafka_class("common.IsolationLevel")
    as_the_source_reads = kafka_class("clients.admin.ListOffsetsOptions")(isolation.READ_COMMITTED)
    with one_sentence_for(group_id), broker.admin(15) as admin:
        described = admin.describeTopics([topic]).allTopicNames().get()[topic]
        partitions = [kafka_class("common.TopicPartition")(topic, one.partition()) for one in described.partitions()]
        earliest = admin.listOffsets(dict.fromkeys(partitions, specification.earliest())).all()
        latest = admin.listOffsets(dict.fromkeys(partitions, specification.latest()), as_the_source_reads).all()
        committed = admin.listConsumerGroupOffsets(group_id).partitionsToOffsetAndMetadata().get()
        number = described.topicId()
        bits = (number.getMostSignificantBits() % 2**64 << 64) + number.getLeastSignificantBits() % 2**64
        return TopicOffsets(
            id=UUID(int=bits) if bits else None,
            first={one.partition(): found.offset() for one, found in earliest.get().items()},
            end={one.partition(): found.offset() for one, found in latest.get().items()},
            committed={one.partition(): committed[one].offset() for one in partitions if committed.get(one)},
        )


def commit_offsets(broker: Broker, group_id: str, topic: str, offsets: Offsets) -> None:
    """Commit offsets for the job's group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.

    Raises:
        Refused: the broker does not answer, or refuses: the group has active members, or this client no right to it.
    """
    partition, position = kafka_class("common.TopicPartition"), kafka_class("clients.consumer.OffsetAndMetadata")
    positions = {partition(topic, number): position(offset) for number, offset in offsets.items()}
    with broker.admin(30) as admin:  # a broker may be away for seconds
        admin.alterConsumerGroupOffsets(group_id, positions).all().get()


def check_group(broker: Broker, group_id: str, topic: str, found: TopicOffsets) -> None:
    """Exit with one sentence where the group's offsets cannot be committed.

    This is found out by committing those that it has; for a partition without any, the topic's first one.

    Raises:
        SystemExit: they cannot.
    """
    with one_sentence_for(group_id):
        commit_offsets(broker, group_id, topic, found.first | found.committed)


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
