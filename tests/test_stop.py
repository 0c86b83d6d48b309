"""Ctrl-C, SIGTERM and SIGHUP end a local run in good order."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Job, Topic
from support import START, expected_counts, lines, read_files, wait_for


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop_writes_open_windows_and_commits(
    number: signal.Signals, new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """In processes of their own, since the signal goes to the whole group, as from a terminal."""
    topic = new_topic(partitions=2)
    closed = topic.produce(lines(*["closed window"] * 5))
    still_open = topic.produce(lines("still open", start=START + 5000))
    job = start_process(*topic.arguments(), "--output", str(tmp_path / "out"), "--idle-timeout", "1")
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(closed), "the row of the closed window")

    # As a terminal does with SIGINT and SIGHUP, and systemd or a container's init with SIGTERM: Java gets it as well.
    os.killpg(job.process.pid, number)
    ended = job.wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.endswith("\nStopped: open windows are written, files and offsets are committed.\n")
    assert ended.stderr.count("\n") == 2, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(closed + still_open)
    assert not [file for file in (tmp_path / "out").rglob("*") if "inprogress" in file.name]

    if number == signal.SIGINT:  # once is enough
        new = topic.produce(lines("only what is new", start=START + 10_000))
        assert start_process(*topic.arguments(), "--bounded", "--output", str(tmp_path / "next")).wait().code == 0
        assert read_files(tmp_path / "next") == expected_counts(new)


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
