"""The count as a function of a stream: fed from a collection, no Kafka in sight."""

import importlib
import random
import re
from collections.abc import Mapping
from pathlib import Path

from kafka_job import Plan
from kafka_job.execution import entry, local
from kafka_job.flink import environment as flink_environment
from kafka_job.flink import gateway, operators
from kafka_job.flink.connector import java_class
from kafka_job.flink.environment import create_environment, take_modules_along, without_server
from kafka_job.flink.operators import max_ahead
from kafka_job.kafka.broker import Broker

import pytest
from pyflink.common import Duration, Row, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

import word_count
from support import ROOT, START, Record, expected_counts, lines, parse_rows

pytestmark = pytest.mark.usefixtures("jvm")
# Flink's, where nobody has named an operator.
NAMES_BY_DEFAULT = re.compile(r"PROCESS|TimeWindows|Print to|^Sink: (Writer|Committer)$")


class RowTimestamp(TimestampAssigner):
    """Event time from the first field."""

    def extract_timestamp(self, value: Row, record_timestamp: int) -> int:
        return value[0]


def environment_with(settings: Mapping[str, str]) -> StreamExecutionEnvironment:
    """An environment as a local run has it, in this process. `settings`: a script's own."""
    gateway.start(has_python=True)
    take_modules_along()
    with without_server():
        return create_environment({**local.SETTINGS, **entry.SETTINGS, **settings})


@pytest.fixture
def environment() -> StreamExecutionEnvironment:
    return environment_with({**word_count.SETTINGS, "restart-strategy.type": "none"})


def count(
    environment: StreamExecutionEnvironment, records: list[Record], window: int = 5, max_delay: int = 0
) -> list[str]:
    """The rows that the pipeline makes of records."""
    stamped = environment.from_collection(
        [(record.timestamp, record.value) for record in records],
        Types.TUPLE([Types.LONG(), Types.PRIMITIVE_ARRAY(Types.BYTE())]),
    )
    watermarks = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(max_delay))
    batches = stamped.assign_timestamps_and_watermarks(watermarks.with_timestamp_assigner(RowTimestamp())).map(
        lambda row: [row[1] + b"\n"], Types.PICKLED_BYTE_ARRAY()
    )
    with word_count.count_windows(word_count.count_batches(batches), window).execute_and_collect() as texts:
        return [row for text in texts for row in text.split("\n")]


def test_a_timestamp_assigner_that_pyflink_would_leave_out_is_refused(jvm: gateway.Jvm) -> None:
    stamped = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(RowTimestamp())
    with pytest.raises(ValueError, match=r"^PyFlink leaves out with_timestamp_assigner at a source; see read_records"):
        max_ahead(stamped, 0, 5)


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


def uids_and_names(script: str) -> dict[str, str]:
    """The names of the operators of a script's whole pipeline, by uid."""
    module = importlib.import_module(script)
    environment = environment_with(getattr(module, "SETTINGS", {}))
    table = {"table": str(ROOT / "docs" / "samples" / "categories.tsv")} if script == "enrich" else {}
    with without_server():
        module.build(environment, module.Options(**table), Plan(Broker("localhost:1"), "input", start={0: 0}))
    nodes = environment._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
    assert not [node.getOperatorName() for node in nodes if not node.getTransformationUID()], "they have no uid"
    return {node.getTransformationUID(): node.getOperatorName() for node in nodes}


def test_a_call_may_come_to_any_thread_in_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each takes a connection of py4j that is free: another one, where Python's garbage collector calls meanwhile.

    Behind each is a thread with a class loader of its own. It must know the jar, too, that is made where the set-up
    has made none.
    """
    client = get_gateway()._gateway_client
    monkeypatch.setattr(client, "_get_connection", client._create_connection)
    monkeypatch.setattr(client, "_give_back_connection", lambda connection: connection.close())
    assert "kafka-source" in uids_and_names("word_count")

    (tmp_path / "Late.java").write_text("package late; public class Late {}")
    with monkeypatch.context() as other:
        other.setattr(operators, "SOURCES", tmp_path)
        jar = operators.jar_of_classes.__wrapped__()
        other.setattr(flink_environment, "jar_of_classes", lambda: jar)
        environment_with({})
    java_class("late.Late")()  # a TypeError where its thread does not know it


def test_names_and_uids(environment: StreamExecutionEnvironment) -> None:
    """A uid is what lets a savepoint survive an edit of the pipeline."""
    # Flink runs map, flat_map and the extraction of the key as one operator, with the uid of the first.
    assert uids_and_names("word_count") == {
        "kafka-source": "Source: Kafka topic input",
        "leave-out-too-far-ahead": "leave out too far ahead",
        "report-tooFarAhead": "report tooFarAhead",
        "batch-lines": "batch lines",
        "report-nullValues": "report nullValues",
        "report-invalidLines": "report invalidLines",
        "count-words": "count words, in shards, _stream_key_by_map_operator",
        "keep-watermark": "keep watermark",
        "count-in-128-shards": "count per 5 s window",
        "late": "late, number of words",
        "report-lateWords": "report lateWords",
        "print": "Sink: print",
    }
    word_count.write_rows(environment.from_collection([""], Types.STRING()).uid("rows"), "/never/written")
    nodes = environment._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
    assert {node.getTransformationUID(): node.getOperatorName() for node in nodes if node.getTransformationUID()} == {
        "rows": "Source: Collection Source",
        "write-files": "write files: Writer",
        "Sink Committer: write-files": "write files: Committer",
    }


def test_the_longest_window_is_drawn(environment: StreamExecutionEnvironment) -> None:
    """Its milliseconds are more than an int of Java holds."""
    plan = Plan(Broker("localhost:1"), "input", start={0: 0})
    word_count.build(environment, word_count.Options(window=10**10), plan)
    assert environment._generate_stream_graph(clear_transformations=True).getStreamNodes().size() > 5


@pytest.mark.parametrize("script", sorted({script.stem for script in (ROOT / "examples").glob("*.py")} - {"literal"}))
def test_every_operator_has_a_name_and_a_uid(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    for name in uids_and_names(script).values():
        assert not NAMES_BY_DEFAULT.search(name)
