"""examples/literal.py, plain PyFlink: its counts are right, it needs nothing of this repository but the connector.

And what plain PyFlink does where something goes wrong, as the table in docs/recipes.md says.
"""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from broker import Broker
from conftest import Cluster, Job, Topic
from docs import BEAM
from support import LITERAL, ROOT, START, Record, expected_counts, lines, parse_rows, random_lines, read_files
from test_cluster import job_id


def copy_of_literal(folder: Path, old: str = "", new: str = "") -> Path:
    """A copy of the script, with an edit, that has nothing of this repository beside it but the connector; its path."""
    script = folder / "examples" / LITERAL.name
    script.parent.mkdir()
    text = LITERAL.read_text("utf-8")
    assert old in text
    script.write_text(text.replace(old, new, 1), "utf-8")
    (folder / "connectors").symlink_to(ROOT / "connectors")
    return script


def where(topic: Topic) -> list[str]:
    """The flags that point the script at a topic."""
    return ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.name]


def test_local_run_of_a_copy_that_stands_alone(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(10, 500, partitions=2))
    ended = start_process(
        *where(topic), "--bounded", "--output", str(tmp_path / "out"), script=copy_of_literal(tmp_path)
    ).wait()
    assert (ended.code, ended.stdout, BEAM.sub("", ended.stderr)) == (0, "", "")
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_flink_run(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """Printed by a TaskManager."""
    topic = new_topic(partitions=2)
    records = topic.produce(lines(*["an example"] * 20) + lines(*["example"] * 20, partition=1))
    before = cluster.printed()
    job_id(cluster.flink("run", "--python", LITERAL, "--bounded", *where(topic), cwd=tmp_path))
    assert parse_rows(cluster.printed().removeprefix(before)) == expected_counts(records)


# --- What goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_ctrl_c_loses_open_windows_and_the_next_run_writes_all_again(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output = tmp_path / "out"
    closed = expected_counts(records[:5])
    for run in (1, 2):
        job = start_process(*where(topic), "--output", str(output / str(run)), script=LITERAL)
        job.until(lambda run=run: read_files(output / str(run)) == closed, "the first window in a file")
        job.process.send_signal(signal.SIGINT)
        ended = job.wait()
        assert ended.code != 0
        assert ended.stderr.endswith("\nKeyboardInterrupt\n")
        assert read_files(output / str(run)) == closed


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["NullPointerException", "UnknownTopicOrPartitionException", "ZeroDivisionError"])
def test_a_fault_restarts_the_job_for_ever(
    fault: str, own_broker: Broker, start_process: Callable[..., Job], tmp_path: Path
) -> None:
    topic = Topic(own_broker.bootstrap_servers, partitions=1)
    script = copy_of_literal(tmp_path, "line.split()", "[1 // (line != 'bug')]")
    topic.produce([Record(None, START, key=b"tombstone") if fault == "NullPointerException" else Record(b"bug", START)])
    if fault == "UnknownTopicOrPartitionException":
        topic.delete()
    job = start_process(*where(topic), "--bounded", script=script, FLINK_LOG_DIR=str(tmp_path / "log"))

    def restarts() -> int:
        log = "".join(file.read_text("utf-8") for file in (tmp_path / "log").glob("*.log"))
        return log.count("switched from state RUNNING to RESTARTING") if fault in log else 0

    job.until(lambda: restarts() >= 3, "its third restart")
    stderr = job.stderr.read_text("utf-8")
    assert stderr.count("ZeroDivisionError: ") > 1 if fault == "ZeroDivisionError" else stderr == ""
    assert job.stdout.read_text("utf-8") == ""
