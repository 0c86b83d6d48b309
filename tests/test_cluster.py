"""`flink run --python word_count.py` on a standalone cluster, started and stopped by Flink's scripts."""

from collections.abc import Callable
from pathlib import Path

from kafka_job.execution import cluster as submission

import pytest

from conftest import Cluster, Finished, Topic
from support import (
    SCRIPT,
    START,
    Record,
    checkpoints,
    copy_script,
    expected_counts,
    lines,
    random_lines,
    read_files,
    wait_for,
)


def job_id(submitted: Finished) -> str:
    """The id that `flink run` has printed."""
    assert submitted.code == 0, submitted.stdout + submitted.stderr
    assert "Unknown module" not in submitted.stderr
    return submitted.stdout.partition("Job has been submitted with JobID ")[2].split()[0]


def rescaled(cluster: Cluster, run: list[str | Path], folder: Path, produce: Callable[[int], object]) -> str:
    """Run a job with one subtask, then with three and with two, from savepoints in a folder; the last one's id.

    `produce`: sends 600 records before each run, which is given its number.
    """
    job = ""
    for number, parallelism in enumerate([1, 3, 2]):
        restore = ["-s", cluster.stop_job(job, folder)] if job else []
        produce(number)
        job = job_id(cluster.flink("run", "--detached", "-p", str(parallelism), *restore, *run))
        cluster.wait_for_checkpoint_of(600, job)
    return job


@pytest.mark.chaos
def test_a_cancelled_job_leaves_its_last_checkpoint(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """Where a folder is configured; Flink by itself would delete it."""
    topic = new_topic()
    records = topic.produce(lines(*["keep"] * 5, "it"))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    run = ["--python", SCRIPT, "--output", str(output), *topic.arguments()]
    place = ["-D", f"execution.checkpointing.dir={folder.as_uri()}"]
    job = job_id(cluster.flink("run", "--detached", *place, *run))
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    cluster.cancel(job)
    [last] = checkpoints(folder)
    job_id(cluster.flink("run", *place, "-s", str(last), *run, "--bounded"))
    assert read_files(output) == expected_counts(records)


@pytest.mark.chaos
def test_windows_of_another_length_from_a_drained_savepoint(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """All windows are closed in it, so none is cut in two; what comes after is in the new ones."""
    topic = new_topic(partitions=2)
    before = topic.produce(random_lines(20, 200, partitions=2))  # 10 s of event time
    first, second = tmp_path / "first", tmp_path / "second"
    run = ["--python", SCRIPT, *topic.arguments(), "--output"]
    job = job_id(cluster.flink("run", "--detached", *run, str(first)))
    wait_for(lambda: read_files(first), "the first window")
    savepoint = cluster.stop_job(job, tmp_path / "savepoints", drain=True)
    assert read_files(first) == expected_counts(before)

    after = topic.produce(random_lines(21, 200, partitions=2, start=START + 20_000))
    job_id(cluster.flink("run", "-s", savepoint, *run, str(second), "--window", "10", "--bounded"))
    assert read_files(second) == expected_counts(after, window=10)


@pytest.mark.chaos
def test_rocksdb_by_configuration_alone(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """As docs/operations.md says; the job goes on from one of its checkpoints."""
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(30, 400, partitions=2))
    folder = tmp_path / "checkpoints"
    rocksdb = ["-D", "state.backend.type=rocksdb", "-D", "execution.checkpointing.incremental=true"]
    place = ["-D", f"execution.checkpointing.dir={folder.as_uri()}"]
    run = ["--python", SCRIPT, "--output", str(tmp_path / "out"), "--window", "1000", *topic.arguments()]
    job = job_id(cluster.flink("run", "--detached", *rocksdb, *place, *run))
    cluster.wait_for_checkpoint_of(400, job)
    assert cluster.rest(f"/jobs/{job}/checkpoints/config")["state_backend"] == "EmbeddedRocksDBStateBackend"
    cluster.cancel(job)
    [last] = checkpoints(folder)
    records += topic.produce(random_lines(31, 400, partitions=2, start=START + 20_000))
    job_id(cluster.flink("run", *rocksdb, *place, "-s", str(last), *run, "--bounded"))
    assert read_files(tmp_path / "out") == expected_counts(records, window=1000)


@pytest.mark.chaos
def test_a_savepoint_of_another_topic_is_refused(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """Its offsets are of that one, and the windows in it would go on with the words of the other."""
    topic, other = new_topic(), new_topic()
    topic.produce(lines("one"))
    run = ["--python", SCRIPT, "--output", str(tmp_path / "out")]
    job = job_id(cluster.flink("run", "--detached", *run, *topic.arguments()))
    cluster.wait_for_checkpoint_of(1, job)
    savepoint = cluster.stop_job(job, tmp_path / "savepoints")
    refused = cluster.flink("run", "-s", savepoint, *run, *other.arguments())
    assert refused.code != 0
    mend = f"say --topic {topic.name}, or begin anew, without the savepoint"
    assert f" is of a job that reads another topic, {topic.name}; {mend}\n" in refused.stdout


def test_flink_run_with_a_checkpoint_folder(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """As in a local run: a job that was cancelled, or stopped, or that died, goes on from what it has left there.

    A folder from which a job was stopped to another place is refused; -s goes on from there, also to the end. The codec
    is one whose native code each job in a TaskManager loads anew.
    """
    topic = new_topic(**{"compression.type": "zstd"})
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    run = ["--python", SCRIPT, "--output", str(output), *topic.arguments()]
    keep = ["--checkpoint-dir", str(folder)]
    records: list[Record] = []

    def next_window() -> None:
        """Records for a window that was open before, and one for the next window."""
        start = len(records) // 6 * 5_000
        records.extend(
            topic.produce(lines(*["check"] * 5, start=START + start + 1) + lines("point", start=START + start + 5_000))
        )

    def started(*flags: str) -> Finished:
        """Go on; wait for the rows of the windows that are closed now."""
        next_window()
        ended = cluster.flink("run", "--detached", *run, *flags)
        wait_for(lambda: read_files(output) == expected_counts(records[:-1]), "the rows of the closed windows")
        return ended

    job = job_id(started(*keep))
    assert cluster.rest(f"/jobs/{job}")["state"] == "RUNNING"
    source, count = (vertex["name"] for vertex in cluster.rest(f"/jobs/{job}")["vertices"])  # two boxes in the web UI
    assert source.startswith(f"Source: Kafka topic {topic.name} -> ")
    assert count.startswith("keep watermark -> count per 5 s window -> ")
    assert cluster.flink("cancel", job).code == 0
    wait_for(lambda: cluster.rest(f"/jobs/{job}")["state"] == "CANCELED", "the end of the job")

    ended = started(*keep)
    assert f"Going on from {folder}/{job}/chk-" in ended.stdout
    cluster.stop_job(job_id(ended), folder)  # which leaves nothing in the folder, unless its savepoint goes there

    ended = started(*keep)
    assert f"Going on from {folder}/savepoint-" in ended.stdout
    savepoint = cluster.stop_job(job_id(ended), tmp_path / "savepoints")

    refused = cluster.flink("run", *run, *keep)
    assert refused.code != 0
    assert "has left no checkpoint there; if it was stopped with a savepoint elsewhere, go on" in refused.stdout
    next_window()
    job_id(cluster.flink("run", "-s", savepoint, *run, "--bounded"))
    assert read_files(output) == expected_counts(records)


def test_a_window_that_does_not_fit_into_the_memory_of_the_job_manager(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Flink keeps checkpoints if nothing is configured, at most 5 MB of a state; beyond, each would fail.

    The same run has what others would trip over: names that are not ASCII in a locale without UTF-8; and Java classes
    that the set-up has not compiled, as in the image of deploy/: Flink's client does, though the connector is not on
    its class path.
    """
    monkeypatch.setitem(cluster.env, "LC_ALL", "C")
    script, output = copy_script(tmp_path, connectors=True), tmp_path / "zählung"
    with (script.parent / "kafka_job" / "flink" / "Records.java").open("a") as source:
        source.write("// not the set-up's\n")
    topic = new_topic()
    words = [f"wörd-{number}-{'x' * 20}" for number in range(300_000)]
    records = topic.produce(
        lines(*[" ".join(words[start : start + 1000]) for start in range(0, 300_000, 1000)], every=1)
    )
    run = ["--python", script, "--output", str(output), *topic.arguments()]
    job = job_id(cluster.flink("run", "--detached", *run))
    cluster.wait_for_checkpoint_of(len(records), job)
    checkpoint = cluster.rest(f"/jobs/{job}/checkpoints")["latest"]["completed"]
    assert checkpoint["state_size"] > 5 * 2**20, "it would fit"
    topic.produce(lines("closing", start=START + 10_000))
    wait_for(lambda: read_files(output) == expected_counts(records), "the rows of the closed window")
    assert cluster.rest(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] == []


def test_too_few_slots(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(submission, "START_TIMEOUT", 0)
    configuration = {"execution.target": "remote", "rest.port": str(cluster.rest_port), "parallelism.default": "7"}
    submission.check_cluster(configuration)
    said = "The job needs 7 slots, the cluster has 3; it waits for more. (Or: flink run -p 3)\n"
    assert capsys.readouterr().err == said
