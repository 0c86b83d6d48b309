"""A folder of checkpoints: take it for one run, find the newest checkpoint, read it, and go on from it."""

import argparse
import fcntl
import json
import os
import struct
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from kafka_job.offsets import Offsets, Plan, TopicOffsets, ask_for_offsets, check_group, make_plan

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION

OTHER_FOLDER = "choose another folder: --checkpoint-dir DIR"
OTHER_CHECKPOINT = f"{OTHER_FOLDER} (or another savepoint: flink run -s SAVEPOINT)"
LOCK_TIMEOUT = 10.0  # seconds; the JVM of a run that was killed ends about 1 s after it


def checkpoint_settings(folder: Path) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def checkpoint_id(metadata: Path) -> int:
    """The number of a checkpoint; a run that goes on from one counts on. A file's time may change when it is copied.

    Flink's file begins with a magic number, its format's version, and that number (see MetadataSerializers).

    Raises:
        Unreadable: the file is damaged.
    """
    with metadata.open("rb") as file:
        head = file.read(16)
    if len(head) < 16 or head[:4] != bytes.fromhex("4960672d"):
        raise Unreadable(metadata.parent, "its file _metadata is not one of Flink's")
    return struct.unpack(">iiq", head)[2]


class Unreadable(SystemExit):
    """A checkpoint cannot be read; one sentence says so. No older one is taken, which would write rows again."""

    def __init__(self, checkpoint: Path | str, why: object) -> None:
        super().__init__(f"The checkpoint {checkpoint} cannot be read ({why}); {OTHER_CHECKPOINT}")


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint in a folder; Flink writes its _metadata last, and at once.

    Raises:
        Unreadable: one of them is damaged.
    """
    complete = [*folder.glob("*/chk-*/_metadata"), *folder.glob("savepoint-*/_metadata")]
    return max(complete, key=checkpoint_id).parent if complete else None


# --- Whose checkpoints they are -------------------------------------------------------------------------------------


def lock(folder: Path) -> int:
    """Take a folder of checkpoints for this run.

    It is free again when this process has ended, in whatever way, and each process that it gave the file to.

    Returns:
        the folder's job.json as an open file.

    Raises:
        SystemExit: another run uses the folder.
    """
    file = os.open(folder / "job.json", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)  # less the umask
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(f"Another run uses {folder}; stop that one, or {OTHER_FOLDER}")
            time.sleep(0.1)


def identity_of_job(options: argparse.Namespace, state: str, topic: TopicOffsets) -> dict[str, str]:
    """What must not change between a checkpoint and a run that goes on from it."""
    return {
        "topic": options.topic,
        "id of the topic": str(topic.id),
        "output": options.output or "stdout",
        "state": state,
        "Flink": ".".join(FLINK_VERSION.split(".")[:2]),
    }


def difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """What two identities do not have in common, in words; None where they are of the same job."""
    for what, value in now.items():
        if before.get(what) != value:
            return f"{what}: {before.get(what)}, now {value}"
    return None


def check_owner(folder: Path, file: int, job: dict[str, str]) -> None:
    """Exit with one sentence where the checkpoints in a folder are of another job; else the folder is this one's.

    Args:
        file: the folder's job.json, see `lock`.
        job: from `identity_of_job`.
    """
    try:
        before = json.loads(os.pread(file, 10_000, 0))
    except ValueError:  # it is empty: the folder is new
        before = {}
    changed = difference(before, job)
    if changed and newest_checkpoint(folder):
        sys.exit(f"The checkpoints in {folder} are of another job ({changed}); {OTHER_FOLDER}")
    if changed:
        (folder / "start.json").unlink(missing_ok=True)
        os.truncate(file, 0)
        os.pwrite(file, json.dumps(job, indent=2).encode(), 0)


# --- What was read --------------------------------------------------------------------------------------------------


def record_start(folder: Path, plan: Plan) -> None:
    """Note where a run starts: a checkpoint that is made before it has found all partitions does not tell."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump({"start": plan.start, "after": plan.after}, file)
    Path(file.name).replace(folder / "start.json")


def recorded_start(folder: Path, checkpoint: Path | None, on_cluster: bool) -> Offsets | None:
    """Where the last run in a folder began, which has left `checkpoint`; None if there was no run.

    A run that was killed before its first checkpoint has kept nothing, so the next one begins where it began.

    Raises:
        SystemExit: there is no checkpoint, but there was one, or may have been one.
    """
    file = folder / "start.json"
    if not file.exists():
        return {} if checkpoint else None
    noted = json.loads(file.read_text())
    if not checkpoint and (on_cluster or noted["after"]):
        elsewhere = "if it was stopped with a savepoint elsewhere, go on from that one: flink run -s SAVEPOINT"
        sys.exit(f"The last run with {folder} has left no checkpoint there; {elsewhere}; else {OTHER_FOLDER}")
    return {int(partition): offset for partition, offset in noted["start"].items()}


def checkpoint_offsets(checkpoint: str, topic: str) -> Offsets:
    """Up to which offset a checkpoint has read each partition of a topic, as far as it has found them.

    Args:
        checkpoint: path or URI of a checkpoint or savepoint.

    Raises:
        Unreadable: it is damaged, or not there any more.
    """
    offsets: Offsets = {}
    for splits in sources_in(checkpoint).values():
        offsets |= {split.getPartition(): offset for split, offset in splits if split.getTopic() == topic}
    return {partition: max(offset, 0) for partition, offset in offsets.items()}  # -2: nothing was read


def is_of_endless_run(checkpoint: str) -> bool:
    """Whether a source of our usual uid can go on from a checkpoint: it read without an end.

    Args, Raises: as `checkpoint_offsets`.
    """
    splits = sources_in(checkpoint).get(Plan.source_uid)
    return splits is not None and not any(split.getStoppingOffset().isPresent() for split, _ in splits)


def topics_in(checkpoint: str) -> set[str]:
    """The topics that the Kafka sources in a checkpoint have read.

    Args, Raises: as `checkpoint_offsets`.
    """
    return {split.getTopic() for splits in sources_in(checkpoint).values() for split, _ in splits}


def sources_in(checkpoint: str) -> dict[str, list[tuple[JavaObject, int]]]:
    """The Kafka sources in a checkpoint, by uid, with their partitions and how far these were read.

    A partition may come twice: the later entry is right.

    Args, Raises: as `checkpoint_offsets`.
    """
    try:
        return {
            operator.getOperatorUid().get(): [*splits_of_coordinator(operator), *splits_of_readers(operator)]
            for operator in operators_of(checkpoint).toArray()
            if is_source(operator)
        }
    except (Py4JJavaError, ValueError) as error:
        raise Unreadable(checkpoint, getattr(error, "java_exception", error)) from None


def operators_of(checkpoint: str) -> JavaObject:
    """The states of the operators in a checkpoint, as Flink's OperatorState.

    Args:
        checkpoint: path or URI.

    Raises:
        Py4JJavaError: there is no such checkpoint, or it cannot be read.
    """
    jvm = get_gateway().jvm
    storage = jvm.org.apache.flink.runtime.state.filesystem.AbstractFsCheckpointStorageAccess
    location = storage.resolveCheckpointPointer(checkpoint)
    stream = jvm.java.io.DataInputStream(location.getMetadataHandle().openInputStream())
    try:
        load = jvm.org.apache.flink.runtime.checkpoint.Checkpoints.loadCheckpointMetadata
        loader = jvm.Thread.currentThread().getContextClassLoader()
        return load(stream, loader, location.getExternalPointer()).getOperatorStates()
    finally:
        stream.close()


def is_source(operator: JavaObject) -> bool:
    """Whether an operator is the Kafka source of a plan."""
    return operator.getOperatorUid().orElse("").startswith(Plan.source_uid)


def splits_of_coordinator(operator: JavaObject) -> list[tuple[JavaObject, int]]:
    """All partitions that a source has found, each with the offset up to which it was read.

    One that was given to a reader is listed with its end, or with its start if it has no end. What the reader itself
    says is newer, see `splits_of_readers`.

    Returns:
        the connector's KafkaPartitionSplit, and the offset; -2 stands for the partition's start.

    Raises:
        Py4JJavaError, ValueError: the state is not what this version of Flink and of the connector writes.
    """
    coordinator = operator.getCoordinatorState()
    if coordinator is None:
        raise ValueError("its source had ended")
    state = bytes(coordinator.getData())
    version, version_of_kafka, length = struct.unpack(">iii", state[:12])  # as SourceCoordinator writes them
    if version != 1:
        raise ValueError(f"version {version} of the state of a source's coordinator")
    kafka = get_gateway().jvm.org.apache.flink.connector.kafka.source.enumerator
    found = kafka.KafkaSourceEnumStateSerializer().deserialize(version_of_kafka, state[12 : 12 + length])
    given = [
        (split, split.getStoppingOffset().orElse(split.getStartingOffset()))
        for split in found.assignedSplits().toArray()
    ]
    return given + [(split, split.getStartingOffset()) for split in found.unassignedSplits().toArray()]


def splits_of_readers(operator: JavaObject) -> list[tuple[JavaObject, int]]:
    """The partitions that the readers of a source have not read to their end, each with the offset that comes next.

    Returns, Raises: as `splits_of_coordinator`.
    """
    jvm = get_gateway().jvm
    serializer = jvm.org.apache.flink.connector.kafka.source.split.KafkaPartitionSplitSerializer()
    bytes_of = jvm.org.apache.flink.api.common.typeutils.base.array.BytePrimitiveArraySerializer.INSTANCE
    versioned = jvm.org.apache.flink.core.io.SimpleVersionedSerialization
    splits = []
    for subtask in operator.getStates().toArray():
        for state in subtask.getManagedOperatorState().toArray():
            stream = state.openInputStream()
            view = jvm.org.apache.flink.core.memory.DataInputViewStreamWrapper(stream)
            for place in state.getStateNameToPartitionOffsets()["SourceReaderState"].getOffsets():
                stream.seek(place)
                splits.append(versioned.readVersionAndDeSerialize(serializer, bytes_of.deserialize(view)))
            stream.close()
    return [(split, split.getStartingOffset()) for split in splits]


# --- Going on -------------------------------------------------------------------------------------------------------


def plan_in(
    folder: Path, file: int, options: argparse.Namespace, settings: dict[str, str], state: str, on_cluster: bool = False
) -> Plan:
    """The plan of a run that keeps its checkpoints in a folder, and goes on from the newest one there, if there is one.

    Args:
        file: the folder's job.json, see `lock`.
        state: what the job keeps in state, in words.
        on_cluster: whether others than this library may have stopped the last run.

    Raises:
        Refused: the broker does not answer, or refuses.
        SystemExit: something is wrong with the checkpoint, its job, the topic or the group.
    """
    topic = ask_for_offsets(options)
    check_owner(folder, file, identity_of_job(options, state, topic))
    checkpoint = newest_checkpoint(folder)
    read = recorded_start(folder, checkpoint, on_cluster)
    if checkpoint:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((checkpoint / "_metadata").stat().st_mtime))
        print(f"Going on from {checkpoint} of {made}.", file=sys.stderr, flush=True)
        read = (read or {}) | checkpoint_offsets(str(checkpoint), options.topic)
    check_group(options, topic)
    plan = make_plan(options, settings | checkpoint_settings(folder), topic, read)
    if checkpoint:
        # Flink deletes the checkpoint once it has a newer one.
        plan = go_on(plan, str(checkpoint), {"execution.state-recovery.claim-mode": "CLAIM"})
    record_start(folder, plan)
    return plan


def plan_after(savepoint: str, options: argparse.Namespace, settings: dict[str, str], topic: TopicOffsets) -> Plan:
    """The plan of a run that goes on from a savepoint, which stays as it is.

    Args:
        savepoint: path or URI.

    Raises: as `plan_in`.
    """
    others = topics_in(savepoint) - {options.topic}
    if others:
        mend = f"say --topic {min(others)}, or begin anew, without the savepoint"
        sys.exit(f"The savepoint {savepoint} is of a job that reads another topic, {min(others)}; {mend}")
    read = checkpoint_offsets(savepoint, options.topic) or None  # None: it was made before any partition was found
    plan = make_plan(options, settings, topic, read, bounded_by_flink=True)
    if plan.end is None and is_of_endless_run(savepoint):
        return replace(plan, after=savepoint)  # Flink restores the source, too
    resumed = go_on(plan, savepoint, {})
    # With high availability Flink goes on from checkpoints that no plan knows of, by the usual uid.
    free = plan.end is None and Plan.source_uid not in sources_in(savepoint)
    return replace(resumed, source_uid=Plan.source_uid) if free else resumed


def go_on(plan: Plan, checkpoint: str, settings: dict[str, str]) -> Plan:
    """The plan with the state of a checkpoint, except that of the source.

    A bounded source that is restored never ends (FLINK-31006), and one restored from a bounded run ends where that had
    its end. So the source is a new one, by its uid, that starts at the offsets which the checkpoint has read up to.
    """
    recovery = {
        "execution.state-recovery.path": checkpoint,
        "execution.state-recovery.ignore-unclaimed-state": "true",  # that of the former source; see check_state
    }
    uid = f"{Plan.source_uid} after {'/'.join(checkpoint.rstrip('/').split('/')[-2:])}"
    return replace(plan, settings=plan.settings | settings | recovery, source_uid=uid, after=checkpoint)


def check_state(environment: StreamExecutionEnvironment, plan: Plan) -> None:
    """Exit with one sentence where a pipeline cannot go on from its checkpoint, or would leave out a part of it.

    Raises:
        SystemExit: a part of the job had ended; or an operator with state, not the source, is not in the pipeline.
    """
    if not plan.after:
        return
    loader = get_gateway().jvm.Thread.currentThread().getContextClassLoader()
    graph = environment._j_stream_execution_environment.getStreamGraph(False).getJobGraph(loader)
    there = {
        str(pair.getGeneratedOperatorID()) for vertex in graph.getVerticesAsArray() for pair in vertex.getOperatorIDs()
    }
    for operator in operators_of(plan.after).toArray():
        if any(subtask.isFinished() for subtask in operator.getStates().toArray()):
            sys.exit(f"A part of the job had ended when {plan.after} was made, so Flink cannot go on from there")
        if operator.getStateSize() and not is_source(operator) and str(operator.getOperatorID()) not in there:
            name = operator.getOperatorUid().orElse(None) or operator.getOperatorName().orElse("without a name")
            lost = f"the job has no operator '{name}' any more, whose state is in {plan.after}"
            sys.exit(f"Going on would lose counts: {lost}; run the job as it was, or {OTHER_CHECKPOINT}")
