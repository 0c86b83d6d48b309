"""One Flink, many jobs: started once in this process, it is for the twentieth job what it was for the first."""

import logging
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka_job import Stop, run
from kafka_job.flink import gateway
from kafka_job.flink.connector import java_class
from kafka_job.flink.running import crash

import psutil
import pytest

import word_count
from conftest import Topic
from support import START, checkpoints, expected_counts, lines, parse_rows, random_lines, read_files, wait_for
from test_local_run import PRINTING


class Jobs:
    """Runs jobs of word_count.py on a topic, and looks at what each has left behind."""

    def __init__(self, topic: Topic, capture: pytest.CaptureFixture[str]) -> None:
        self.where = {"bootstrap_servers": topic.bootstrap_servers, "topic": topic.name, "group_id": topic.name}
        self.capture = capture
        self.number = 0

    def run(self, build: Callable[..., None] = word_count.build, stop: Stop | None = None, **flags: Any) -> str:
        """Run a job to its end; what it has printed. Raises SystemExit as `run` does."""
        before, stop = self.given_back(), stop or Stop()
        self.number += 1
        self.capture.readouterr()
        try:
            run("many", build, word_count.Options(**self.where | {"start": "earliest"} | flags), "words", stop=stop)
        finally:
            self.printed, self.said = self.capture.readouterr()
            assert self.given_back() == before
            ports = re.findall(r"web UI is on http://localhost:(\d+)", self.said)
            assert not {*map(int, ports)} & self.listening()
        return self.printed.removeprefix(PRINTING)

    def start(self, stop: Stop, **flags: Any) -> threading.Thread:
        """Run a job in another thread, so that this one can ask it to stop."""

        def job() -> None:
            try:
                self.run(stop=stop, **flags)
            except SystemExit as error:
                self.said = str(error)

        thread = threading.Thread(target=job)
        thread.start()
        wait_for(lambda: stop.running or not thread.is_alive(), "the job")
        return thread

    @property
    def java(self) -> psutil.Process:
        return psutil.Process(gateway.start(has_python=True).process.pid)

    def listening(self) -> set[int]:
        """The ports that this process's JVM listens on; other tests' jobs may have the same ones by now."""
        return {one.laddr.port for one in self.java.net_connections() if one.status == psutil.CONN_LISTEN}

    def given_back(self) -> dict[str, Any]:
        """What each job must give back."""
        return {
            "signals": [signal.getsignal(number) for number in gateway.SIGNALS],
            "variables": dict(os.environ),
            "log handlers": list(logging.getLogger().handlers),
        }


def kept_by_this_process() -> tuple[int, int]:
    """Its threads, and its open files."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def threads_of_java() -> int:
    """How many threads the JVM has."""
    return java_class("java.lang.Thread").getAllStackTraces().size()


def heap() -> int:
    """Megabytes of the JVM that are in use."""
    runtime = java_class("java.lang.Runtime").getRuntime()
    runtime.gc()
    return (runtime.totalMemory() - runtime.freeMemory()) // 2**20


def split_with_a_bug(batch: bytes) -> list[str]:
    return [1 / 0]


@pytest.mark.slow
def test_twenty_jobs_in_one_process(
    new_topic: Callable[..., Topic],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(1, 400, partitions=2) + lines("the end", start=START + 60_000))
    jobs, expected = Jobs(topic, capfd), expected_counts(records)
    kept, threads, used = [], [], []

    for round_ in range(2):
        for number in range(2):
            output = tmp_path / f"files-{round_}-{number}"
            assert jobs.run(output=str(output), bounded=True) == ""
            assert read_files(output) == expected
            assert parse_rows(jobs.run(bounded=True)) == expected

        with monkeypatch.context() as bug:
            bug.setattr(word_count, "split", split_with_a_bug)
            with pytest.raises(SystemExit, match=r"(?s)split_with_a_bug.*ZeroDivisionError: division by zero\nThe job"):
                jobs.run(bounded=True)
        with pytest.raises(SystemExit, match=r"^There is no topic missing on "):
            jobs.run(bounded=True, topic="missing")

        output, stop = tmp_path / f"stopped-{round_}", Stop()
        job = jobs.start(stop, output=str(output))
        wait_for(lambda output=output: read_files(output), "rows")
        stop.request()
        job.join(60)
        assert jobs.said.endswith("Stopped: open windows are written, files and offsets are committed.\n")
        assert read_files(output) == expected

        output, folder, stop = tmp_path / f"crashed-{round_}", tmp_path / f"kept-{round_}", Stop()
        flags = {"output": str(output), "checkpoint_dir": str(folder)}
        job = jobs.start(stop, **flags)
        wait_for(lambda folder=folder: checkpoints(folder), "a checkpoint")
        crash(stop.running)
        job.join(60)
        assert "The job has failed." in jobs.said or "was stopped by another program" in jobs.said
        assert not job.is_alive()
        jobs.run(**flags, bounded=True)
        assert jobs.said.startswith("Going on from")
        assert read_files(output) == expected

        jobs.run(bounded=True, start="latest")
        kept.append(kept_by_this_process())
        threads.append(threads_of_java())
        used.append(heap())

    assert jobs.number == 20
    assert kept[0] == kept[1], "threads, open files"
    wait_for(lambda: threads_of_java() <= threads[0], "the end of the last job's threads in Java")
    assert not [file.path for file in jobs.java.open_files() if file.path.startswith(str(tmp_path))]
    assert used[1] < used[0] + 30, "megabytes of the JVM's heap"
