"""A stop at a bad time: with a window that takes long to write, a partition that is new, partitions that turn idle."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from conftest import Cluster, Job, Topic
from support import (
    SCRIPT,
    SQL,
    START,
    Record,
    edited,
    expected_counts,
    get_json,
    lines,
    read_files,
    wait_for,
)
from test_cluster import job_id

pytestmark = pytest.mark.chaos
WINDOW = 100_000  # seconds; START is where one begins
GO_ON = "Nothing of what was read is lost: the same command goes on with --checkpoint-dir "


def different_words(number: int) -> list[Record]:
    """Lines of 1,000 words each, no word twice, a millisecond of event time apart."""
    words = [f"word-{one}" for one in range(number)]
    return lines(*[" ".join(words[start : start + 1000]) for start in range(0, number, 1000)], every=1)


def slow_stop(folder: Path, seconds: float) -> Path:
    """The script, but it takes so long for each of the 128 shards of a window, when it writes them."""
    rows = "        for _, counts in added:"
    return edited(folder / "slow", rows, f"        time.sleep({seconds})\n{rows}")


def writes_rows(output: Path) -> bool:
    """Whether rows are in a file that no checkpoint has committed; such a file is hidden."""
    return any(file.stat().st_size for file in output.rglob(".counts-*"))


def read_open_window(job: Job, topic: Topic, records: list[Record], output: Path) -> None:
    """Wait until a checkpoint has all records, of which no row is written."""
    job.web_ui()  # before a first job has asked for its offsets, a new broker has none to tell of
    job.until(lambda: topic.committed_records() == len(records), "all records in a checkpoint")
    assert not list(output.rglob("*.tsv*")), "the window has closed"


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_stop_takes_as_long_as_it_takes(
    seconds: float, new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """A million rows come out between Ctrl-C and the end, in about a second, or in half a minute.

    The process has a TMPDIR of its own.
    """
    topic = new_topic()
    records = topic.produce(different_words(1_000_000))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--window", str(WINDOW), "--output", str(output)]
    script = slow_stop(tmp_path, seconds) if seconds else SCRIPT
    job = start_process(*arguments, script=script, TMPDIR=str(tmp_path))
    read_open_window(job, topic, records, output)
    assert list(tmp_path.glob("checkpoints-*"))
    job.process.send_signal(signal.SIGINT)
    ended = job.wait(300)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.endswith("\nStopped: open windows are written, files and offsets are committed.\n")
    if seconds:
        said = job.stderr.read_text("utf-8")  # job.wait leaves this line out
        assert "Still stopping: all that was read is being written; a second Ctrl-C ends this at once.\n" in said
    assert read_files(output) == expected_counts(records, WINDOW)
    assert not list(tmp_path.glob("checkpoints-*"))


@pytest.mark.parametrize("moment", ["at once", "while rows are written"])
def test_second_ctrl_c_in_a_long_stop(
    moment: str, new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """What the last line says is so: that command writes all rows, and none twice. The second one ends the process."""
    topic = new_topic()
    records = topic.produce(different_words(1_000_000))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--window", str(WINDOW), "--output", str(output)]
    job = start_process(*arguments, script=slow_stop(tmp_path, 0.1), TMPDIR=str(tmp_path))
    read_open_window(job, topic, records, output)
    job.process.send_signal(signal.SIGINT)
    if moment == "while rows are written":
        job.until(lambda: writes_rows(output), "the first rows")

    def interrupted() -> bool:
        job.process.send_signal(signal.SIGINT)  # two that come at the same time are one
        return job.process.poll() is not None

    wait_for(interrupted, "the end of the job", 10)
    ended = job.wait()
    assert ended.code == 130, ended.stderr
    last_line = ended.stderr.splitlines()[-1]
    assert last_line.startswith(f"{GO_ON}{tmp_path}/checkpoints-"), ended.stderr
    assert read_files(output) == {}

    ended = start_process(*arguments, "--checkpoint-dir", last_line.removeprefix(GO_ON), "--bounded").wait(300)
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records, WINDOW)


def reads_partition(web_ui: str, partition: int) -> bool:
    """Whether the source has been given a partition: it has a metric for each of its own."""
    [job] = get_json(f"{web_ui}/jobs")["jobs"]
    vertices = get_json(f"{web_ui}/jobs/{job['id']}")["vertices"]
    metrics = get_json(f"{web_ui}/jobs/{job['id']}/vertices/{vertices[0]['id']}/subtasks/metrics")
    return any(metric["id"].endswith(f".partition.{partition}.currentOffset") for metric in metrics)


@pytest.mark.parametrize("keep", [False, True], ids=["no folder", "checkpoint folder"])
def test_stop_with_a_partition_that_is_new_and_empty(
    keep: bool, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Flink says -2 where it has read nothing of a partition, for its start; Kafka would take that for an offset."""
    topic = new_topic(partitions=1)
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output)]
    arguments += ["--checkpoint-dir", str(folder)] if keep else []
    job = start_job(*arguments)
    web_ui = job.web_ui()
    job.until(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        admin.create_partitions({topic.name: 2})
    job.until(lambda: reads_partition(web_ui, 1), "the new partition")
    job.process.send_signal(signal.SIGINT)
    ended = job.wait(60)
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        committed = {
            one.partition: found.offset for one, found in admin.list_group_offsets([topic.name])[topic.name].items()
        }
    assert committed == {0: 6, 1: 0}

    records += topic.produce(lines("in the new one", start=START + 10_000, partition=1))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert "missing" not in ended.stderr
    assert read_files(output) == expected_counts(records)


def test_sql_with_partitions_that_turn_idle(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """No record is older than any before it, so none is late, whichever partition is idle when it comes.

    A word that waits, for others to be added to it, when its partition turns idle is overtaken by the other partition.
    """
    topic = new_topic(partitions=2)
    output = tmp_path / "out"
    run = ["run", "--detached", "-p", "2", "--python", SQL, "--idle-timeout", "1", "--output", str(output)]
    job = job_id(cluster.flink(*run, *topic.arguments(), cwd=tmp_path))
    wait_for(lambda: cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["completed"], "a checkpoint")
    records: list[Record] = []
    for burst in range(12):
        start = START + burst * 5_000
        records += topic.produce(lines(*["a burst", f"number {burst}"] * 2, start=start, partition=burst % 2))
        time.sleep(1.5)  # the other partition is idle by now, and this one is when the next burst comes
    for partition in range(2):
        topic.produce(lines("closing", start=START + 1_000_000, partition=partition))
    wait_for(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows", 60)
    cluster.cancel(job)


@pytest.mark.parametrize("part", ["Python", "JVM"])
def test_kill_of_one_half_in_a_stop(
    part: str, chaos: random.Random, new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Whatever the stop had come to, the next run has all rows, and none twice. Processes are killed."""
    topic = new_topic()
    records = topic.produce(different_words(200_000))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--window", str(WINDOW), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_process(*arguments)
    read_open_window(job, topic, records, output)
    java = job.java()
    job.process.send_signal(signal.SIGINT)
    time.sleep(chaos.uniform(0, 1))  # the moment of the fault
    with contextlib.suppress(ProcessLookupError):  # the stop was quicker
        os.kill(java if part == "JVM" else job.process.pid, signal.SIGKILL)
    job.wait(60)
    wait_for(lambda: not Path(f"/proc/{java}").exists(), "the end of the JVM", 10)
    ended = start_process(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records, WINDOW)
