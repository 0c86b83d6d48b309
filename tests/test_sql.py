"""examples/word_count_sql.py counts as Python does, and goes on from its checkpoints."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from conftest import CHAOS_SEED, Job, Topic
from support import (
    SQL,
    START,
    expected_counts,
    fuzzed_records,
    lines,
    random_lines,
    read_files,
    wait_for,
)

TRICKY = [  # spaces of Python and of Java, what only looks like one, and what SQL or a pattern may take for its own
    *map(chr, [*range(33), 0x7F, 0x84, 0x85, 0x86, 0xA0, 0xAD, 0x1680, 0x180E, *range(0x2000, 0x2010)]),
    *"\u2028\u2029\u202a\u202f\u205f\u2060\u3000\ufeff\ufffe\uffff\ufffd\u0301\ue000",
    *"\U00010000\U0001f600\U0002fffe\U0010ffff\U000a2028",
    *"'\"\\$^[]%_\tnsx",
]


VALID = st.none() | st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"])).map(str.encode)


def test_same_rows_as_python(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """On any valid UTF-8 and nulls, out of order, and on each character of Unicode."""
    topic = new_topic(partitions=2)
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    every = "".join(f"a{chr(point)}b" if point < 0x10000 else chr(point) for point in points)
    pieces = [every[start : start + 200_000] for start in range(0, len(every), 200_000)]
    records = fuzzed_records(500, random_seed=CHAOS_SEED, values=VALID)  # others in each run
    records += lines(*pieces, "x" * 900_000, "a " * 450_000, "\u3000".join(["é"] * 9))
    topic.produce(records)
    arguments = [*topic.arguments(), "--start", "earliest", "--bounded", "--max-delay", str(60 * 366 * 24 * 3600)]
    ended = start_job(*arguments, "--output", str(tmp_path / "out"), script=SQL).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_kill(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """Killed when all is read and in a checkpoint, and nothing is written: the words are only in SQL's state."""
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(4, 2_000, partitions=2))
    output, folder = tmp_path / "out", tmp_path / "check"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder), "--window", "100000"]
    job = start_job(*arguments, script=SQL)
    job.wait_for_checkpoint_of(2_000)
    job.end()
    assert read_files(output) == {}

    records += topic.produce(random_lines(5, 200, partitions=2))
    ended = start_job(*arguments, "--bounded", script=SQL).wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith(f"Going on from {folder}/")
    assert read_files(output) == expected_counts(records, window=100_000)


@pytest.mark.parametrize("drain", [True, False])
def test_stop(drain: bool, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """The next run goes on: with drain behind all windows, without it in the one that is open."""
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(tmp_path / "check")]
    job = start_job(*arguments, *([] if drain else ["--no-drain"]), script=SQL)
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records if drain else records[:5])

    more = topic.produce(lines("open", "open", start=START + (10_000 if drain else 6_000)))
    ended = start_job(*arguments, "--bounded", script=SQL).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records + more)
