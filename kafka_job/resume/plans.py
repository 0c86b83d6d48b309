"""Going on: the folder of checkpoints, and the plan of a run that is made from it.

Where something is wrong with a checkpoint, its job, the topic or the group, one sentence ends the program: SystemExit.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kafka_job.flink.connector import java_class
from kafka_job.flink.environment import operator_ids
from kafka_job.flink.snapshots import METADATA, Split, Unreadable, number_of, operators_in
from kafka_job.kafka.broker import Broker, Offsets, TopicOffsets, ask_for_offsets, check_group
from kafka_job.options import JobOptions
from kafka_job.pipeline.source import SOURCE_UID, Plan
from kafka_job.terminal import say, utc

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.version import __version__ as FLINK_VERSION

OTHER_FOLDER = "choose another folder: --checkpoint-dir DIR"
OTHER_CHECKPOINT = f"{OTHER_FOLDER} (or another savepoint: flink run -s SAVEPOINT)"
TOPIC_ID = "id of the topic"
LOCK_TIMEOUT = 10.0  # seconds; the JVM of a run that was killed ends about 1 s after it


def checkpoint_settings(folder: Path) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint. If one is damaged, no older one is taken: rows would come again."""
    numbers = {}
    for metadata in [*folder.glob(f"*/chk-*/{METADATA}"), *folder.glob(f"savepoint-*/{METADATA}")]:
        with readable(metadata.parent):
            numbers[number_of(metadata)] = metadata.parent
    return numbers[max(numbers)] if numbers else None


@contextlib.contextmanager
def readable(checkpoint: Path | str) -> Iterator[None]:
    """End the program with one sentence where a checkpoint cannot be read in the `with` block."""
    try:
        yield
    except Unreadable as error:
        sys.exit(f"The checkpoint {checkpoint} cannot be read ({error}); {OTHER_CHECKPOINT}")


TAKEN: set[Path] = set()  # folders that runs of this process use


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Take a folder for the run in the `with` block. The JVM locks it, and so for as long as it can write something."""
    deadline = time.monotonic() + LOCK_TIMEOUT

    def wait_a_moment() -> None:
        if time.monotonic() > deadline:
            sys.exit(f"Another run uses {folder}; stop that one, or {OTHER_FOLDER}")
        time.sleep(0.1)

    while folder in TAKEN:  # by a run of this process: to close its file once more would give up its lock
        wait_a_moment()
    TAKEN.add(folder)
    try:
        with contextlib.closing(java_class("java.io.RandomAccessFile")(str(folder / "job.json"), "rw")) as file:
            while file.getChannel().tryLock() is None:  # another process has it
                wait_a_moment()
            yield
    finally:
        TAKEN.remove(folder)


def check_owner(folder: Path, job: dict[str, str]) -> None:
    """Exit with one sentence where the checkpoints in a folder are of another job; else the folder is this one's."""
    file = folder / "job.json"
    try:
        before = json.loads(file.read_text())
    except ValueError:  # it is empty: the folder is new
        before = {}
    changed = [f"{what}: {before.get(what)}, now {value}" for what, value in job.items() if before.get(what) != value]
    if changed and newest_checkpoint(folder):
        sys.exit(f"The checkpoints in {folder} are of another job ({changed[0]}); {OTHER_FOLDER}")
    if changed:
        (folder / "start.json").unlink(missing_ok=True)
        # In the same file, which is locked; but not in one of somebody else's, to which it is a link.
        with open(file, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as same:
            json.dump(job, same, indent=2)


def topic_of(folder: Path) -> str:
    """The id of the topic that the job with a folder reads."""
    return json.loads((folder / "job.json").read_text())[TOPIC_ID]


def record_start(folder: Path, start: Offsets, after: str | None) -> None:
    """Note where a run starts, `after` which checkpoint: one made before all partitions are found does not tell."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # nothing is left of it where the disk is full
        file = Path(temporary, "start.json")
        file.write_text(json.dumps({"start": start, "after": after}))
        file.replace(folder / "start.json")


def recorded_start(folder: Path, checkpoint: Path | None, on_cluster: bool) -> Offsets | None:
    """Where the last run in a folder began, which has left `checkpoint`; None if there was no run.

    Killed before its first checkpoint, it has kept nothing. `on_cluster`: others than this library may have stopped it.
    """
    file = folder / "start.json"
    if not file.exists():
        return {} if checkpoint else None  # {}: where it began nobody knows; the checkpoint tells all
    try:
        noted = json.loads(file.read_text())
    except ValueError:
        sys.exit(f"{file} is damaged, which says where the last run has begun; {OTHER_FOLDER}")
    if not checkpoint and (on_cluster or noted["after"]):
        elsewhere = "if it was stopped with a savepoint elsewhere, go on from that one: flink run -s SAVEPOINT"
        sys.exit(f"The last run with {folder} has left no checkpoint there; {elsewhere}; else {OTHER_FOLDER}")
    return {int(partition): offset for partition, offset in noted["start"].items()}


@dataclass(frozen=True)
class Recovery:
    """What a run goes on from."""

    checkpoint: str | None = None  # path or URI; None: from nothing
    settings: Mapping[str, str] = field(default_factory=dict)  # Flink's configuration


def check_start(start: Offsets, topic: TopicOffsets, who: str, mend: str) -> None:
    """Exit with one sentence where `start`, up to where `who` has read, is behind the end; say what is gone by now."""
    for partition, offset in start.items():
        if partition not in topic.end or offset > topic.end[partition]:
            end = topic.end.get(partition, "not there any more")
            ends = f"partition {partition} is at {offset} for {who}, but its end is {end}"
            sys.exit(f"The topic was deleted and created again, or cut off ({ends}); {mend}")
    if missing := sum(max(0, first - start[partition]) for partition, first in topic.first.items()):
        say(f"{missing} records are missing: the topic's retention has deleted them before they were read")


def make_plan(options: JobOptions, broker: Broker, topic: TopicOffsets, read: Offsets | None, by_flink: bool) -> Plan:
    """Start where --start says, or go on from what was `read`; --bounded ends at the end of now, `by_flink` or us."""
    if read is None:
        starts = {"committed": topic.first | topic.committed, "earliest": topic.first, "latest": topic.end}
        start = starts[options.start]
        check_start(start, topic, f"the group {options.group_id}", "say where to start: --start earliest (or latest)")
    else:
        # A partition that no one knew of was added since, so nothing of it was read.
        start = dict.fromkeys(topic.first, 0) | read
        check_start(start, topic, "the checkpoint", f"{OTHER_FOLDER} (after -s: leave it out)")
    first = {number: max(offset, topic.first[number]) for number, offset in start.items()}
    plan = Plan(broker, options.topic, first, max_ahead=options.max_ahead)
    if options.bounded:
        return replace(plan, end=topic.end, bounded=by_flink)
    return replace(plan, idle_timeout=options.idle_timeout)


def checkpoint_offsets(checkpoint: str, topic: str) -> Offsets:
    """Up to where a checkpoint, by its path or URI, has read each partition that it has found; raises Unreadable."""
    sources = [operator for operator in operators_in(checkpoint) if operator.uid.startswith(SOURCE_UID)]
    return offsets_of([split for source in sources for split in source.splits() if split.topic == topic])


def offsets_of(splits: list[Split]) -> Offsets:
    """Up to which offset partitions were read; where one comes twice, the later entry is right."""
    return {split.partition: max(split.offset, 0) for split in splits}


def plan_in(folder: Path, options: JobOptions, broker: Broker, state: str, on_cluster: bool) -> tuple[Plan, Recovery]:
    """The plan of a run that keeps its checkpoints in a folder, taken by it, and goes on from the newest one there."""
    topic = ask_for_offsets(broker, options.topic, options.group_id)
    identity = {
        "topic": options.topic,
        TOPIC_ID: str(topic.id),
        "output": (options.rows_go_to() or "stdout").removeprefix("file://"),
        "state": state,
        "Flink": ".".join(FLINK_VERSION.split(".")[:2]),
    }
    check_owner(folder, identity)
    checkpoint = newest_checkpoint(folder)
    read = recorded_start(folder, checkpoint, on_cluster)
    settings = checkpoint_settings(folder)
    if checkpoint:
        say(f"Going on from {checkpoint} of {utc(int((checkpoint / METADATA).stat().st_mtime * 1000))}.")
        with readable(checkpoint):
            read = (read or {}) | checkpoint_offsets(str(checkpoint), options.topic)
        # Flink deletes the checkpoint once it has a newer one.
        settings["execution.state-recovery.claim-mode"] = "CLAIM"
    elif read is not None:
        say(f"The last run with {folder} has left no checkpoint: this one begins where that one has begun.")
    check_group(broker, options.topic, options.group_id, topic)
    plan = make_plan(options, broker, topic, read, by_flink=False)
    return go_on(plan, str(checkpoint), settings) if checkpoint else (plan, Recovery(settings=settings))


def plan_after(savepoint: str, options: JobOptions, broker: Broker, topic: TopicOffsets) -> tuple[Plan, Recovery]:
    """The plan of a run that goes on from a savepoint, by its path or URI, which stays as it is."""
    with readable(savepoint):
        operators = [operator for operator in operators_in(savepoint) if operator.uid.startswith(SOURCE_UID)]
        sources = {operator.uid: operator.splits() for operator in operators}
    splits = [split for source in sources.values() for split in source]
    others = {split.topic for split in splits} - {options.topic}
    if others:
        mend = f"say --topic {min(others)}, or begin anew, without the savepoint"
        sys.exit(f"The savepoint {savepoint} is of a job that reads another topic, {min(others)}; {mend}")
    read = offsets_of(splits) or None  # None: made before any was found
    plan = make_plan(options, broker, topic, read, by_flink=True)
    usual = sources.get(SOURCE_UID)
    restorable = usual is not None and not any(split.has_end for split in usual)
    if plan.end is None and restorable and all(plan.start[number] == offset for number, offset in (read or {}).items()):
        return plan, Recovery(savepoint)  # Flink restores the source, too
    resumed, recovery = go_on(plan, savepoint, {})
    # With high availability Flink goes on from checkpoints that no plan knows of, by the usual uid.
    usual_uid_is_free = plan.end is None and usual is None
    return (plan if usual_uid_is_free else resumed), recovery


def go_on(plan: Plan, checkpoint: str, settings: dict[str, str]) -> tuple[Plan, Recovery]:
    """The plan with the state of a checkpoint, except that of the source.

    A bounded source that is restored never ends (FLINK-31006), and one restored from a bounded run ends where that had
    its end. So the source is a new one, by its uid, that starts at the offsets which the checkpoint has read up to.
    """
    recovery = {
        "execution.state-recovery.path": checkpoint,
        "execution.state-recovery.ignore-unclaimed-state": "true",  # that of the former source; see check_state
    }
    uid = f"{SOURCE_UID} after {'/'.join(checkpoint.rstrip('/').split('/')[-2:])}"
    return replace(plan, source_uid=uid), Recovery(checkpoint, settings | recovery)


def check_state(environment: StreamExecutionEnvironment, checkpoint: str) -> None:
    """Exit with one sentence where a pipeline cannot go on from a checkpoint, or would leave out state of it."""
    there = operator_ids(environment)
    with readable(checkpoint):
        operators = operators_in(checkpoint)
    for operator in operators:
        if operator.has_ended:
            sys.exit(f"A part of the job had ended when {checkpoint} was made, so Flink cannot go on from there")
        if operator.has_state and not operator.uid.startswith(SOURCE_UID) and operator.id not in there:
            lost = f"the job has no operator '{operator.uid or operator.name}' any more, whose state is in {checkpoint}"
            sys.exit(f"Going on would lose counts: {lost}; run the job as it was, or {OTHER_CHECKPOINT}")
