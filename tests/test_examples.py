"""The examples run as word_count.py does; running_totals.py and word_count_sql.py have more tests of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cluster, Job, Topic
from support import LITERAL, SQL, expected_counts, lines, parse_rows, random_lines, read_files
from test_cluster import job_id


def test_literal_in_a_local_run(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(10, 500, partitions=2))
    ended = start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / "out"), script=LITERAL).wait()
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


@pytest.mark.parametrize("script", [LITERAL, SQL], ids=["literal", "sql"])
def test_flink_run(script: Path, cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """Printed by a TaskManager, with a window of another length."""
    topic = new_topic(partitions=2)
    records = topic.produce(lines(*["an example"] * 20) + lines(*["example"] * 20, partition=1))
    before = cluster.printed()
    arguments = ["--bounded", "--window", "100000", *topic.arguments()]
    job_id(cluster.flink("run", "-p", "2", "--python", script, *arguments, cwd=tmp_path))
    assert parse_rows(cluster.printed().removeprefix(before)) == expected_counts(records, window=100_000)
