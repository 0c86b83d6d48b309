"""`examples/sliding_windows.py`: the rows are compared with an independent count of each of the overlapping windows."""

import random
import signal
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import Job, Topic
from examples import sliding_windows
from support import (
    EPOCH,
    ROOT,
    START,
    Counts,
    Record,
    checkpoints,
    lines,
    random_lines,
    read_files,
)

SLIDING = ROOT / "examples" / "sliding_windows.py"


def expected_counts(records: Iterable[Record], window: int, slide: int) -> Counts:
    """The independent count: each word in each window that begins at a multiple of `slide` and has the word's time."""
    counts: Counts = {}
    for record in records:
        second = record.timestamp // 1000
        for start in range(second - window + 1, second + 1):
            if start % slide == 0:
                for word in record.value.decode().split():
                    row = (f"{EPOCH + timedelta(seconds=start):%Y-%m-%dT%H:%M:%SZ}", word)
                    counts[row] = counts.get(row, 0) + 1
    return counts


def test_window_must_be_a_multiple_of_slide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sliding_windows.py", "--window", "10", "--slide", "4"])
    with pytest.raises(SystemExit, match="2"):
        sliding_windows.main()
    assert capsys.readouterr().err.endswith("--window must be a multiple of --slide, and 10 is none of 4\n")


def test_bounded_with_records_out_of_order(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic(partitions=3)
    shuffle = random.Random(1)
    records = topic.produce(
        [
            Record(line.value, line.timestamp + shuffle.randrange(-4_000, 4_000), line.partition)
            for line in random_lines(1, 2_000, partitions=3)
        ]
    )
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out"), "--max-delay", "8"]
    ended = start_job(*arguments, "--window", "12", "--slide", "3", script=SLIDING).wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.count("\n") == 1, ended.stderr  # the address of the web UI
    assert read_files(tmp_path / "out") == expected_counts(records, 12, 3)


def test_late_words(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """A late word counts in those of its windows that are open; what it has missed is said."""
    topic = new_topic()
    records = topic.produce([*lines("one", "two", every=6_000), *lines("open", start=START + 12_000)])
    output = tmp_path / "out"
    job = start_job(*topic.arguments(), "--output", str(output), script=SLIDING)
    closed = {key: count for key, count in expected_counts(records, 10, 5).items() if key[0] <= "2023-11-14T22:13:20Z"}
    job.until(lambda: read_files(output) == closed, "the rows of the windows before 22:13:30")

    topic.produce(lines("gone gone", start=START + 2_000))  # its windows end at 22:13:25 and 22:13:30
    topic.produce(lines("half", start=START + 7_000))  # its windows end at 22:13:30 and 22:13:35
    job.wait_for_checkpoint_of(5)
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records, 10, 5) | {("2023-11-14T22:13:25Z", "half"): 1}
    assert "Words that came after their windows had closed, not counted (--max-delay): 2\n" in ended.stderr
    assert "Words that came after some of their windows had closed, not counted in these: 1\n" in ended.stderr


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(2, 2_000, partitions=2))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder), "--window", "20"]
    job = start_job(*arguments, script=SLIDING)
    job.until(lambda: checkpoints(folder) and read_files(output), "a checkpoint, and rows")
    job.end()
    records += topic.produce(random_lines(3, 200, partitions=2, start=START + 200_000))
    ended = start_job(*arguments, "--bounded", script=SLIDING).wait()
    assert ended.code == 0, ended.stderr
    assert "Going on from" in ended.stderr
    assert read_files(output) == expected_counts(records, 20, 5)

    ended = start_job(*arguments, "--slide", "10", script=SLIDING).wait()
    assert ended.code == 1
    assert "are of another job (state: counts per window of 20 s, one every 5 s, now" in ended.stderr
