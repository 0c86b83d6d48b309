"""Find the newest checkpoint, keep others away from it, read it, and go on from it."""

import argparse
import fcntl
import json
import os
import re
import struct
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from kafka_job.offsets import Offsets, Plan, make_plan

from kafka import KafkaAdminClient
from py4j.java_gateway import JavaObject
from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION


def checkpoint_settings(folder: Path | str) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint in a folder; Flink writes its _metadata last, and at once."""
    complete = [*folder.glob("*/chk-*/_metadata"), *folder.glob("savepoint-*/_metadata")]
    return max(complete, key=lambda file: file.stat().st_mtime_ns).parent if complete else None


# --- Whose checkpoints they are -------------------------------------------------------------------------------------


def lock(folder: Path) -> int:
    """Take a folder of checkpoints for this process, until it ends, in whatever way; its job.json as an open file.

    Raises:
        SystemExit: another run uses the folder.
    """
    file = os.open(folder / "job.json", os.O_RDWR | os.O_CREAT, 0o666)  # less the umask, as open() does
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another run uses {folder}; stop that one, or choose another folder: --checkpoint-dir DIR")
    return file


def identity_of_job(options: argparse.Namespace, state: str) -> dict[str, str]:
    """What must not change between a checkpoint and a run that goes on from it.

    Raises:
        KafkaError: the broker does not answer.
    """
    with KafkaAdminClient(bootstrap_servers=options.bootstrap_servers.split(",")) as admin:
        [described] = admin.describe_topics([options.topic])
    return {
        "topic": options.topic,
        # Another one if the topic was deleted and created again; Redpanda has none.
        "id of the topic": str(described.get("topic_id")),
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


def open_checkpoints(options: argparse.Namespace, state: str) -> Path | None:
    """Take the folder --checkpoint-dir for this run, and find the newest checkpoint in it.

    Raises:
        SystemExit: another run uses the folder, or its checkpoints are of another job.
    """
    folder = Path(options.checkpoint_dir)
    file = lock(folder)
    job = identity_of_job(options, state)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        os.truncate(file, 0)
        os.pwrite(file, json.dumps(job, indent=2).encode(), 0)
        return None
    try:
        before = json.loads(os.pread(file, 10_000, 0))
    except ValueError:
        before = {}
    if changed := difference(before, job):
        mend = "choose another folder: --checkpoint-dir DIR"
        sys.exit(f"The checkpoints in {folder} are of another job ({changed}); {mend}")
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((checkpoint / "_metadata").stat().st_mtime))
    print(f"Going on from {checkpoint} of {made}.", file=sys.stderr, flush=True)
    return checkpoint


# --- What they have read --------------------------------------------------------------------------------------------


def record_start(plan: Plan, folder: Path) -> None:
    """Note where a run starts to read: a checkpoint made before it has found all partitions does not tell."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump(plan.start, file)
    Path(file.name).replace(folder / "start.json")


def recorded_start(folder: Path) -> Offsets:
    """What `record_start` has noted last."""
    file = folder / "start.json"
    if not file.exists():
        return {}
    return {int(partition): offset for partition, offset in json.loads(file.read_text()).items()}


def offsets_of_coordinator(state: bytes, topic: str) -> Offsets:
    """All partitions, as the coordinator of a Kafka source has them in a checkpoint.

    It keeps each with the offsets of its start and end. For a partition that is assigned to a reader this is its end,
    or its start where it has no end: a reader that still has it knows better, see `offsets_of_reader`.

    The bytes are those of the Kafka connector's KafkaPartitionSplitSerializer (version 0): length and name of the
    topic, partition, start, end or -2**63; and then 0 if it is assigned, else 1.
    """
    offsets = {}
    for found in re.findall(_name(topic) + b"(.{24})", state, re.DOTALL):
        partition, start, end, unassigned = struct.unpack(">iqqi", found)
        offsets[partition] = start if unassigned or end < 0 else end
    return offsets


def offsets_of_reader(state: bytes, topic: str) -> Offsets:
    """The partitions that a reader of a Kafka source has in a checkpoint, each with the offset that comes next.

    The bytes are as for `offsets_of_coordinator`, without what comes after the end.
    """
    found = re.findall(_name(topic) + b"(.{12})", state, re.DOTALL)
    return dict(struct.unpack(">iq", one) for one in found)


def _name(topic: str) -> bytes:
    return re.escape(len(topic.encode()).to_bytes(2, "big") + topic.encode())


def checkpoint_offsets(checkpoint: Path, topic: str) -> Offsets:
    """Up to which offset a checkpoint has read each partition of a topic, as far as it tells."""
    offsets: Offsets = {}
    for operator in operators_of(checkpoint):
        coordinator = operator.getCoordinatorState()
        if not coordinator:
            continue  # not a source
        offsets |= offsets_of_coordinator(bytes(coordinator.getData()), topic)
        for subtask in operator.getStates().toArray():
            for state in subtask.getManagedOperatorState().toArray():
                stream = state.openInputStream()
                offsets |= offsets_of_reader(stream.readAllBytes(), topic)
                stream.close()
    return offsets


def operators_of(checkpoint: Path) -> JavaObject:
    """The states of the operators in a checkpoint, as Flink's OperatorState."""
    jvm = get_gateway().jvm
    load = jvm.org.apache.flink.runtime.checkpoint.Checkpoints.loadCheckpointMetadata
    stream = jvm.java.io.DataInputStream(jvm.java.io.FileInputStream(str(checkpoint / "_metadata")))
    try:
        return load(stream, jvm.Thread.currentThread().getContextClassLoader(), str(checkpoint)).getOperatorStates()
    finally:
        stream.close()


# --- Going on -------------------------------------------------------------------------------------------------------


def go_on(plan: Plan, checkpoint: Path) -> Plan:
    """The plan with the state of a checkpoint, except that of the source.

    A bounded source that is restored never ends (FLINK-31006), and one restored from a bounded run ends where that had
    its end. So the source is a new one, by its uid, that starts at the offsets which the checkpoint has read up to.
    """
    recovery = {
        "execution.state-recovery.path": f"file://{checkpoint}",
        "execution.state-recovery.claim-mode": "CLAIM",  # Flink deletes the checkpoint once it has a newer one
        "execution.state-recovery.ignore-unclaimed-state": "true",  # that of the former source
    }
    uid = f"kafka-source after {checkpoint.parent.name}/{checkpoint.name}"
    return replace(plan, settings=plan.settings | recovery, source_uid=uid)


def plan_from(checkpoint: Path | None, folder: Path, options: argparse.Namespace, settings: dict[str, str]) -> Plan:
    """The plan of a run that keeps its checkpoints in `folder`, and goes on from `checkpoint` if there is one.

    Raises:
        KafkaError: the broker does not answer.
    """
    read = recorded_start(folder) | checkpoint_offsets(checkpoint, options.topic) if checkpoint else None
    plan = make_plan(options, settings | checkpoint_settings(folder), read)
    record_start(plan, folder)
    return go_on(plan, checkpoint) if checkpoint else plan
