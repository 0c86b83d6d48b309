"""`python word_count.py` against a real broker: every count is compared with the independent one."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition

from conftest import Job, Topic
from support import (
    START,
    Record,
    expected_counts,
    lines,
    own_job,
    parse_rows,
    random_lines,
    read_files,
    wait_for,
)

PRINTING = "Printing result to stdout. Use --output to specify output path.\n"

MESSY = [
    b"",
    b"   \t  ",
    b"hello hello\tworld",
    b"dos line end\r\n",
    b" form\x0cfeed vertical\x0btab\x1cfile separator",
    "no-break\u00a0space, next\u0085line, line\u2028separator, ideographic\u3000space".encode(),
    "zero\u200bwidth is one word".encode(),
    "слово 言葉 ἔργον 🦊 e\u0301 é".encode(),
    b"nul \x00 in\x00side",
    b"invalid \xff\xfe utf-8 \xc3\x28 cut \xe2\x82",
    b"\xed\xa0\x80 surrogate",
    b"\xef\xbb\xbfbyte-order mark",
    b"wide" * 100_000 + b" " + (b"long" * 25 + b" ") * 4_950,  # 900 kB
    b'"quotes" \\ back\\slash {"json": 1}',
]


def messy_records() -> list[Record]:
    """Everything that a topic can hold and that has stopped a job somewhere."""
    records = [Record(value, START + number * 700) for number, value in enumerate(MESSY)]
    records.insert(3, Record(None, START + 2100, key=b"tombstone"))
    records.append(Record(None, START + 20_000, key=b"tombstone"))
    records.append(
        Record(b"with key and headers", START + 20_000, key=b"\x00key", headers=[("h", b"\xff"), ("h", b"")])
    )
    return records


def is_clean(stderr: str) -> bool:
    """Whether stderr holds nothing but the line with the address of the web UI."""
    return stderr.count("\n") == 1 and stderr.startswith("Flink's web UI is on http://localhost:")


def test_a_job_in_a_folder_of_its_own(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """It imports kafka_job from the environment, and a module of its own from beside it."""
    topic = new_topic()
    records = topic.produce(random_lines(3, 100, partitions=1))
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, script=own_job(tmp_path / "own")).wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert is_clean(ended.stderr), ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_bounded_run_to_stdout_with_an_idle_partition(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job]
) -> None:
    topic = new_topic(partitions=3)
    words = random.Random(1).choices(["to", "be", "or", "not", "ἤ"], k=600)
    values = [" ".join(words[start : start + 3]) for start in range(0, 600, 3)]
    records = topic.produce(lines(*values[:100], partition=0) + lines(*values[100:], partition=2, every=700))
    ended = start_job(*topic.arguments(), "--bounded", "--window", "7").wait()
    assert ended.code == 0
    assert is_clean(ended.stderr), ended.stderr
    assert ended.stdout.startswith(PRINTING)
    assert parse_rows(ended.stdout.removeprefix(PRINTING)) == expected_counts(records, window=7)


def test_bounded_run_on_an_empty_topic(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    ended = start_job(*new_topic(partitions=2).arguments(), "--bounded", "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0
    assert is_clean(ended.stderr), ended.stderr
    assert read_files(tmp_path / "out") == {}


def test_files_appear_while_the_job_runs(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Finished windows become visible though one partition has no records, and the open window stays open."""
    topic = new_topic(partitions=3)
    records = topic.produce(lines(*["round one"] * 10, partition=0) + lines(*["round two"] * 10, partition=2))
    open_window = topic.produce(
        lines("still open", start=START + 10_000) + lines("open", start=START + 10_000, partition=2)
    )
    job = start_job(*topic.arguments(), "--output", str(tmp_path / "out"), "--idle-timeout", "1")
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(records), "the rows of two windows")
    assert job.process.poll() is None, "the job has ended by itself"

    records += open_window
    closing = lines("closing", start=START + 15_000) + lines("closing", start=START + 15_000, partition=2)
    topic.produce(closing)
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(records), "the rows of the third window")
    assert job.process.poll() is None, "the job has ended by itself"


def test_a_partition_with_a_wrong_clock_holds_nothing_back(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """All of its records are further ahead than --max-ahead, and they come all the time."""
    topic = new_topic(partitions=2)
    records = topic.produce(lines("closed"))
    topic.produce(lines("open", start=START + 10_000))
    job = start_job(*topic.arguments(), "--output", str(tmp_path / "out"), "--idle-timeout", "2", "--max-ahead", "60")

    def first_row() -> bool:
        topic.produce([Record(b"ahead", int(time.time() * 1000) + 1_000_000, 1)])
        return read_files(tmp_path / "out") == expected_counts(records)

    job.until(first_row, "the row of the closed window")
    job.process.send_signal(signal.SIGINT)
    assert job.wait().code == 0


def test_out_of_order_within_max_delay_is_counted(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    shuffle = random.Random(2)
    records = [Record(b"a b a", START + shuffle.randrange(-10_000, 0) + number * 500) for number in range(200)]
    topic.produce(records)
    ended = start_job(*topic.arguments(), "--bounded", "--max-delay", "10", "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_out_of_order_beyond_max_delay_is_dropped_and_said(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """A record that comes after its window's row was written does not write it again; a metric counts its words."""
    topic = new_topic()
    counted = topic.produce(lines("first", start=START) + lines("third", start=START + 12_000))
    job = start_job(*topic.arguments(), "--max-delay", "5", "--output", str(tmp_path / "out"))
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(counted[:1]), "the row of the first window")

    topic.produce([*lines("too late", start=START + 4_999), Record(None, START + 13_000, key=b"tombstone")])
    counted += topic.produce(lines("second and just in time", start=START + 9_999))
    counted += topic.produce([Record(b"\xff", START + 20_000)])
    wait_for(lambda: read_files(tmp_path / "out") == expected_counts(counted[:-1]), "the rows of the other windows")
    metrics = {"lateWords": 2, "nullValues": 1, "invalidLines": 1}
    wait_for(lambda: {name: job.metric(name) for name in metrics} == metrics, "the metrics")

    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0
    assert read_files(tmp_path / "out") == expected_counts(counted)
    _, *report = ended.stderr.splitlines()
    assert sorted(report) == [
        "Lines with bytes that are not UTF-8: 1",
        "Records with a null value (tombstones), not counted: 1",
        "Stopped: open windows are written, files and offsets are committed.",
        "Words that came after their windows had closed, not counted (--max-delay): 2",
    ]


def test_start_offsets(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """A run goes on where the last one of its group has ended, unless --start says otherwise."""
    topic = new_topic()

    def count(output: str, *flags: str) -> dict[tuple[str, str], int]:
        ended = start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / output), *flags).wait()
        assert ended.code == 0, ended.stderr
        return read_files(tmp_path / output)

    old = topic.produce(lines("old words"))
    assert count("first") == expected_counts(old)
    new = topic.produce(lines("new words", start=START + 60_000))
    assert count("second") == expected_counts(new)
    assert count("third", "--start", "earliest") == expected_counts(old + new)
    assert count("fourth", "--start", "latest") == {}


def test_records_that_were_deleted_before_they_were_read_are_said(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Kafka's retention does not wait for readers."""
    topic = new_topic()
    records = topic.produce(lines(*"abcde"))
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        partition = TopicPartition(topic.name, 0)
        admin.alter_group_offsets(topic.name, {partition: OffsetAndMetadata(1, "", -1)})
        admin.delete_records({partition: 3})
    ended = start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0, ended.stderr
    said = "2 records are missing: the topic's retention has deleted them before they were read\n"
    assert said in ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records[3:])


@pytest.mark.chaos
def test_python_without_shared_library(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Where Python cannot run inside Flink's JVM, its functions run in processes of their own."""
    (tmp_path / "find_libpython.py").write_text("def find_libpython(): return None")
    topic = new_topic()
    records = topic.produce(messy_records())
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, PYTHONPATH=str(tmp_path)).wait()
    assert ended.code == 0, ended.stderr
    first, _, *report = ended.stderr.splitlines()
    assert first == "Python has no shared library (libpython), so its functions run slower, in processes."
    assert len(report) == 2, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)
