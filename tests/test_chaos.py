"""What must not change the counts: crashes of every part, outages, odd producers, a full disk.

make chaos                          # all of it, several rounds; prints the seed
CHAOS_SEED=7 pytest -m chaos        # one round, again with the same seed
"""

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from broker import Broker
from conftest import Cluster, Job, Topic, environment_with
from support import (
    SCRIPT,
    SQL,
    START,
    Record,
    checkpoints,
    edited,
    expected_counts,
    fuzzed_records,
    get_json,
    lines,
    random_lines,
    read_files,
    slow_script,
    wait_for,
)
from test_cluster import job_id

pytestmark = pytest.mark.chaos
KILLS = 10
CLOSING = 100_000_000  # milliseconds after START, when the window of all other records is closed


def closing(partitions: int) -> list[Record]:
    """One record in each partition that closes all windows before it."""
    return [
        record for number in range(partitions) for record in lines("closing", start=START + CLOSING, partition=number)
    ]


@pytest.mark.parametrize(
    ("script", "bounded"), [(SCRIPT, True), (SCRIPT, False), (SQL, False)], ids=["bounded", "unbounded", "sql"]
)
def test_kill_of_the_local_run(
    script: Path,
    bounded: bool,
    chaos: random.Random,
    new_topic: Callable[..., Topic],
    start_process: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """Python and its JVM are killed at once."""
    topic = new_topic(partitions=3)
    records = topic.produce(random_lines(chaos.random(), 60_000, partitions=2) + lines("short", partition=2))
    expected = expected_counts(records)
    topic.produce(closing(3))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    slow = slow_script(tmp_path) if script == SCRIPT else script
    for _ in range(KILLS):
        job = start_process(*arguments, *(["--bounded"] if bounded else []), script=slow)
        time.sleep(chaos.uniform(3, 10))  # the fault itself, not a wait for something
        assert job.process.poll() is None, "it was over before it was killed"
        job.end()
        read_files(output)  # no row is written twice
    if bounded:
        ended = start_process(*arguments, "--bounded", script=script).wait()
        assert ended.code == 0, ended.stderr
        assert read_files(output) == expected | expected_counts(closing(3))
    else:
        job = start_process(*arguments, script=script)
        job.until(lambda: read_files(output) == expected, "the rows of the closed windows")


@pytest.mark.parametrize("part", ["Python", "JVM"])
def test_kill_of_one_half_of_the_local_run(
    part: str, chaos: random.Random, new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Neither half lives on without the other, and the next run has the right counts."""
    topic = new_topic()
    records = topic.produce(random_lines(chaos.random(), 20_000, partitions=1))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--bounded", "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_process(*arguments, script=slow_script(tmp_path))
    job.until(lambda: checkpoints(folder), "a checkpoint")
    java = job.java()
    os.kill(java if part == "JVM" else job.process.pid, signal.SIGKILL)
    if part == "JVM":
        ended = job.wait(60)
        assert ended.code == 1
        assert ended.stderr.splitlines()[1].startswith("Flink's JVM has ended"), ended.stderr
    else:
        wait_for(lambda: not Path(f"/proc/{java}").exists(), "the end of the JVM", 10)
    ended = start_process(*arguments).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)


def test_a_machine_that_sleeps(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """As a laptop does whose lid is closed, for longer than Flink waits for an answer of its parts by default."""
    topic = new_topic()
    records = topic.produce(random_lines(1, 1_000, partitions=1))
    output = tmp_path / "out"
    job = start_process(*topic.arguments(), "--output", str(output))
    job.wait_for_checkpoint_of(1_000)
    os.killpg(job.process.pid, signal.SIGSTOP)
    time.sleep(60)  # the sleep itself
    os.killpg(job.process.pid, signal.SIGCONT)
    topic.produce(closing(1))
    job.until(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows")
    [restarts] = get_json(f"{job.web_ui()}/jobs/{job.id()}/metrics?get=numRestarts")
    assert restarts["value"] == "0"


def test_a_jvm_that_outlives_its_run_keeps_the_folder(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """It may still write a checkpoint."""
    topic = new_topic()
    topic.produce(lines("a"))
    folder = tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(tmp_path / "out"), "--checkpoint-dir", str(folder)]
    job = start_process(*arguments)
    job.until(lambda: checkpoints(folder), "a checkpoint")
    java = job.java()
    os.kill(java, signal.SIGSTOP)
    job.process.kill()
    ended = start_process(*arguments).wait(60)
    assert ended.stderr.startswith(f"Another run uses {folder};")
    os.kill(java, signal.SIGKILL)
    assert start_process(*arguments, "--bounded").wait().code == 0


def test_memory_that_runs_out_loses_nothing(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """630 MB of words in one window, first in a heap of 512 MB; those that would fill half of it are no problem."""
    topic = new_topic()
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    records = topic.produce(lines(*[f"{number:06d}{'x' * 900_000}" for number in range(250)], every=1))
    ended = start_process(*arguments, JVM_ARGS="-Xmx512m").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)

    words = [f"{number:06d}{'y' * 900_000}" for number in range(700)]
    more = lines(*words, start=START + 60_000, every=1)
    for first in range(0, len(more), 50):  # each has two minutes to get there
        topic.produce(more[first : first + 50])
    ended = start_process(*arguments, JVM_ARGS="-Xmx512m").wait()
    assert ended.code == 1
    kept = ended.stderr.rpartition("the same command goes on with --checkpoint-dir ")[2].strip()
    assert read_files(tmp_path / "out") == expected_counts(records)
    ended = start_process(*arguments, "--checkpoint-dir", kept, JVM_ARGS="-Xmx3g").wait(600)
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records + more)
    shutil.rmtree(kept)


def test_kill_of_a_task_manager(
    chaos: random.Random, new_topic: Callable[..., Topic], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The job goes on from its last checkpoint once there is a TaskManager in the place of the one that died."""
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(chaos.random(), 60_000, partitions=2))
    topic.produce(closing(2))
    output = tmp_path / "out"
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), task_managers=2, slots=1)
    try:
        cluster.start()
        arguments = ["--output", str(output), *topic.arguments()]
        slow = slow_script(tmp_path)
        job = job_id(cluster.flink("run", "--detached", "-p", "2", "--python", slow, *arguments, cwd=tmp_path))
        wait_for(lambda: cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["completed"], "a checkpoint")
        time.sleep(chaos.uniform(0, 3))  # the moment of the fault
        cluster.kill_a_task_manager(chaos)
        cluster.start_a_task_manager()
        wait_for(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows", 120)
        assert cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["restored"] >= 1
    finally:
        cluster.stop()


def test_a_savepoint_of_a_job_that_has_ended_in_part(
    cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path
) -> None:
    """One of the source's two subtasks has read its partition to the end: Flink has no way on, and we say so."""
    topic = new_topic(partitions=2)
    topic.produce(random_lines(1, 30_000, partitions=1) + lines("short", partition=1))
    run = ["--output", str(tmp_path / "out"), *topic.arguments(), "--bounded"]
    slow = slow_script(tmp_path)
    job = job_id(cluster.flink("run", "--detached", "-p", "2", "--python", slow, *run, cwd=tmp_path))
    source = cluster.rest(f"/jobs/{job}")["vertices"][0]["id"]

    def states() -> set[str]:
        return {subtask["status"] for subtask in cluster.rest(f"/jobs/{job}/vertices/{source}")["subtasks"]}

    wait_for(lambda: states() == {"FINISHED", "RUNNING"}, "the end of one subtask")
    made = cluster.flink("savepoint", job, str(tmp_path / "savepoints"))
    cluster.cancel(job)
    savepoint = re.search(r"Savepoint completed. Path: (\S+)", made.stdout)[1]
    ended = cluster.flink("run", "-s", savepoint, "-p", "2", "--python", SCRIPT, *run)
    assert ended.code != 0
    assert "A part of the job had ended when " in ended.stdout
    assert "Traceback" not in ended.stdout


def test_restarts_on_a_cluster_are_bounded(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """A job that always fails is tried again, later each time, and then given up."""
    buggy = edited(tmp_path / "buggy", "return shards.items()", "return 1 // 0")
    topic = new_topic()
    topic.produce(lines("a"))
    arguments = ["--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
    job = job_id(cluster.flink("run", "--detached", "--python", buggy, *arguments, cwd=tmp_path))
    wait_for(lambda: cluster.rest(f"/jobs/{job}")["state"] == "FAILED", "the end of the job", 240)
    entries = cluster.rest(f"/jobs/{job}/exceptions?maxExceptions=20")["exceptionHistory"]["entries"]
    failures = sorted(entry["timestamp"] for entry in entries)
    assert len(failures) == 11  # the first, and ten new tries
    waits = [later - earlier for earlier, later in itertools.pairwise(failures)]
    # From 1 s to 10 s, and each try itself takes some seconds, more on a machine that has other work, too.
    assert waits[-1] > min(waits) + 4000, waits
    assert failures[-1] - failures[0] > 55_000, "that a TaskManager is lost, Flink notices after 50 s"


@pytest.mark.parametrize("long", [False, True])
def test_outage_of_the_broker(
    long: bool, chaos: random.Random, own_broker: Broker, start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """One that the source waits out; a crash, after which its client has given up, and Flink tries again."""
    topic = Topic(own_broker.bootstrap_servers, partitions=2)
    records = topic.produce(random_lines(chaos.random(), 30_000, partitions=2))
    output = tmp_path / "out"
    # Idle partitions do not hold windows back, and in an outage all are idle: the first one that is back would close
    # the windows of the others.
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    config = tmp_path / "client.properties"
    patience = "default.api.timeout.ms=15000\nrequest.timeout.ms=10000\n" if long else ""  # by default a minute
    config.write_text(f"metadata.recovery.rebootstrap.trigger.ms=1000\n{patience}")  # by default five minutes
    job = start_job(*arguments, "--idle-timeout", "0", "--kafka-config", str(config))
    job.until(lambda: checkpoints(tmp_path / "checkpoints"), "a checkpoint")
    [log] = (job.engine.log.parent / "log").glob("*.log")  # of other jobs, too
    before = log.read_text().count("Rebootstrapping with")
    if long:
        own_broker.kill()
    else:
        own_broker.stop()
    time.sleep(30 if long else 20)  # the outage; the source asks for new partitions every ten seconds
    own_broker.start()
    records += topic.produce(random_lines(chaos.random(), 1_000, partitions=2, start=START + CLOSING // 2))
    topic.produce(closing(2))
    job.until(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(60).code == 0
    assert read_files(output) == expected_counts(records + closing(2))
    assert ("\nFlink tries again (newest checkpoint: of " in job.stderr.read_text("utf-8")) == long
    assert log.read_text().count("Rebootstrapping with") == before, "some thousand times a minute"


def test_slow_and_bursty_producer(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Pauses longer than the idle timeout, single records, bursts; each record is stamped as it is sent."""
    topic = new_topic(partitions=3)
    output = tmp_path / "out"
    job = start_job(*topic.arguments(), "--output", str(output), "--idle-timeout", "3", "--max-delay", "2")
    records: list[Record] = []
    for _ in range(8):
        burst = chaos.choice([1, 2, 10, 5_000])
        now = int(time.time() * 1000)
        records += topic.produce(
            [Record(b"slow or bursty %d" % chaos.randrange(20), now, chaos.randrange(3)) for _ in range(burst)]
        )
        time.sleep(chaos.choice([0.01, 0.5, 1.5, 5]))  # the producer's pause
    later = int(time.time() * 1000) + 60_000
    topic.produce(lines("closing", start=later, partition=0))
    job.until(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows")


def test_partition_added(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic(partitions=1)
    records = topic.produce(random_lines(chaos.random(), 500, partitions=1))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    # The partition is found within 10 s; until then, time goes on in the other one.
    arguments = [*topic.arguments(), "--max-delay", "60", "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments)
    job.until(topic.committed, "the first offsets")
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        admin.create_partitions({topic.name: 2})
    start = START + 1_000_000
    records += topic.produce(random_lines(chaos.random(), 500, partitions=2, start=start))
    job.until(lambda: topic.committed() == {0, 1}, "offsets of the new partition")
    topic.produce(closing(2))
    job.until(lambda: read_files(output) == expected_counts(records), "the rows of the closed windows")
    job.end()

    records += closing(2)
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)


def test_disk_full(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The run ends and says why; the next one, after space was made, has the counts of a run that nothing stopped."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here, so no small disk")
    topic = new_topic()
    records = topic.produce(random_lines(chaos.random(), 20_000, partitions=1))
    output, copy = tmp_path / "out", tmp_path / "copy"
    output.mkdir()
    arguments = [*topic.arguments(), "--bounded", "--output", str(output)]
    job = " ".join(map(str, [sys.executable, SCRIPT, *arguments, "--checkpoint-dir", tmp_path / "checkpoints"]))
    script = f"""
        mount -t tmpfs -o size=1m tmpfs {output}
        head -c 900000 /dev/zero > {output}/filler
        {job}; echo "first run: $?" >&2
        rm {output}/filler
        {job}; echo "second run: $?" >&2
        cp -r {output} {copy}
    """
    ended = subprocess.run([*namespace, "sh", "-c", script], env=environment_with(), capture_output=True, text=True)
    first, _, second = ended.stderr.partition("first run: 1\n")
    assert "No space left on device\nThe job has failed." in first, ended.stderr
    assert second.endswith("second run: 0\n"), ended.stderr
    assert read_files(copy) == expected_counts(records)


def test_two_jobs_with_the_same_group_and_output(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Each reads all partitions and writes all rows, into files of its own: every row is there twice."""
    topic = new_topic(partitions=2)
    records = topic.produce(random_lines(chaos.random(), 2_000, partitions=2))
    output = tmp_path / "out"
    jobs = [start_job(*topic.arguments(), "--start", "earliest", "--bounded", "--output", str(output)) for _ in "12"]
    assert [job.wait().code for job in jobs] == [0, 0]
    rows = Counter("".join(file.read_text() for file in output.rglob("counts-*.tsv")).splitlines())
    assert {tuple(row.split("\t")): times for row, times in rows.items()} == {
        (window, word, str(count)): 2 for (window, word), count in expected_counts(records).items()
    }


def test_fuzz(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic(partitions=2)
    records = topic.produce(fuzzed_records(10_000, chaos.randrange(2**32)))
    assert len(records) >= 10_000
    decades = str(60 * 366 * 24 * 3600)
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, "--max-delay", decades).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)
    nulls = sum(record.value is None for record in records)
    assert f"Records with a null value (tombstones), not counted: {nulls}\n" in ended.stderr


def test_fuzz_of_late_records(
    chaos: random.Random, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Without --max-delay many words are late; each word is either in a row or in the number that is reported."""
    topic = new_topic(partitions=2)
    records = topic.produce(fuzzed_records(2_000, chaos.randrange(2**32)))
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    # Watermarks come every 200 ms: a job that has read everything by then finds nothing late.
    ended = start_job(*arguments, slow=True).wait()
    assert ended.code == 0, ended.stderr
    rows, expected = read_files(tmp_path / "out"), expected_counts(records)
    assert all(count <= expected[row] for row, count in rows.items())
    late = int(ended.stderr.partition("not counted (--max-delay): ")[2].split()[0])
    assert late > 0
    assert sum(rows.values()) + late == sum(expected.values())
