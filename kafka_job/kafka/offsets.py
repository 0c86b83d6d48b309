"""The offsets of a topic and of a group: ask for them, and commit them; all raise Refused where the broker does so.

All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
"""

import contextlib
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from kafka_job.flink.connector import kafka_class
from kafka_job.kafka.broker import Broker, Refused, result_of

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True)
class TopicOffsets:
    """What a broker says of a topic."""

    id: UUID | None  # another one if the topic was deleted and created again; Redpanda has none
    first: Offsets
    end: Offsets  # the offset that the next record will have, or where a transaction begins that is still open
    committed: Offsets  # of a group; only the partitions for which it has committed


def ask_for_offsets(broker: Broker, topic: str, group_id: str) -> TopicOffsets:
    """Ask a broker for the offsets of a topic, and of a group; exits with one sentence where that is not allowed."""
    specification, isolation = kafka_class("clients.admin.OffsetSpec"), kafka_class("common.IsolationLevel")
    as_the_source_reads = kafka_class("clients.admin.ListOffsetsOptions")(isolation.READ_COMMITTED)
    with one_sentence_for(group_id), broker.admin() as admin:
        described = result_of(admin.describeTopics([topic]).allTopicNames())[topic]
        partitions = [kafka_class("common.TopicPartition")(topic, one.partition()) for one in described.partitions()]
        earliest = admin.listOffsets(dict.fromkeys(partitions, specification.earliest())).all()
        latest = admin.listOffsets(dict.fromkeys(partitions, specification.latest()), as_the_source_reads).all()
        committed = result_of(admin.listConsumerGroupOffsets(group_id).partitionsToOffsetAndMetadata())
        topic_id = UUID(bytes=urlsafe_b64decode(f"{described.topicId()}=="))  # Kafka writes it so
        return TopicOffsets(
            id=topic_id if topic_id.int else None,
            first={one.partition(): found.offset() for one, found in result_of(earliest).items()},
            end={one.partition(): found.offset() for one, found in result_of(latest).items()},
            committed={one.partition(): committed[one].offset() for one in partitions if committed.get(one)},
        )


def commit_offsets(broker: Broker, topic: str, group_id: str, offsets: Offsets) -> None:
    """Commit offsets of a topic for a group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.
    A broker refuses it where the group has active members, or this client no right to it.
    """
    partition, position = kafka_class("common.TopicPartition"), kafka_class("clients.consumer.OffsetAndMetadata")
    positions = {partition(topic, number): position(offset) for number, offset in offsets.items()}
    with broker.admin(timeout=30) as admin:  # a broker may be away for seconds
        result_of(admin.alterConsumerGroupOffsets(group_id, positions).all())


def check_group(broker: Broker, topic: str, group_id: str, found: TopicOffsets) -> None:
    """Exit with one sentence where the group's offsets cannot be committed.

    This is found out by committing those that it has; for a partition without any, the topic's first one.
    """
    with one_sentence_for(group_id):
        commit_offsets(broker, topic, group_id, found.first | found.committed)


@contextlib.contextmanager
def one_sentence_for(group_id: str) -> Iterator[None]:
    """End the program with one sentence where the `with` block is not let use a group."""
    try:
        yield
    except Refused as error:
        if error.kind == "UnknownMemberIdException":
            sys.exit(f"The group {group_id} has other consumers; stop them, or choose another: --group-id GROUP_ID")
        if error.kind == "GroupAuthorizationException":
            ask = "ask for the right Read to it, or choose another: --group-id GROUP_ID"
            sys.exit(f"The broker says that this client has no right to use the group {group_id}; {ask}")
        raise
