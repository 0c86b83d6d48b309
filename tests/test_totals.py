"""`examples/running_totals.py`: the last row of each word is compared with an independent count of the whole input."""

import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from conftest import Cluster, Job, Topic
from support import ROOT, START, TOTALS, Record, checkpoints, get_json, lines, random_lines
from test_cluster import job_id, rescaled


def expected_totals(records: Iterable[Record]) -> dict[str, int]:
    """The independent count, over all of the input."""
    return Counter(word for record in records if record.value for word in record.value.decode().split())


def read_rows(folder: Path) -> list[tuple[str, str, int]]:
    """All visible rows, in no particular order."""
    text = "".join(file.read_text("utf-8") for file in folder.rglob("counts-*.tsv")) if folder.exists() else ""
    rows = [line.split("\t") for line in text.split("\n")[:-1]]
    return [(updated_at, word, int(total)) for updated_at, word, total in rows]


def last_totals(folder: Path) -> dict[str, int]:
    """What the command in the documentation makes of the rows."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    command = re.search(r"^\$ (cat out/totals/.*awk.*)$", page, re.MULTILINE)[1].replace("out/totals/", f"{folder}/")
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60).stdout
    return {word: int(total) for word, total in (line.split("\t") for line in printed.splitlines())}


@pytest.mark.parametrize("max_delay", ["8", "0"], ids=["in time", "many late"])
def test_bounded_with_records_out_of_order(
    max_delay: str, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic(partitions=3)
    shuffle = random.Random(7)
    records = [
        Record(line.value, line.timestamp + shuffle.randrange(-4_000, 4_000), line.partition)
        for line in random_lines(7, 3_000, partitions=3)
    ]
    topic.produce(records)
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--bounded", "--output", str(output)]
    ended = start_job(*arguments, "--max-delay", max_delay, script=TOTALS).wait()
    assert ended.code == 0, ended.stderr
    assert last_totals(output) == expected_totals(records)
    rows = read_rows(output)
    assert len({(updated_at, word) for updated_at, word, _ in rows}) == len(rows), "two rows of a word in one second"
    assert max(updated_at for updated_at, _, _ in rows).startswith("2023-11-14T22:1")


def test_stop_with_drain(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """A total follows each change while the job runs; the last one is written by the stop."""
    topic = new_topic()
    records = topic.produce(lines("one", "one two", "one"))
    output = tmp_path / "out"
    job = start_job(*topic.arguments(), "--output", str(output), script=TOTALS)
    rows = [("2023-11-14T22:13:20Z", "one", 1), ("2023-11-14T22:13:21Z", "one", 2), ("2023-11-14T22:13:21Z", "two", 1)]
    job.until(lambda: sorted(read_rows(output)) == rows, "the rows of the seconds that have passed")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait().code == 0
    assert sorted(read_rows(output)) == [*rows, ("2023-11-14T22:13:22Z", "one", 3)]
    assert last_totals(output) == expected_totals(records)


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic(partitions=3)
    records = topic.produce(random_lines(8, 8_000, partitions=3))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments, "--max-delay", "60", script=TOTALS)
    job.until(lambda: checkpoints(folder), "a checkpoint")
    job.end()
    records += topic.produce(lines("after the kill", start=START + 500_000))
    ended = start_job(*arguments, "--max-delay", "60", "--bounded", script=TOTALS).wait()
    assert ended.code == 0, ended.stderr
    assert "Going on from" in ended.stderr
    assert last_totals(output) == expected_totals(records)
    rows = read_rows(output)
    assert len(set(rows)) == len(rows), "written twice"


@pytest.mark.chaos
def test_rescaling_from_savepoints(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """One subtask, then three, then two: the totals move with their shards."""
    topic = new_topic(partitions=3)
    records: list[Record] = []
    run = ["--python", TOTALS, "--output", str(tmp_path / "out"), "--max-delay", "60", *topic.arguments()]

    def produce(number: int) -> None:
        records.extend(topic.produce(random_lines(number, 600, partitions=3, start=START + number * 60_000)))

    job = rescaled(cluster, run, tmp_path / "savepoints", produce)
    job_id(cluster.flink("run", "-s", cluster.stop_job(job, tmp_path / "savepoints"), *run, "--bounded"))
    assert last_totals(tmp_path / "out") == expected_totals(records)


def test_state_ttl(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """A word that was not seen for so long starts again at 1, and checkpoints get smaller."""
    topic = new_topic()
    topic.produce(lines("word word", " ".join(f"rare{number}" for number in range(5_000)), "tick"))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--output", str(output), "--state-ttl", "5"]
    job = start_job(*arguments, script=TOTALS)
    job.until(lambda: len(read_rows(output)) >= 5_001, "the first rows")

    def state_size() -> int:
        [of_job] = get_json(f"{job.web_ui()}/jobs")["jobs"]
        return get_json(f"{job.web_ui()}/jobs/{of_job['id']}/checkpoints")["latest"]["completed"]["state_size"]

    full = state_size()
    ticks = iter(range(3, 10_000))

    def shrunk() -> bool:
        words = " ".join(f"tick{number}" for number in range(500))  # what is expired goes as other words come
        topic.produce(lines(words, start=START + 1000 * next(ticks)))
        return state_size() < full / 2

    job.until(shrunk, "a smaller checkpoint")
    topic.produce(lines("word", start=START + 20_000_000) + lines("tick", start=START + 20_001_000))
    job.until(lambda: [row for row in read_rows(output) if row[0] > "2023-11-15"], "the row of the word")
    assert sorted(total for _, word, total in read_rows(output) if word == "word") == [1, 2]
