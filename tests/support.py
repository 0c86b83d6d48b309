"""What the tests share: records to produce, the independent count, and how to read the job's rows."""

import json
import os
import random
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from kafka import KafkaConsumer, TopicPartition

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "word_count.py"
LITERAL, TOTALS, SQL = (ROOT / "examples" / f"{name}.py" for name in ("literal", "running_totals", "word_count_sql"))
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What is said where a machine is slow.
STILL_STOPPING = re.compile(r"^(?:Still stopping|Waiting for who reads what is).*\r?\n", re.MULTILINE)
START = 1_700_000_000_000  # milliseconds; a multiple of 5 s, in November 2023

Counts = dict[tuple[str, str], int]  # (window start, word) -> count


@dataclass(frozen=True)
class Record:
    """One Kafka record; `timestamp` in milliseconds since the epoch, `value` None for a tombstone."""

    value: bytes | None
    timestamp: int
    partition: int = 0
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def copy_script(folder: Path, connectors: bool = False, old: str = "", new: str = "", script: Path = SCRIPT) -> Path:
    """A copy of a script beside one of kafka_job, with one edit in word_count.py; its path.

    Beside them are all other scripts.
    """
    text = SCRIPT.read_text("utf-8")
    assert old in text
    (folder / "word_count.py").write_text(text.replace(old, new, 1), "utf-8")
    for example in (ROOT / "examples").glob("*.py"):
        shutil.copy(example, folder)
    copy_library(folder, connectors)
    return folder / script.name


def copy_library(folder: Path, connectors: bool = False) -> None:
    """A copy of kafka_job, which a script beside it imports in place of the one that is installed."""
    shutil.copytree(ROOT / "kafka_job", folder / "kafka_job", ignore=shutil.ignore_patterns("__pycache__"))
    if connectors:
        (folder / "connectors").symlink_to(ROOT / "connectors")


def edited(folder: Path, old: str, new: str, script: Path = SCRIPT) -> Path:
    """A script with one edit, in a new folder with nothing else; its path."""
    text = script.read_text("utf-8")
    assert old in text
    folder.mkdir()
    (folder / script.name).write_text(text.replace(old, new, 1), "utf-8")
    return folder / script.name


def own_job(folder: Path) -> Path:
    """A script, and beside it the module with its functions, in a new folder with nothing else; the script's path."""
    folder.mkdir()
    shutil.copy(SCRIPT, folder / "my_words.py")
    (folder / "my_job.py").write_text("from my_words import main\n\nmain()\n")
    return folder / "my_job.py"


def slow_script(folder: Path) -> Path:
    """A copy of the script that takes a millisecond for each line: there is time to do something to the job.

    For a process of its own, or a cluster; else `start_job(..., slow=True)` does it without a copy.
    """
    script = copy_script(folder, connectors=True)
    make_slow(folder / "kafka_job" / "flink")
    return script


def make_slow(sources: Path) -> None:
    """Let each line, or record, take a millisecond, in copies of our Java sources."""
    for name in ("BatchLines", "BatchRecords"):
        java = sources / f"{name}.java"
        before, fast, after = java.read_text("utf-8").partition("record.getValue();")
        assert fast
        java.write_text(f"{before}{fast} Thread.sleep(1);{after}", "utf-8")


def lines(*values: str, start: int = START, every: int = 1000, partition: int = 0) -> list[Record]:
    """One record a line, `every` milliseconds apart."""
    return [Record(value.encode(), start + number * every, partition) for number, value in enumerate(values)]


def random_lines(seed: float, number: int, partitions: int, start: int = START) -> list[Record]:
    """Lines of ten words, dealt out to the partitions in turn, 50 ms of event time apart."""
    shuffle = random.Random(seed)
    words = [f"word{shuffle.randrange(50)}" for _ in range(200)] + ["слово"]
    return [
        Record(" ".join(shuffle.choices(words, k=10)).encode(), start + line * 50, partition=line % partitions)
        for line in range(number)
    ]


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints and savepoints in a folder."""
    # Not rglob, which fails where Flink deletes an old one meanwhile.
    return sorted(Path(parent) for parent, _, files in os.walk(folder) if "_metadata" in files)


def expected_counts(records: Iterable[Record], window: int = 5) -> Counts:
    """The independent count: what the job must find, from what was produced, in plain Python."""
    counts: Counts = {}
    for record in records:
        if record.value is not None:
            second = record.timestamp // 1000
            window_start = EPOCH + timedelta(seconds=second - second % window)
            for word in re.findall(r"\S+", str(record.value, "utf-8", "replace")):
                row = (f"{window_start:%Y-%m-%dT%H:%M:%SZ}", word)
                counts[row] = counts.get(row, 0) + 1
    return counts


def parse_rows(text: str) -> Counts:
    """The job's rows as counts; a row that comes twice is an error."""
    counts: Counts = {}
    for row in text.split("\n")[:-1]:  # not splitlines(): a word may hold characters that it takes for line ends
        window_start, word, count = row.split("\t")
        assert (window_start, word) not in counts, f"written twice: {row}"
        counts[window_start, word] = int(count)
    assert not text or text.endswith("\n"), "the last row is cut off"
    return counts


def read_files(folder: Path) -> Counts:
    """The rows in the visible files of an output folder."""
    files = sorted(folder.rglob("counts-*.tsv")) if folder.exists() else []  # hidden ones begin with a dot
    return parse_rows("".join(file.read_bytes().decode() for file in files))


def read_records(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> list[Any]:
    """All records that a consumer is let read of its partitions, as kafka-python has them."""
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    records: list[Any] = []

    def read() -> bool:
        records.extend(record for found in consumer.poll(200).values() for record in found)
        return all(consumer.position(partition) >= ends[partition] for partition in partitions)

    wait_for(read, "all records of the topic", 30)
    return records


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 90) -> Any:
    """Poll until `condition()` is true; its value.

    Raises:
        TimeoutError: it was not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.05  # seconds; it grows, since what is asked may cost more than what is waited for
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(pause)
        pause = min(0.5, 1.2 * pause)
    return value


def get_json(url: str) -> Any:
    """A GET on Flink's REST API."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def ask_json(url: str, method: str, body: dict[str, Any] | None = None) -> Any:
    """Another request to Flink's REST API; its answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def metric_total(rest: str, job: str, name: str, only: str = "") -> float:
    """The sum of a metric, over all subtasks of a job's operators, or those whose names begin with `only`."""
    total = 0.0
    for vertex in get_json(f"{rest}/jobs/{job}")["vertices"]:
        metrics = f"{rest}/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics"
        for metric in get_json(metrics):
            if metric["id"].rpartition(".")[2] == name and metric["id"].startswith(only):
                found = get_json(f"{metrics}?get={urllib.parse.quote(metric['id'])}")
                total += sum(one["sum"] for one in found)
    return total


def wait_for_checkpoint_of(records: int, rest: str, job: str) -> None:
    """Wait until a job has read so many records since its start, and has them in a checkpoint.

    Its group knows of them only up to ten seconds later, where no more records come.
    """
    wait_for(lambda: metric_total(rest, job, "numRecordsIn", only="Source__") >= records, "all records read")

    def completed() -> int:
        return get_json(f"{rest}/jobs/{job}/checkpoints")["counts"]["completed"]

    before = completed()  # one more may have begun before all was read
    wait_for(lambda: completed() >= before + 2, "all records in a checkpoint")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ANY_VALUE = (
    st.none() | st.binary() | TEXTS.map(str.encode) | st.lists(TEXTS).map(lambda words: " ".join(words).encode())
)


def fuzzed_records(number: int, random_seed: int, values: st.SearchStrategy[bytes | None] = ANY_VALUE) -> list[Record]:
    """Records with such values, by default any bytes, any Unicode, nulls; timestamps out of order and decades apart."""
    times = st.sampled_from([0, 1, 4_999, 5_000, START]) | st.integers(0, START) | st.integers(START, START + 60_000)
    found: list[Record] = []

    @seed(random_seed)
    @settings(max_examples=number, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values, times, st.integers(0, 1))
    def collect(value: bytes | None, timestamp: int, partition: int) -> None:
        found.append(Record(value, timestamp, partition, key=b"key"))

    collect()
    return found
