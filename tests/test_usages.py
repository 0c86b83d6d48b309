"""What a user types, as a user types it: in processes of their own, and on a cluster that Flink's scripts have started.

The other tests of jobs run them in processes that have Flink already.
"""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fetch
from conftest import Cluster, Job, Topic
from support import (
    ROOT,
    SCRIPT,
    START,
    checkpoints,
    expected_counts,
    lines,
    parse_rows,
    random_lines,
    read_files,
    slow_script,
    wait_for,
)
from test_cluster import job_id
from test_local_run import messy_records


def test_bounded_run_to_files(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(messy_records())
    ended = start_process(*topic.arguments(), "--bounded", "--output", "out/").wait()
    assert (ended.code, ended.stdout) == (0, "")
    _, *report = ended.stderr.splitlines()
    assert sorted(report) == [
        "Lines with bytes that are not UTF-8: 2",
        "Records with a null value (tombstones), not counted: 2",
    ]
    output = tmp_path / "elsewhere" / "out"  # a relative path is one of the working directory
    assert read_files(output) == expected_counts(records)
    assert all(file.match("????-??-??/counts-*.tsv") for file in output.rglob("*") if file.is_file())


def test_stop_writes_open_windows_and_commits(
    new_topic: Callable[..., Topic],
    start_process: Callable[..., Job],
    start_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """Ctrl-C; the signal goes to the whole group, as from a terminal. What others do, tests/test_doors.py shows."""
    topic = new_topic(partitions=2)
    closed = topic.produce(lines(*["closed window"] * 5))
    still_open = topic.produce(lines("still open", start=START + 5000))
    job = start_process(*topic.arguments(), "--output", str(tmp_path / "out"), "--idle-timeout", "1")
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(closed), "the row of the closed window")

    os.killpg(job.process.pid, signal.SIGINT)
    ended = job.wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.endswith("\nStopped: open windows are written, files and offsets are committed.\n")
    assert ended.stderr.count("\n") == 2, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(closed + still_open)
    assert not [file for file in (tmp_path / "out").rglob("*") if "inprogress" in file.name]

    new = topic.produce(lines("only what is new", start=START + 10_000))
    assert start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / "next")).wait().code == 0
    assert read_files(tmp_path / "next") == expected_counts(new)


@pytest.mark.slow
def test_second_ctrl_c_ends_at_once(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(lines("closed", start=START) + lines("open", start=START + 5000))
    job = start_process(*topic.arguments(), "--output", str(tmp_path / "out"))
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(records[:1]), "the row of the closed window")

    def interrupted() -> bool:
        job.process.send_signal(signal.SIGINT)
        return job.process.poll() is not None

    wait_for(interrupted, "the end of the job", 10)
    assert job.process.returncode == 130


def test_kill_of_a_bounded_run(
    new_topic: Callable[..., Topic],
    start_process: Callable[..., Job],
    start_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """As kill -9 does: the process is gone, with its JVM."""
    topic = new_topic(partitions=3)
    # The third partition is read to its end long before the others: a checkpoint no longer holds it.
    records = topic.produce(random_lines(4, 6_000, partitions=2) + lines("short", partition=2))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--bounded", "--output", str(output), "--checkpoint-dir", str(tmp_path / "check")]
    job = start_process(*arguments, script=slow_script(tmp_path))
    job.until(lambda: checkpoints(tmp_path / "check"), "a checkpoint")
    job.end()
    assert read_files(output) != expected_counts(records), "it was over before it was killed"

    after = topic.produce(lines("after the kill", start=START + 500_000))
    ended = start_job(*arguments).wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith(f"Going on from {tmp_path}/check/")
    records += after
    assert read_files(output) == expected_counts(records)


def test_flink_stop_and_run_from_the_savepoint(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """The window that is open at the stop is in the savepoint, and the next job counts on in it."""
    topic = new_topic(partitions=2)
    records = topic.produce(lines(*["stop, слово"] * 5, "and", "go on"))
    output = tmp_path / "out"
    run = ["--detached", "--python", "word_count.py", "--output", str(output), *topic.arguments()]
    run += ["--idle-timeout", "1"]
    job = job_id(cluster.flink("run", *run, cwd=ROOT))
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    stopped = cluster.flink("stop", "--savepointPath", str(tmp_path / "savepoints"), job)
    savepoint = re.search(r"Savepoint completed. Path: (\S+)", stopped.stdout)[1]
    assert read_files(output) == expected_counts(records[:5])

    records += topic.produce(lines("go on", start=START + 7_000))
    topic.produce(lines("closing", start=START + 10_000))
    job_id(cluster.flink("run", "-s", savepoint, *run, cwd=ROOT))
    wait_for(lambda: read_files(output) == expected_counts(records), "the row of the window that was open")


@pytest.mark.slow
def test_flink_run_with_the_flags_of_the_classic_tutorial(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """The jar by --jarfile, Python by path, the script from elsewhere, nobody waits; a TaskManager prints the rows.

    There they are no live table, though the script is asked for one.
    """
    topic = new_topic(partitions=3)
    records = topic.produce([*lines(*["classic 言葉"] * 30), *lines(*["run"] * 30, partition=1, every=500)])
    jar = os.path.relpath(fetch.jar_path(), tmp_path)
    before = cluster.printed()
    classic = ["--jarfile", jar, "-pyexec", sys.executable, "-pyclientexec", sys.executable, "-p", "2", "--detached"]
    ended = cluster.flink("run", *classic, "--python", SCRIPT, "--bounded", "--live", *topic.arguments(), cwd=tmp_path)
    job = job_id(ended)
    wait_for(lambda: cluster.rest(f"/jobs/{job}")["state"] == "FINISHED", "the end of the job")
    live = "--live is for local runs; on a cluster rows go to the .out file of a TaskManager.\n"
    assert f"{live}Printing result to stdout. Use --output to specify output path.\n" in ended.stdout
    assert parse_rows(cluster.printed().removeprefix(before)) == expected_counts(records)
