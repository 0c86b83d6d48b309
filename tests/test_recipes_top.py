"""`examples/top_ten.py`: its rows are compared with what an independent count of all words gives."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from conftest import Cluster, Job, Topic
from examples import top_ten
from support import (
    ROOT,
    START,
    Record,
    checkpoints,
    expected_counts,
    lines,
    random_lines,
    wait_for,
)
from test_cluster import job_id

TOP_TEN = ROOT / "examples" / "top_ten.py"

Rows = list[tuple[str, int, str, int]]  # (window start, rank, word, count)


def ranking(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The independent ranking: all words in order, cut off after ten."""
    in_order_of_words = sorted(counts.items())
    return sorted(in_order_of_words, key=lambda item: item[1], reverse=True)[:10]  # sorted() keeps the order of equals


def expected_rows(records: Iterable[Record]) -> Rows:
    windows: dict[str, dict[str, int]] = defaultdict(dict)
    for (window_start, word), count in expected_counts(records).items():
        windows[window_start][word] = count
    return [
        (window_start, rank, word, count)
        for window_start, counts in sorted(windows.items())
        for rank, (word, count) in enumerate(ranking(counts), start=1)
    ]


def parse_rows(text: str) -> Rows:
    """The rows of each window are one text, so they are in their order; windows may not be."""
    rows = [row.split("\t") for row in text.split("\n")[:-1]]
    return sorted(((window, int(rank), word, int(count)) for window, rank, word, count in rows), key=lambda row: row[0])


def read_rows(folder: Path) -> Rows:
    """The rows in the visible files of an output folder."""
    files = sorted(folder.rglob("counts-*.tsv")) if folder.exists() else []
    return parse_rows("".join(file.read_text("utf-8") for file in files))


def test_of_equal_counts_the_first_word_wins() -> None:
    counts = Counter("zyxwvutsrqponmzöZ")
    assert top_ten.top(counts) == [("z", 2), ("Z", 1), *((word, 1) for word in "mnopqrst")]


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 5)))
def test_top_against_a_full_sort(counts: dict[str, int]) -> None:
    assert top_ten.top(Counter(counts)) == ranking(counts)


# --- Runs -----------------------------------------------------------------------------------------------------------


def test_bounded(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """Windows with many words, with ties, with fewer than ten, with none; a uid is asked of each operator."""
    topic = new_topic(partitions=2)
    words = [f"word{number}" for number in range(5_000)]
    many = " ".join(words + random.Random(1).choices(words, k=5_000))
    records = topic.produce(
        [
            *random_lines(1, 300, partitions=1),
            *lines(many, many, start=START + 20_000),
            *lines("few words", "few", start=START + 30_000),
            *lines("", " ", start=START + 40_000),
        ]
    )
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, script=TOP_TEN, settings={"pipeline.auto-generate-uids": "false"}).wait()
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    rows = read_rows(tmp_path / "out")
    assert rows == expected_rows(records)
    assert [rank for *_, rank, _, _ in rows[-2:]] == [1, 2]


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """The window that was open counts on; a record that is late after the kill is told from it."""
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(2, 6_000, partitions=2))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(
        *arguments, "--idle-timeout", "0", script=TOP_TEN, slow=True
    )  # a partition may wait for its turn for long
    job.until(lambda: len(checkpoints(folder)) and read_rows(output), "a checkpoint, and rows")
    job.end()
    written = read_rows(output)
    assert written != expected_rows(records), "it was over before it was killed"

    topic.produce(lines("late word", start=START - 100_000))
    # One in each partition, so that none holds the last window back: how long a partition is idle says the machine.
    for partition in range(2):
        records += topic.produce(lines("after the kill", start=START + 500_000, partition=partition))
    ended = start_job(*arguments, "--idle-timeout", "0", "--bounded", script=TOP_TEN).wait()
    assert ended.code == 0, ended.stderr
    assert "Going on from" in ended.stderr
    assert "\nWords that came after their windows had closed, not counted (--max-delay): 2\n" in ended.stderr
    assert read_rows(output) == expected_rows(records)


def test_flink_run_until_it_is_drained(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """Three workers, each with a partition; the source is idle in between, and at the stop."""
    topic = new_topic(partitions=3)
    output = tmp_path / "out"
    # With a delay, since a partition's records may come some seconds after those of the others, on a busy machine.
    times = ["--idle-timeout", "2", "--max-delay", "10"]
    run = ["--python", TOP_TEN, "--output", str(output), *times, *topic.arguments()]
    job = job_id(cluster.flink("run", "--detached", "-p", "3", *run, cwd=tmp_path))
    records: list[Record] = []
    for start in range(START, START + 40_000, 20_000):
        closed = expected_rows(records)
        words = [random_lines(start + partition, 60, partitions=1, start=start) for partition in range(3)]
        records += topic.produce(
            [Record(line.value, line.timestamp, partition) for partition in range(3) for line in words[partition]]
        )
        # All, before later ones come: a worker that begins with both would have the others' records be late.
        cluster.wait_for_checkpoint_of(len(records), job)
        wait_for(lambda closed=closed: read_rows(output) == closed, "the rows of the windows that are closed now")
    cluster.stop_job(job, tmp_path / "savepoints", drain=True)
    assert read_rows(output) == expected_rows(records)
    names = " ".join(vertex["name"] for vertex in cluster.rest(f"/jobs/{job}")["vertices"])
    for name in ("batch lines", "count in batch", "count per window of 5 s", "write files"):
        assert name in names
    assert "Map" not in names
