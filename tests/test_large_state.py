"""More state than the heap holds: RocksDB, by two of Flink's settings, keeps it on disk."""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Job, Topic
from support import TOTALS, edited, get_json, lines
from test_totals import expected_totals, last_totals

pytestmark = pytest.mark.chaos
HEAP = "-Xmx256m"
RUN = 'run("running_totals", build, options, state'
ROCKSDB = {"state.backend.type": "rocksdb", "execution.checkpointing.incremental": "true"}


def newest_checkpoint(job: Job) -> dict[str, Any]:
    """What the REST API tells of it."""
    [of_job] = get_json(f"{job.web_ui()}/jobs")["jobs"]
    return get_json(f"{job.web_ui()}/jobs/{of_job['id']}/checkpoints")["latest"]["completed"]


def test_running_totals_of_more_words_than_the_heap_holds(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """In a process of its own, since each has its own heap."""
    topic = new_topic()
    words = [f"word-{number:07d}-{'x' * 300}" for number in range(1_000_000)]
    some = [" ".join(words[start : start + 1000]) for start in range(0, len(words), 1000)]
    records = topic.produce(lines(*some, every=10))

    on_heap = [*topic.arguments(), "--start", "earliest", "--output", str(tmp_path / "on-heap")]
    ended = start_process(*on_heap, "--bounded", script=TOTALS, JVM_ARGS=HEAP).wait(600)
    assert ended.code == 1
    assert "Nothing of what was read is lost" in ended.stderr
    assert re.search("OutOfMemoryError|out of memory|GC overhead", ended.stderr), ended.stderr

    script = edited(tmp_path / "rocksdb", RUN, f"{RUN}, {ROCKSDB}", TOTALS)
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--start", "earliest", "--output", str(output)]
    job = start_process(*arguments, script=script, JVM_ARGS=HEAP)
    job.until(lambda: topic.committed_records() == len(records), "all records in a checkpoint", 900)

    # A checkpoint uploads what is new since the last one.
    records += topic.produce(lines("one more", start=records[-1].timestamp + 2000))
    job.until(lambda: topic.committed_records() == len(records), "the last record in a checkpoint")

    def is_incremental() -> bool:
        newest = newest_checkpoint(job)
        return newest["checkpointed_size"] < newest["state_size"] / 10  # RocksDB compresses its files

    job.until(is_incremental, "a checkpoint that uploads little")
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait(600)
    assert ended.code == 0, ended.stderr
    assert last_totals(output) == expected_totals(records)
