"""`examples/enrich.py`: the rows are compared with an independent count of the categories; bad tables are refused."""

import pickle
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import cloudpickle
import pytest

from conftest import Job, Topic
from examples import enrich
from support import EPOCH, ROOT, START, Counts, Record, checkpoints, lines, random_lines, read_files

ENRICH = ROOT / "examples" / "enrich.py"
# Of the words of random_lines: word0 to word9 are 'small', 'слово' has a category with a space, word10 to 49 have none.
TABLE = {f"word{number}": "small" for number in range(10)} | {"слово": "not Latin"}


def write_table(file: Path) -> Path:
    """A file with TABLE."""
    file.write_text("".join(f"{word}\t{category}\n" for word, category in TABLE.items()), "utf-8")
    return file


def expected_counts(records: Iterable[Record], window: int = 5) -> Counts:
    """The independent count."""
    counts: Counts = Counter()
    for record in records:
        second = record.timestamp // 1000
        start = f"{EPOCH + timedelta(seconds=second - second % window):%Y-%m-%dT%H:%M:%SZ}"
        counts.update((start, TABLE.get(word, "other")) for word in record.value.decode().split())
    return counts


def test_read_table(tmp_path: Path) -> None:
    assert enrich.read_table(str(write_table(tmp_path / "table"))) == TABLE
    file = tmp_path / "other editors"
    file.write_bytes(b"\xef\xbb\xbfa\tx\r\n\r\nb\ty z\r\na\tx")  # a byte order mark, line ends of Windows, a blank line
    assert enrich.read_table(str(file)) == {"a": "x", "b": "y z"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "--table table cannot be read: No such file or directory"),
        (b"a\tx\nb\xff\ty\n", "--table table is not UTF-8: invalid start byte at byte 5"),
        (b"a\tx\nb\n", "Line 2 of --table table is not a word, a tab and a category: 'b'"),
        (b"a x\n", "Line 1 of --table table is not a word, a tab and a category: 'a x'"),
        (b"two words\tx\n", "Line 1 of --table table is not a word, a tab and a category: 'two words\\tx'"),
        (b"a\t\n", "Line 1 of --table table is not a word, a tab and a category: 'a\\t'"),
        (b"a\tx\ty\n", "Line 1 of --table table is not a word, a tab and a category: 'a\\tx\\ty'"),
        (b"a\tx\na\ty\n", "Line 2 of --table table gives 'a' a second category: y"),
    ],
)
def test_bad_table(
    content: bytes | None,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("table").write_bytes(content)
    with pytest.raises(SystemExit) as refused:
        enrich.read_table("table")
    assert refused.value.code == complaint


def test_no_word_is_left_out() -> None:
    function = pickle.loads(cloudpickle.dumps(enrich.FindCategories({"apple": "fruit", "pear": "fruit"})))
    assert function(b"apple pear\napple the\n") == ["fruit", "fruit", "fruit", "other"]
    assert function(b"\n") == []


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic(partitions=3)
    records = topic.produce(random_lines(1, 3_000, partitions=3))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = ["--table", str(write_table(tmp_path / "table")), *topic.arguments(), "--output", str(output)]
    arguments += ["--checkpoint-dir", str(folder), "--max-delay", "1"]  # partitions are read in turn
    job = start_job(*arguments, script=ENRICH)
    job.until(lambda: checkpoints(folder) and read_files(output), "a checkpoint, and rows")
    job.end()
    records += topic.produce(random_lines(2, 200, partitions=3, start=START + 200_000))
    ended = start_job(*arguments, "--bounded", script=ENRICH).wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.startswith("Going on from"), ended.stderr
    assert ended.stderr.count("\n") == 2, ended.stderr  # and the address of the web UI
    assert read_files(output) == expected_counts(records)


def test_late_words(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic()
    records = topic.produce(lines(*["word1"] * 5, "word2 none"))
    output = tmp_path / "out"
    arguments = ["--table", str(write_table(tmp_path / "table")), *topic.arguments(), "--output", str(output)]
    job = start_job(*arguments, script=ENRICH)
    job.until(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    topic.produce(lines("word3 word4 late"))
    job.wait_for_checkpoint_of(7)
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert "Words that came after their windows had closed, not counted (--max-delay): 3\n" in ended.stderr
    assert read_files(output) == expected_counts(records)
