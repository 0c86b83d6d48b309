"""The plan of a run: where it begins and ends, and from which checkpoint it goes on.

Where something is wrong with a checkpoint, the topic or the group, one sentence ends the program: SystemExit.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kafka_job.flink.environment import operator_ids
from kafka_job.flink.snapshots import Split, operators_in
from kafka_job.kafka.broker import Broker, Offsets, TopicOffsets, ask_for_offsets, check_group
from kafka_job.options import JobOptions
from kafka_job.pipeline.source import SOURCE_UID, Plan
from kafka_job.resume.folder import (
    OTHER_CHECKPOINT,
    OTHER_FOLDER,
    TOPIC_ID,
    check_owner,
    checkpoint_settings,
    made_at,
    newest_checkpoint,
    readable,
    recorded_start,
)
from kafka_job.terminal import say, utc

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.version import __version__ as FLINK_VERSION


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
    rest = {"end": topic.end, "bounded": by_flink} if options.bounded else {"idle_timeout": options.idle_timeout}
    return Plan(broker, options.topic, first, max_ahead=options.max_ahead, **rest)


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
        say(f"Going on from {checkpoint} of {utc(made_at(checkpoint))}.")
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
        sources = {one.uid: one.splits() for one in operators_in(savepoint) if one.uid.startswith(SOURCE_UID)}
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
