"""A broker: how to reach it, and Kafka's client in Java, which asks it for the offsets of a topic and a group.

All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
"""

import contextlib
import re
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kafka_job.flink.connector import java_class, kafka_class
from kafka_job.kafka.config import Properties

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError

Address = tuple[str, int]  # host, port
Offsets = dict[int, int]  # by partition


class Refused(Exception):
    """A broker does not answer the Java client, or refuses what it asks for; the message is Kafka's."""

    def __init__(self, error: Py4JJavaError) -> None:
        self.causes: dict[str, str] = {}  # Java's exceptions by name, and what they say; each is caused by the next one
        self.kind = ""  # the name of the last one, which says most: UnknownMemberIdException
        cause = error.java_exception
        while cause:
            message = str(cause.getMessage())
            if re.search(r"JAAS config\b", message):  # it quotes what may be a part of a password
                message = re.sub("'.*'", "'...'", message, flags=re.DOTALL)
            message = message.partition("\n")[0]  # some have a stack trace in them
            self.kind = cause.getClass().getSimpleName()
            self.causes[self.kind] = message
            cause = cause.getCause()
        super().__init__(f"{self.kind}: {message}")


class Unusable(Refused):
    """The Java client cannot be made with these properties, or for these addresses."""


@dataclass(frozen=True)
class Broker:
    """How to reach a broker, or one of several."""

    bootstrap_servers: str  # HOST:PORT[,...]
    properties: Properties = field(default_factory=dict, repr=False)  # of --kafka-config, with secrets

    @property
    def protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return self.properties.get("security.protocol", "PLAINTEXT").upper()

    @contextlib.contextmanager
    def admin(self, timeout: float = 15) -> Iterator[JavaObject]:
        """Kafka's Java AdminClient, whose calls take at most `timeout` seconds; raises Unusable. See `result_of`."""
        milliseconds = str(int(timeout * 1000))
        settings = {
            "socket.connection.setup.timeout.ms": "2000",  # one of several machines may be off; by default 10 s
            "socket.connection.setup.timeout.max.ms": "2000",
            **self.properties,
            "bootstrap.servers": self.bootstrap_servers,
            "request.timeout.ms": milliseconds,  # may not be longer than the next one
            "default.api.timeout.ms": milliseconds,
        }
        try:
            admin = kafka_class("clients.admin.AdminClient").create(settings)
        except Py4JJavaError as error:
            raise Unusable(error) from None
        try:
            yield admin
        finally:
            admin.close(java_class("java.time.Duration").ZERO)


def result_of(call: JavaObject) -> Any:
    """What a call of the Java client brings, a future of Kafka's; raises Refused."""
    try:
        return call.get()
    except Py4JJavaError as error:
        raise Refused(error) from None


@dataclass(frozen=True)
class TopicOffsets:
    """What a broker says of a topic."""

    id: UUID | None  # another one if the topic was deleted and created again; Redpanda has none
    first: Offsets
    end: Offsets  # the offset that the next record will have, or where a transaction begins that is still open
    committed: Offsets  # of a group; only the partitions for which it has committed


def id_of(described: JavaObject) -> UUID | None:
    """The id of a topic, from Kafka's description of it; None where the broker has none."""
    topic_id = UUID(bytes=urlsafe_b64decode(f"{described.topicId()}=="))  # Kafka writes it so
    return topic_id if topic_id.int else None


def ask_for_offsets(broker: Broker, topic: str, group_id: str) -> TopicOffsets:
    """Ask a broker for the offsets of a topic, and of a group; exits with one sentence where that is not allowed."""
    specification, isolation = kafka_class("clients.admin.OffsetSpec"), kafka_class("common.IsolationLevel")
    as_the_source_reads = kafka_class("clients.admin.ListOffsetsOptions")(isolation.READ_COMMITTED)
    with allowed(group_id), broker.admin() as admin:
        described = result_of(admin.describeTopics([topic]).allTopicNames())[topic]
        partitions = [kafka_class("common.TopicPartition")(topic, one.partition()) for one in described.partitions()]
        earliest = admin.listOffsets(dict.fromkeys(partitions, specification.earliest())).all()
        latest = admin.listOffsets(dict.fromkeys(partitions, specification.latest()), as_the_source_reads).all()
        committed = result_of(admin.listConsumerGroupOffsets(group_id).partitionsToOffsetAndMetadata())
        return TopicOffsets(
            id=id_of(described),
            first={one.partition(): found.offset() for one, found in result_of(earliest).items()},
            end={one.partition(): found.offset() for one, found in result_of(latest).items()},
            committed={one.partition(): committed[one].offset() for one in partitions if committed.get(one)},
        )


def commit_offsets(broker: Broker, topic: str, group_id: str, offsets: Offsets) -> None:
    """Commit offsets of a topic for a group, which must have no active members.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.
    """
    partition, position = kafka_class("common.TopicPartition"), kafka_class("clients.consumer.OffsetAndMetadata")
    positions = {partition(topic, number): position(offset) for number, offset in offsets.items()}
    with broker.admin(timeout=30) as admin:  # a broker may be away for seconds
        result_of(admin.alterConsumerGroupOffsets(group_id, positions).all())


def check_group(broker: Broker, topic: str, group_id: str, found: TopicOffsets) -> None:
    """Exit with one sentence where the group's offsets cannot be committed: those that it has are committed again."""
    with allowed(group_id):
        commit_offsets(broker, topic, group_id, found.first | found.committed)


@contextlib.contextmanager
def allowed(group_id: str) -> Iterator[None]:
    """End the program with one sentence where the `with` block is not let use a group."""
    try:
        yield
    except Refused as error:
        if error.kind == "UnknownMemberIdException":
            sys.exit(f"The group {group_id} has other consumers; stop them, or choose another: --group-id GROUP_ID")
        if error.kind == "GroupAuthorizationException":
            ask = "ask for the right Read to it, or choose another: --group-id GROUP_ID"
            sys.exit(f"The broker says that this client has no right to use the group {group_id}; {ask}")
        if "FIND_COORDINATOR" in str(error):
            mend = "one that is alone needs, in its configuration: offsets.topic.replication.factor=1"
            sys.exit(f"The broker finds nobody who keeps the offsets of groups; {mend}")
        raise
