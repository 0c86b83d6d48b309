"""`--api sql` gives the same rows, byte for byte, and the same report as the Python functions."""

from collections.abc import Callable
from pathlib import Path

from conftest import Cluster, Job, Topic
from support import SCRIPT, expected_counts, fuzzed_records, lines, parse_rows, read_files
from test_local_run import messy_records


def test_both_apis_write_the_same_rows(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """On any bytes, any Unicode and nulls, out of order."""
    topic = new_topic(partitions=2)
    records = topic.produce(fuzzed_records(1_000, random_seed=6) + messy_records())
    decades = str(60 * 366 * 24 * 3600)
    arguments = [*topic.arguments(), "--start", "earliest", "--bounded", "--max-delay", decades]
    jobs = {api: start_job(*arguments, "--api", api, "--output", str(tmp_path / api)) for api in ("datastream", "sql")}
    reports = {}
    for api, job in jobs.items():
        ended = job.wait()
        assert ended.code == 0, ended.stderr
        reports[api] = sorted(ended.stderr.splitlines()[1:])
    assert read_files(tmp_path / "sql") == expected_counts(records)
    written = {api: sorted(b"".join(rows_of(tmp_path / api)).split(b"\n")) for api in jobs}
    assert written["sql"] == written["datastream"]
    assert len(reports["sql"]) == 2, "null values and invalid lines"
    assert reports["sql"] == reports["datastream"]


def rows_of(folder: Path) -> list[bytes]:
    """What the visible files hold."""
    return [file.read_bytes() for file in folder.rglob("counts-*.tsv")]


def test_flink_run(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(lines(*["in sql"] * 20) + lines(*["sql"] * 20, partition=1))
    before = cluster.printed()
    arguments = ["--api", "sql", "--bounded", "--window", "100000", *topic.arguments()]
    ended = cluster.flink("run", "-p", "2", "--python", SCRIPT, *arguments, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert parse_rows(cluster.printed().removeprefix(before)) == expected_counts(records, window=100_000)
