"""What is in a checkpoint or savepoint: how far its Kafka sources have read, and whose state it has.

Leans on: Flink's own reader of the file _metadata, and the file's head; the connector's serializers of its state.
"""

import contextlib
import struct
from dataclasses import dataclass
from pathlib import Path

from kafka_job.flink.connector import CONNECTOR, java_class

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError

METADATA = "_metadata"  # Flink writes this file last, and at once: where it is, a checkpoint is complete
SAVEPOINTS = f"savepoint-*/{METADATA}"  # the complete ones in a folder


class Unreadable(Exception):
    """A checkpoint that is damaged, or not there any more; the message says why."""


def number_of(metadata: Path) -> int:
    """The number of a checkpoint; a run that goes on from one counts on. A file's time may change when it is copied.

    Flink's file begins with a magic number, its format's version, and that number; raises Unreadable where it does not.
    """
    with metadata.open("rb") as file:
        head = file.read(16)
    if len(head) < 16 or head[:4] != bytes.fromhex("4960672d"):
        raise Unreadable("its file _metadata is not one of Flink's")
    return struct.unpack(">iiq", head)[2]


@dataclass(frozen=True)
class Split:
    """A partition as a source has noted it."""

    topic: str
    partition: int
    offset: int  # of the record that comes next; below 0: nothing was read
    has_end: bool


class Operator:
    """The state of an operator in a checkpoint."""

    def __init__(self, state: JavaObject) -> None:
        self._state = state  # Flink's OperatorState
        self.id = str(state.getOperatorID())
        self.uid = state.getOperatorUid().orElse("") or ""
        self.name = state.getOperatorName().orElse("") or "without a name"
        self.has_state = state.getStateSize() > 0
        self.has_ended = any(subtask.isFinished() for subtask in state.getStates().toArray())

    def splits(self) -> list[Split]:
        """The partitions of a Kafka source; raises Unreadable. Where one comes twice, the later one is newer."""
        try:
            return [*self._splits_of_coordinator(), *self._splits_of_readers()]
        except Py4JJavaError as error:
            raise Unreadable(str(error.java_exception)) from None

    def _splits_of_coordinator(self) -> list[Split]:
        """All partitions that were found; one that was given to a reader with its end, or its start if it has none."""
        coordinator = self._state.getCoordinatorState()
        if coordinator is None:
            raise Unreadable("its source had ended")
        data = bytes(coordinator.getData())
        version, version_of_kafka, length = struct.unpack(">iii", data[:12])  # as SourceCoordinator writes them
        if version != 1:
            raise Unreadable(f"version {version} of the state of a source's coordinator")
        serializer = java_class(f"{CONNECTOR}.enumerator.KafkaSourceEnumStateSerializer")()
        found = serializer.deserialize(version_of_kafka, data[12 : 12 + length])
        given = [split_of(split, at_end=True) for split in found.assignedSplits().toArray()]
        return given + [split_of(split) for split in found.unassignedSplits().toArray()]

    def _splits_of_readers(self) -> list[Split]:
        """The partitions that the readers of the source have not read to their end."""
        serializer = java_class(f"{CONNECTOR}.split.KafkaPartitionSplitSerializer")()
        bytes_of = java_class("org.apache.flink.api.common.typeutils.base.array.BytePrimitiveArraySerializer").INSTANCE
        versioned = java_class("org.apache.flink.core.io.SimpleVersionedSerialization")
        view_of = java_class("org.apache.flink.core.memory.DataInputViewStreamWrapper")
        splits = []
        for subtask in self._state.getStates().toArray():
            for state in subtask.getManagedOperatorState().toArray():
                stream = state.openInputStream()
                view = view_of(stream)
                for place in state.getStateNameToPartitionOffsets()["SourceReaderState"].getOffsets():
                    stream.seek(place)
                    splits.append(split_of(versioned.readVersionAndDeSerialize(serializer, bytes_of.deserialize(view))))
                stream.close()
        return splits


def split_of(split: JavaObject, at_end: bool = False) -> Split:
    """A partition, from the connector's KafkaPartitionSplit; `at_end`: whether it counts as read to its end, if any."""
    start, end = split.getStartingOffset(), split.getStoppingOffset()
    return Split(split.getTopic(), split.getPartition(), end.orElse(start) if at_end else start, end.isPresent())


def operators_in(path: str) -> list[Operator]:
    """The operators in a checkpoint or savepoint, by its path or URI; raises Unreadable: none is there, or damaged."""
    storage = java_class("org.apache.flink.runtime.state.filesystem.AbstractFsCheckpointStorageAccess")
    checkpoints = java_class("org.apache.flink.runtime.checkpoint.Checkpoints")
    loader = java_class("java.lang.Thread").currentThread().getContextClassLoader()
    try:
        location = storage.resolveCheckpointPointer(path)
        stream = java_class("java.io.DataInputStream")(location.getMetadataHandle().openInputStream())
        with contextlib.closing(stream):
            found = checkpoints.loadCheckpointMetadata(stream, loader, location.getExternalPointer())
    except Py4JJavaError as error:
        raise Unreadable(str(error.java_exception)) from None
    return [Operator(state) for state in found.getOperatorStates().toArray()]
