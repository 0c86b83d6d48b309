"""The count as a function of a stream: fed from a collection, no Kafka in sight."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from kafka_job import job, local_run

import pytest
from pyflink.common import Row, Types
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import StreamExecutionEnvironment

import word_count
from support import START, Record, expected_counts, lines, parse_rows


class RowTimestamp(TimestampAssigner):
    """Event time from the first field."""

    def extract_timestamp(self, value: Row, record_timestamp: int) -> int:
        return value[0]


@pytest.fixture(scope="module")
def environment() -> Iterator[StreamExecutionEnvironment]:
    """The job's own local environment; what it changes in this process is put back."""
    variables, folder = dict(os.environ), Path.cwd()
    job.take_modules_along()
    local_run.prepare_java(with_beam=False, keep_open=2, stdout=None)
    yield job.create_environment(word_count.SETTINGS | local_run.SETTINGS)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)


def count(
    environment: StreamExecutionEnvironment, records: list[Record], window: int = 5, max_delay: int = 0
) -> list[str]:
    """The rows that the pipeline makes of records."""
    stamped = environment.from_collection(
        [(record.timestamp, record.value) for record in records],
        Types.TUPLE([Types.LONG(), Types.PRIMITIVE_ARRAY(Types.BYTE())]),
    )
    strategy = word_count.watermarks(max_delay, idle_timeout=0).with_timestamp_assigner(RowTimestamp())
    batches = stamped.assign_timestamps_and_watermarks(strategy).map(
        lambda row: row[1] + b"\n", Types.PRIMITIVE_ARRAY(Types.BYTE())
    )
    with word_count.count_words(batches, window).execute_and_collect() as texts:
        return [row for text in texts for row in text.split("\n")]


def test_windows_are_counted_apart(environment: StreamExecutionEnvironment) -> None:
    records = lines("to be or not to be", "be", "that is the question", start=START + 3000)
    assert sorted(count(environment, records)) == [
        "2023-11-14T22:13:20Z\tbe\t3",
        "2023-11-14T22:13:20Z\tnot\t1",
        "2023-11-14T22:13:20Z\tor\t1",
        "2023-11-14T22:13:20Z\tto\t2",
        "2023-11-14T22:13:25Z\tis\t1",
        "2023-11-14T22:13:25Z\tquestion\t1",
        "2023-11-14T22:13:25Z\tthat\t1",
        "2023-11-14T22:13:25Z\tthe\t1",
    ]


def test_random_lines_against_the_independent_count(environment: StreamExecutionEnvironment) -> None:
    shuffle = random.Random(3)
    words = ["a", "b", "слово", "\x00", "\ufffd", "1\u20602", "\ufeffx", "\ufffe"]
    records = [
        Record(" ".join(shuffle.choices(words, k=shuffle.randrange(6))).encode(), START + shuffle.randrange(90_000))
        for _ in range(500)
    ]
    rows = count(environment, records, window=3, max_delay=90)
    assert parse_rows("".join(f"{row}\n" for row in rows)) == expected_counts(records, window=3)


def test_every_operator_has_a_name_and_a_uid(environment: StreamExecutionEnvironment) -> None:
    """A uid is what lets a savepoint survive an edit of the pipeline."""
    source = environment.from_collection(["hello"], Types.STRING()).name("source").uid("source")
    word_count.write_rows(word_count.count_words(source, 5), "/never/written")
    # Flink runs map, flat_map and the extraction of the key as one operator, with the uid of the first.
    nodes = environment._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
    assert {node.getTransformationUID(): node.getOperatorName() for node in nodes} == {
        "source": "Source: source",
        "split-lines": "split into words, count in batch, _stream_key_by_map_operator",
        "keep-watermark": "keep watermark",
        "count-in-128-shards": "count per 5 s window",
        "late": "late, number of words",
        "report-lateWords": "report lateWords",
        "write-files": "write files: Writer",
        "Sink Committer: write-files": "write files: Committer",
    }
