"""Where two things meet: each of these has lost rows, or written them twice."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

from conftest import Job, Topic
from support import (
    SCRIPT,
    START,
    TOTALS,
    checkpoints,
    edited,
    expected_counts,
    lines,
    read_files,
    wait_for,
)


def rows(folder: Path) -> list[str]:
    """The rows in the visible files of an output folder, sorted."""
    return sorted(row for file in folder.rglob("counts-*.tsv") for row in file.read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("script", "first", "second"),
    [
        (SCRIPT, ["2023-11-14T22:13:20Z\tx\t3"], ["2023-11-14T22:13:35Z\tx\t1"]),
        (TOTALS, [f"2023-11-14T22:13:2{n}Z\tx\t{n + 1}" for n in range(3)], ["2023-11-14T22:13:35Z\tx\t4"]),
    ],
    ids=["windows", "totals"],
)
def test_bounded_and_bounded_again(
    script: Path,
    first: list[str],
    second: list[str],
    new_topic: Callable[..., Topic],
    start_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """The state of a bounded run outlives it: totals count on, and what was written is not written again."""
    topic = new_topic()
    arguments = [*topic.arguments(), "--bounded", "--start", "earliest"]
    arguments += ["--output", str(tmp_path / "out"), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    for number, expected in enumerate([first, first + second]):
        topic.produce(lines(*["x"] * 3) if number == 0 else lines("x", start=START + 15_000))
        ended = start_job(*arguments, script=script).wait()
        assert ended.code == 0, ended.stderr
        assert rows(tmp_path / "out") == expected


def test_a_group_with_other_consumers_is_refused(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job]
) -> None:
    """Kafka lets nobody else commit offsets for it, so the next run would write all rows again."""
    topic = new_topic()
    topic.produce(lines("a"))
    with contextlib.closing(member_of(topic)):
        ended = start_job(*topic.arguments(), "--bounded").wait()
    assert ended.code == 1
    mend = "stop them, or choose another: --group-id GROUP_ID"
    assert ended.stderr.endswith(f"The group {topic.name} has other consumers; {mend}\n")


def member_of(topic: Topic) -> KafkaConsumer:
    """A consumer that has joined the group of a topic's test."""
    consumer = KafkaConsumer(topic.name, bootstrap_servers=topic.bootstrap_servers, group_id=topic.name)
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:

        def joined() -> bool:
            consumer.poll(200)
            return admin.describe_groups([topic.name])[topic.name]["group_state"] == "Stable"

        wait_for(joined, "a place in the group")
    return consumer


def test_offsets_that_cannot_be_committed_are_said(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(lines("a"))
    arguments = [*topic.arguments(), "--output", str(tmp_path / "out")]
    job = start_job(*arguments, "--checkpoint-dir", str(tmp_path / "checkpoints"))
    job.until(lambda: checkpoints(tmp_path / "checkpoints"), "a checkpoint")
    with contextlib.closing(member_of(topic)):
        job.process.send_signal(signal.SIGINT)
        ended = job.wait()
    assert ended.code == 1
    assert ended.stderr.endswith(": the same command goes on rightly\n"), ended.stderr
    assert "All rows are written, but their offsets could not be committed (UnknownMemberIdException: " in ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)

    ended = start_job(*arguments, "--checkpoint-dir", str(tmp_path / "checkpoints"), "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_late_after_a_crash_is_late(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """How far event time had come is in the checkpoint: a window that was written is not opened again."""
    topic = new_topic()
    records = topic.produce(lines("first", start=START) + lines("second", start=START + 6_000))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments)
    job.until(lambda: read_files(output) == expected_counts(records[:1]), "the row of the first window")
    job.end()

    topic.produce(lines("first and late"))
    records += topic.produce(lines("second", start=START + 7_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)
    assert ended.stderr.endswith("not counted (--max-delay): 3\n"), ended.stderr


def test_killed_before_its_first_checkpoint(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The end that the topic had at the first start is where the second one starts."""
    topic = new_topic()
    topic.produce(lines("old"))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--start", "latest", "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments, settings={"execution.checkpointing.interval": "1 h"})
    job.until((folder / "start.json").exists, "the note of where it starts")
    job.end()
    assert not checkpoints(folder), "it was killed too late"

    records = topic.produce(lines("between", start=START + 6_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)


def test_a_group_beyond_the_end_of_the_topic_is_refused(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The topic was cut off, or is another one: what is in it now would be left out in silence."""
    topic = new_topic()
    records = topic.produce(lines(*"abc"))
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        admin.alter_group_offsets(topic.name, {TopicPartition(topic.name, 0): OffsetAndMetadata(1000, "", -1)})
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments).wait()
    assert ended.code == 1
    where = f"partition 0 is at 1000 for the group {topic.name}, but its end is 3"
    mend = "say where to start: --start earliest (or latest)"
    assert ended.stderr.endswith(f"The topic was deleted and created again, or cut off ({where}); {mend}\n")
    assert start_job(*arguments, "--start", "earliest").wait().code == 0
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_a_topic_that_was_made_anew_is_refused(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """By its id, or where the broker has none by its end."""
    topic = new_topic()
    topic.produce(lines(*"abc"))
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    arguments += ["--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert start_job(*arguments).wait().code == 0
    topic.delete()
    topic.create(partitions=1)
    topic.produce(lines("new"))
    ended = start_job(*arguments).wait()
    assert ended.code == 1
    if topic.has_id():
        assert f"The checkpoints in {tmp_path / 'checkpoints'} are of another job (id of the topic: " in ended.stderr
    else:
        assert "or cut off (partition 0 is at 3 for the checkpoint, but its end is 1); choose" in ended.stderr


def test_an_edit_that_would_lose_state_is_refused(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    topic.produce(lines("a"))
    arguments = [*topic.arguments(), "--output", str(tmp_path / "out"), "--no-drain"]
    arguments += ["--checkpoint-dir", str(tmp_path / "checkpoints")]
    job = start_job(*arguments)
    job.until(lambda: checkpoints(tmp_path / "checkpoints"), "a checkpoint")
    job.process.send_signal(signal.SIGINT)
    assert job.wait().code == 0
    [savepoint] = checkpoints(tmp_path / "checkpoints")

    uid = '.uid(f"count-in-{SHARDS}-shards")'
    ended = start_job(*arguments, script=edited(tmp_path / "edited", uid, '.uid("another-name")')).wait()
    assert ended.code == 1
    lost = f"the job has no operator 'count-in-128-shards' any more, whose state is in {savepoint}"
    other = "choose another folder: --checkpoint-dir DIR (or another savepoint: flink run -s SAVEPOINT)"
    mend = f"run the job as it was, or {other}"
    assert ended.stderr.endswith(f"Going on would lose counts: {lost}; {mend}\n")

    (savepoint / "_metadata").write_bytes((savepoint / "_metadata").read_bytes()[:500])
    ended = start_job(*arguments).wait()
    assert ended.code == 1
    assert f"The checkpoint {savepoint} cannot be read (" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_transaction_that_was_given_up_is_not_counted(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    with contextlib.closing(
        KafkaProducer(bootstrap_servers=topic.bootstrap_servers, transactional_id=topic.name)
    ) as producer:
        producer.init_transactions()
        for end in (producer.commit_transaction, producer.abort_transaction):
            producer.begin_transaction()
            producer.send(topic.name, end.__name__.encode(), timestamp_ms=START).get(10)  # else it may never be sent
            end()
    ended = start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(lines("commit_transaction"))
