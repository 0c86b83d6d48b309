"""What Prometheus is told, and when it calls for help: deploy/metrics.yaml, deploy/alerts.yaml."""

import re
import shutil
import subprocess
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cluster, Topic
from support import ROOT, SCRIPT, START, Record, expected_counts, lines, read_files, wait_for
from test_cluster import job_id

DEPLOY = ROOT / "deploy"
SAMPLE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)  # of Prometheus' text format: name{labels} value


def scrape(cluster: Cluster) -> dict[str, float]:
    """The sums of all metrics of JobManager and TaskManager, by name."""
    said = "".join(file.read_text() for file in cluster.logs.glob("*.log"))
    ports = re.findall(r"Started PrometheusReporter HTTP server on port (\d+)", said)
    assert len(ports) == 2, said
    sums: defaultdict[str, float] = defaultdict(float)
    for port in ports:
        with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as response:
            for name, value in SAMPLE.findall(response.read().decode()):
                sums[name] += 0 if value == "NaN" else float(value)  # as of a partition without records for some time
    return sums


def test_what_is_not_counted_and_a_stop_with_drain(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """Prometheus is told of it, and of what the alerts ask for; it is printed at the end.

    The drain writes the open window, though no partition has had records for some time.
    """
    topic = new_topic(partitions=2)
    records = topic.produce(lines(*["count me"] * 7))
    output = tmp_path / "out"
    run = ["--python", SCRIPT, "--output", str(output), "--idle-timeout", "1", *topic.arguments()]
    job = job_id(cluster.flink("run", "--detached", "-p", "2", *run))
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the rows of the closed window")
    last = START + 6_000
    topic.produce([*lines("three late words"), Record(None, last, key=b"tombstone"), Record(b"\xff", last)])
    records.append(Record(b"\xff", last))

    def not_counted(found: dict[str, float]) -> list[float]:
        names = ("lateWords", "nullValues", "invalidLines")
        return [found[f"flink_taskmanager_job_task_operator_{name}"] for name in names]

    def counted() -> dict[str, float] | None:
        found = scrape(cluster)
        return found if not_counted(found) == [3, 1, 1] else None

    found = wait_for(counted, "the metrics")
    assert found["flink_jobmanager_numRunningJobs"] == 1
    assert found["flink_jobmanager_job_numberOfCompletedCheckpoints"] >= 1
    lag = "flink_taskmanager_job_task_operator_KafkaSourceReader_KafkaConsumer_records_lag_max"
    assert lag in found
    assert found[lag] == 0
    asked_for = set(re.findall(r"\bflink_\w+", (DEPLOY / "alerts.yaml").read_text()))
    assert len(asked_for) >= 5
    assert asked_for <= found.keys(), "an alert that asks for what there is not is never raised"

    cluster.wait_for_checkpoint_of(10, job)
    before = cluster.printed()
    cluster.stop_job(job, tmp_path / "savepoints", drain=True)
    assert read_files(output) == expected_counts(records)
    said: Counter[str] = Counter()
    for line in cluster.printed().removeprefix(before).splitlines():  # each subtask has a sum
        sentence, _, number = line.rpartition(": ")
        said[sentence] += int(number)
    assert said == {
        "Words that came after their windows had closed, not counted (--max-delay)": 3,
        "Records with a null value (tombstones), not counted": 1,
        "Lines with bytes that are not UTF-8": 1,
    }


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here; on Debian it is in the package prometheus")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", DEPLOY / "prometheus.yaml"],
        ["test", "rules", ROOT / "tests" / "alerts.yaml"],
    ],
    ids=["config", "alerts"],
)
def test_prometheus_takes_the_files(command: list[str | Path]) -> None:
    """The alerts are raised where all is wrong, and are not where all is well."""
    ended = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
