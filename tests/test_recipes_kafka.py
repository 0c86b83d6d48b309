"""`examples/counts_to_kafka.py`: what a reader of committed records finds is compared with the independent count."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from kafka_job import Plan
from kafka_job.flink import gateway
from kafka_job.kafka.broker import Broker, result_of
from kafka_job.terminal import utc

import pytest
from kafka import KafkaConsumer, TopicPartition
from pyflink.datastream import StreamExecutionEnvironment

from conftest import Job, Topic
from examples import counts_to_kafka, enrich, sliding_windows
from support import (
    ROOT,
    Counts,
    ask_json,
    checkpoints,
    edited,
    expected_counts,
    lines,
    parse_rows,
    random_lines,
    read_records,
    slow_script,
)
from test_pipeline import environment  # noqa: F401

TO_KAFKA = ROOT / "examples" / "counts_to_kafka.py"


class Reader:
    """Reads a topic as consumers do that set isolation.level=read_committed, or as those that do not."""

    def __init__(self, topic: Topic, isolation_level: str = "read_committed") -> None:
        self.consumer = KafkaConsumer(bootstrap_servers=topic.bootstrap_servers, isolation_level=isolation_level)
        self.partitions = [TopicPartition(topic.name, one) for one in self.consumer.partitions_for_topic(topic.name)]
        self.consumer.assign(self.partitions)

    def end(self) -> int:
        """How far this reader is let: for one of committed records, up to the first transaction that is open."""
        return sum(self.consumer.end_offsets(self.partitions).values())

    def rows(self) -> list[str]:
        """All values up to there."""
        return [record.value.decode() for record in read_records(self.consumer, self.partitions)]

    def counts(self) -> Counts:
        """The counts of all rows."""
        return parse_rows("".join(f"{row}\n" for row in self.rows()))


@pytest.fixture
def readers() -> Callable[[Topic], tuple[Reader, Reader]]:
    """Makes a reader of committed records of a topic, and one of all records; they are closed with the test."""
    with contextlib.ExitStack() as stack:

        def make(topic: Topic) -> tuple[Reader, Reader]:
            committed, all_records = Reader(topic), Reader(topic, "read_uncommitted")
            stack.enter_context(contextlib.closing(committed.consumer))
            stack.enter_context(contextlib.closing(all_records.consumer))
            return committed, all_records

        yield make


def test_bad_arguments(
    new_topic: Callable[..., Topic], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["counts_to_kafka.py", *new_topic().arguments()]
    monkeypatch.setattr("sys.argv", [*arguments, "--to-topic", "no-such-topic"])
    with pytest.raises(SystemExit, match=r"^There is no topic no-such-topic on .*; create it: "):
        counts_to_kafka.main()
    monkeypatch.setattr("sys.argv", [*arguments, "--to-topic", arguments[4]])
    with pytest.raises(SystemExit, match="2"):
        counts_to_kafka.main()
    assert "is the topic that is read: the job would read what it has written\n" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments, "--output", "out"])
    with pytest.raises(SystemExit, match="2"):
        counts_to_kafka.main()
    assert "results go to files or to a topic; leave out --output or --to-topic\n" in capsys.readouterr().err


@pytest.mark.usefixtures("jvm")
@pytest.mark.parametrize("recipe", [counts_to_kafka, enrich, sliding_windows])
def test_every_operator_has_a_name_and_a_uid(recipe: ModuleType, environment: StreamExecutionEnvironment) -> None:  # noqa: F811
    """Of the recipe, and of those for sliding windows and a table."""
    flags = {"table": os.devnull} if recipe == enrich else {}
    flags |= {} if recipe == counts_to_kafka else {"output": "/never"}
    recipe.build(environment, recipe.Options(**flags), Plan(Broker("localhost:1"), "input", start={0: 0}))
    operators = environment._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
    assert len(operators) > 10
    for operator in operators:
        assert operator.getTransformationUID(), operator.getOperatorName()
        assert "Map" not in operator.getOperatorName().split(", ")  # what Flink calls a step that has no name


@pytest.mark.slow
def test_kills_and_resumes(
    new_topic: Callable[..., Topic],
    start_job: Callable[..., Job],
    start_process: Callable[..., Job],
    readers: Callable[[Topic], tuple[Reader, Reader]],
    tmp_path: Path,
) -> None:
    """Killed in the middle of a transaction, and then in a crash, a run goes on; no row is missing or there twice."""
    topic, to_topic = new_topic(partitions=2), new_topic(partitions=2)
    committed, all_records = readers(to_topic)
    records = topic.produce(random_lines(1, 12_000, partitions=2))
    folder = tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--to-topic", to_topic.name, "--checkpoint-dir", str(folder), "--max-delay", "60"]
    arguments += ["--idle-timeout", "0"]  # it is slow: a partition may wait for its turn for longer than the default
    slow_script(tmp_path)  # a process of its own: a job that ends in another way aborts its transactions itself
    in_process, in_engine = {"script": tmp_path / TO_KAFKA.name}, {"script": TO_KAFKA, "slow": True}
    for start, how in ((start_process, in_process), (start_job, in_engine)):
        before = committed.end()
        job = start(*arguments, **how)
        job.until(lambda before=before: before < committed.end() < all_records.end(), "a commit, and an open one")
        job.end()
    assert len(committed.counts()) < len(expected_counts(records)), "it was over before it was killed"

    ended = start_job(*arguments, "--bounded", script=TO_KAFKA).wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.startswith("Going on from"), ended.stderr
    assert ended.stderr.count("\n") == 2, ended.stderr  # and the address of the web UI
    assert committed.counts() == expected_counts(records)
    assert committed.end() == all_records.end(), "a transaction is still open"
    rows = all_records.rows()
    assert len(rows) > len(expected_counts(records)), "nothing was aborted"
    assert set(rows) == set(committed.rows())


def test_a_run_without_checkpoints_aborts_what_a_crash_has_left_open(
    new_topic: Callable[..., Topic],
    start_job: Callable[..., Job],
    start_process: Callable[..., Job],
    readers: Callable[[Topic], tuple[Reader, Reader]],
    tmp_path: Path,
) -> None:
    """Without a checkpoint nothing is committed; until the next run a reader waits for the end of the transaction."""
    topic, to_topic = new_topic(), new_topic()
    committed, all_records = readers(to_topic)
    records = topic.produce(lines(*["closed"] * 5, "open"))
    arguments = [*topic.arguments(), "--to-topic", to_topic.name]
    script = edited(
        tmp_path / "edited", "state, to", 'state, {"execution.checkpointing.interval": "10 min"}, to', TO_KAFKA
    )
    job = start_process(*arguments, script=script)
    job.until(lambda: all_records.end() == 1, "the row of the closed window")
    job.end()
    assert (committed.rows(), len(all_records.rows())) == ([], 1)

    ended = start_job(*arguments, "--bounded", script=TO_KAFKA).wait()
    assert ended.code == 0, ended.stderr
    assert committed.counts() == expected_counts(records)
    assert len(all_records.rows()) == 3


@pytest.mark.parametrize("after_a_break", [True, False])
def test_transactions_that_cannot_be_committed_after_a_break_are_said(
    after_a_break: bool,
    jvm: gateway.Jvm,
    new_topic: Callable[..., Topic],
    start_job: Callable[..., Job],
    readers: Callable[[Topic], tuple[Reader, Reader]],
    tmp_path: Path,
) -> None:
    """After a break that was too long they may be gone. Before, what is refused was committed: nothing is missing."""
    topic, to_topic = new_topic(), new_topic()
    committed, all_records = readers(to_topic)
    records = topic.produce(lines(*["closed"] * 5, "open"))
    arguments = [*topic.arguments(), "--to-topic", to_topic.name, "--checkpoint-dir", str(tmp_path / "kept")]
    rarely = {"execution.checkpointing.interval": "10 min"}  # what is in this one checkpoint is committed once more
    job = start_job(*arguments, script=TO_KAFKA, settings=rarely)
    job.until(lambda: all_records.end() == 1, "the row of the closed window")
    ask_json(f"{job.web_ui()}/jobs/{job.id()}/checkpoints", "POST", {"checkpointType": "FULL"})
    job.until(lambda: committed.end() > 1, "the row of the closed window, and the mark of its transaction")
    job.end()
    with Broker(topic.bootstrap_servers).admin() as admin:
        ids = [one.transactionalId() for one in result_of(admin.listTransactions().all())]
        result_of(admin.fenceProducers([one for one in ids if to_topic.name in one or topic.group in one]).all())

    [checkpoint] = checkpoints(tmp_path / "kept")
    made = time.time() - (16 * 60 if after_a_break else 0)
    os.utime(checkpoint / "_metadata", (made, made))
    ended = start_job(*arguments, "--bounded", script=TO_KAFKA).wait()
    assert ended.code == 0, ended.stderr
    said = f"Rows may be missing in the topic {to_topic.name}: the checkpoint of {utc(int(made * 1000))} was "
    assert (said in ended.stderr) == after_a_break
    assert ("Rows " in ended.stderr) == after_a_break
    assert committed.counts() == expected_counts(records)


def test_checkpoints_that_come_later_than_a_broker_aborts(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job]
) -> None:
    arguments = [*new_topic().arguments(), "--to-topic", new_topic().name]
    ended = start_job(*arguments, script=TO_KAFKA, settings={"execution.checkpointing.interval": "1 h"}).wait()
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Checkpoints every 3600 s are too rare: they commit what is written, and a broker ")


def test_stop_commits_the_open_windows(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], readers: Callable[[Topic], tuple[Reader, Reader]]
) -> None:
    topic, to_topic = new_topic(), new_topic()
    committed, _ = readers(to_topic)
    records = topic.produce(lines(*["closed"] * 5, "still open"))
    job = start_job(*topic.arguments(), "--to-topic", to_topic.name, script=TO_KAFKA)
    closed = expected_counts(records[:5])
    job.until(lambda: committed.counts() == closed, "the row of the closed window")
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert committed.counts() == expected_counts(records)
