"""Where a run starts and ends, and what it goes on from: the plan of a run, and its recovery."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kafka_job.flink.environment import operator_ids
from kafka_job.flink.snapshots import METADATA, Operator, Split, operators_in
from kafka_job.kafka.broker import Broker, Offsets, TopicOffsets, ask_for_offsets, check_group
from kafka_job.options import JobOptions
from kafka_job.pipeline.rows import utc
from kafka_job.pipeline.source import SOURCE_UID, Plan
from kafka_job.resume import folder as checkpoints
from kafka_job.terminal import say

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.version import __version__ as FLINK_VERSION


@dataclass(frozen=True)
class Recovery:
    """What a run goes on from."""

    checkpoint: str | None = None  # path or URI; None: from nothing
    settings: Mapping[str, str] = field(default_factory=dict)  # Flink's configuration


def start_offsets(start: str, topic: TopicOffsets) -> Offsets:
    """Where to start without a checkpoint. `start`: committed, earliest or latest."""
    return {"committed": topic.first | topic.committed, "earliest": topic.first, "latest": topic.end}[start]


def missing_records(start: Offsets, first: Offsets) -> int:
    """How many records the topic's retention has deleted before they were read."""
    return sum(max(0, first[partition] - start[partition]) for partition in first)


def check_start(start: Offsets, topic: TopicOffsets, who: str, mend: str) -> None:
    """Exit with one sentence where `start` is behind the topic's end; say how many records are gone before it.

    `who`: has read up to `start`. `mend`: what to do where the topic is another one.
    """
    for partition, offset in start.items():
        if partition not in topic.end or offset > topic.end[partition]:
            end = topic.end.get(partition, "not there any more")
            ends = f"partition {partition} is at {offset} for {who}, but its end is {end}"
            sys.exit(f"The topic was deleted and created again, or cut off ({ends}); {mend}")
    if missing := missing_records(start, topic.first):
        say(f"{missing} records are missing: the topic's retention has deleted them before they were read")


def make_plan(
    options: JobOptions, broker: Broker, topic: TopicOffsets, read: Offsets | None, bounded_by_flink: bool = False
) -> Plan:
    """Start where --start says, or go on from what a checkpoint has `read`; --bounded ends at the end of now."""
    if read is None:
        start = start_offsets(options.start, topic)
        check_start(start, topic, f"the group {options.group_id}", "say where to start: --start earliest (or latest)")
    else:
        # A partition that no one knew of was added since, so nothing of it was read.
        start = dict.fromkeys(topic.first, 0) | read
        anew = "choose another folder: --checkpoint-dir DIR (after -s: leave it out)"
        check_start(start, topic, "the checkpoint", anew)
    plan = Plan(broker, options.topic, start)
    if options.bounded:
        return replace(plan, end=topic.end, bounded=bounded_by_flink)
    return replace(plan, idle_timeout=options.idle_timeout)


def identity_of_job(options: JobOptions, state: str, topic: TopicOffsets) -> dict[str, str]:
    """What must not change between a checkpoint and a run that goes on from it."""
    return {
        "topic": options.topic,
        "id of the topic": str(topic.id),
        "output": (options.rows_go_to() or "stdout").removeprefix("file://"),
        "state": state,
        "Flink": ".".join(FLINK_VERSION.split(".")[:2]),
    }


def is_source(operator: Operator) -> bool:
    """Whether an operator is the Kafka source of a plan."""
    return operator.uid.startswith(SOURCE_UID)


def checkpoint_offsets(checkpoint: str, topic: str) -> Offsets:
    """Up to which offset a checkpoint, by its path or URI, has read each partition of a topic that it has found.

    Raises:
        Unreadable: it is damaged, or not there any more.
    """
    splits = [split for operator in operators_in(checkpoint) if is_source(operator) for split in operator.splits()]
    return offsets_of([split for split in splits if split.topic == topic])


def offsets_of(splits: list[Split]) -> Offsets:
    """Up to which offset partitions were read; where one comes twice, the later entry is right."""
    return {split.partition: max(split.offset, 0) for split in splits}


def plan_in(
    folder: Path, options: JobOptions, broker: Broker, state: str, on_cluster: bool = False
) -> tuple[Plan, Recovery]:
    """The plan of a run that keeps its checkpoints in a folder, and goes on from the newest one there, if there is one.

    Exits with one sentence where something is wrong with the checkpoint, its job, the topic or the group.

    Args:
        folder: taken by this run.
        state: what the job keeps in state, in words.
        on_cluster: whether others than this library may have stopped the last run.

    Raises:
        Refused: the broker does not answer, or refuses.
    """
    topic = ask_for_offsets(broker, options.topic, options.group_id)
    checkpoints.check_owner(folder, identity_of_job(options, state, topic))
    checkpoint = checkpoints.newest_checkpoint(folder)
    read = checkpoints.recorded_start(folder, checkpoint, on_cluster)
    settings = checkpoints.checkpoint_settings(folder)
    if checkpoint:
        say(f"Going on from {checkpoint} of {utc(int((checkpoint / METADATA).stat().st_mtime * 1000))}.")
        with checkpoints.one_sentence_for(checkpoint):
            read = (read or {}) | checkpoint_offsets(str(checkpoint), options.topic)
        # Flink deletes the checkpoint once it has a newer one.
        settings["execution.state-recovery.claim-mode"] = "CLAIM"
    check_group(broker, options.topic, options.group_id, topic)
    plan = make_plan(options, broker, topic, read)
    checkpoints.record_start(folder, plan.start, str(checkpoint) if checkpoint else None)
    return go_on(plan, str(checkpoint), settings) if checkpoint else (plan, Recovery(settings=settings))


def plan_after(savepoint: str, options: JobOptions, broker: Broker, topic: TopicOffsets) -> tuple[Plan, Recovery]:
    """The plan of a run that goes on from a savepoint, by its path or URI; exits as `plan_in`."""
    with checkpoints.one_sentence_for(savepoint):
        sources = {operator.uid: operator.splits() for operator in operators_in(savepoint) if is_source(operator)}
    splits = [split for source in sources.values() for split in source]
    others = {split.topic for split in splits} - {options.topic}
    if others:
        mend = f"say --topic {min(others)}, or begin anew, without the savepoint"
        sys.exit(f"The savepoint {savepoint} is of a job that reads another topic, {min(others)}; {mend}")
    read = offsets_of(splits) or None  # None: made before any was found
    plan = make_plan(options, broker, topic, read, bounded_by_flink=True)
    usual = sources.get(SOURCE_UID)
    if plan.end is None and usual is not None and not any(split.has_end for split in usual):
        return plan, Recovery(savepoint)  # Flink restores the source, too
    resumed, recovery = go_on(plan, savepoint, {})
    # With high availability Flink goes on from checkpoints that no plan knows of, by the usual uid.
    free = plan.end is None and usual is None
    return (plan if free else resumed), recovery


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
    with checkpoints.one_sentence_for(checkpoint):
        operators = operators_in(checkpoint)
    for operator in operators:
        if operator.has_ended:
            sys.exit(f"A part of the job had ended when {checkpoint} was made, so Flink cannot go on from there")
        if operator.has_state and not is_source(operator) and operator.id not in there:
            lost = f"the job has no operator '{operator.uid or operator.name}' any more, whose state is in {checkpoint}"
            sys.exit(f"Going on would lose counts: {lost}; run the job as it was, or {checkpoints.OTHER_CHECKPOINT}")
