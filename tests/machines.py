"""A cluster whose parts are on machines of their own: what links that go down, and machines that die, do to the counts.

test_machines.py runs these tests, each in a network of its own; see network.py. From here, a machine as well, the job
is submitted, and records are produced all the while. None of the others sees the repository. The rows are compared with
the independent count of what was produced.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from kafka import KafkaProducer

from conftest import Topic
from network import Network
from support import SCRIPT, START, Record, expected_counts, lines, random_lines, read_files, wait_for
from test_cluster import job_id

PARTITIONS = 6
OUTAGE = 60  # seconds; after ten, heartbeat.timeout, each side has given up the other


class Feed:
    """Produces lines until it is told to end, whatever goes on meanwhile."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.told_to_end = threading.Event()
        self.produced: Future[list[Record]] = Future()
        threading.Thread(target=self._run, daemon=True).start()  # a test that fails does not wait for it

    def _run(self) -> None:
        try:
            self.produced.set_result(self._produce())
        except Exception as error:
            self.produced.set_exception(error)

    def _produce(self) -> list[Record]:
        records: list[Record] = []
        sent = []
        producer = KafkaProducer(bootstrap_servers=self.topic.bootstrap_servers)

        def send(some: list[Record]) -> None:
            for one in some:
                at = {"partition": one.partition, "timestamp_ms": one.timestamp}
                sent.append(producer.send(self.topic.name, one.value, **at))

        while not self.told_to_end.wait(0.25):
            chunk = random_lines(len(records), 60, PARTITIONS, start=START + len(records) * 50)  # 3 s of event time
            send(chunk)
            records += chunk
        send([line for partition in range(PARTITIONS) for line in lines("x", start=CLOSING, partition=partition)])
        for future in sent:
            future.get(60)
        producer.close()
        return records

    def end(self) -> list[Record]:
        """Close all windows; what was produced in them."""
        self.told_to_end.set()
        return self.produced.result(120)


CLOSING = START + 100_000_000  # the timestamp of the last record in each partition


class Run:
    """A job that counts what a feed produces, as its user sees it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.topic = Topic(network.bootstrap_servers, PARTITIONS)
        self.output = network.shared / "out"
        self.feed = Feed(self.topic)
        self.job = ""

    def submit(self, parallelism: int, *flags: str) -> None:
        """Hand the job to the cluster, and wait until it has made checkpoints."""
        # All partitions have records: one that is silent because of an outage must not count as idle.
        arguments = [*self.topic.arguments(), "--output", str(self.output), "--idle-timeout", "0"]
        run = ["run", "--detached", "-p", str(parallelism), *flags, "--python", SCRIPT]
        self.job = job_id(self.network.flink(*run, *arguments))
        self.goes_on()

    def state(self) -> str:
        return self.network.rest(f"/jobs/{self.job}")["state"]

    def goes_on(self, timeout: float = 180) -> None:
        """Wait until the job has made checkpoints with more records in them."""
        before = self.checkpoints()

        def further() -> bool:
            assert self.state() != "FAILED", self.failures()
            return self.checkpoints() >= before + 2

        wait_for(further, "checkpoints", timeout)

    def checkpoints(self) -> int:
        """How many were completed."""
        return self.network.rest(f"/jobs/{self.job}/checkpoints")["counts"]["completed"]

    def failures(self) -> list[str]:
        """The last failures of the job, newest first."""
        entries = self.network.rest(f"/jobs/{self.job}/exceptions")["exceptionHistory"]["entries"]
        return [entry["stacktrace"].partition("\n")[0] for entry in entries]

    def workers(self) -> set[str]:
        """The addresses of the machines that the job runs on."""
        vertices = self.network.rest(f"/jobs/{self.job}")["vertices"]
        subtasks = [
            subtask
            for vertex in vertices
            for subtask in self.network.rest(f"/jobs/{self.job}/vertices/{vertex['id']}")["subtasks"]
        ]
        return {subtask["endpoint"].partition(":")[0] for subtask in subtasks}

    def stop(self) -> str:
        """Stop the job with a savepoint; the flag that goes on from it."""
        stopped = self.network.flink("stop", "--savepointPath", str(self.network.shared / "savepoints"), self.job)
        assert stopped.code == 0, stopped.stdout + stopped.stderr
        return re.search(r"Savepoint completed. Path: (\S+)", stopped.stdout)[1]

    def counts_are_exact(self) -> None:
        """End the feed, and wait for the rows of all that was produced."""
        expected = expected_counts(self.feed.end())
        wait_for(lambda: sum(read_files(self.output).values()) >= sum(expected.values()), "rows of all records")
        assert read_files(self.output) == expected


@pytest.fixture
def start_network(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Starts a network of machines."""
    networks: list[Network] = []

    def start(task_managers: int = 3, slots: int = 1, **settings: str) -> Network:
        networks.append(Network(tmp_path, task_managers, slots, **settings))
        networks[-1].start()
        return networks[-1]

    yield start
    for network in networks:
        network.stop()


def test_three_task_managers(start_network: Callable[..., Network], tmp_path: Path) -> None:
    network = start_network()
    run = Run(network)
    run.submit(3)
    assert run.workers() == {worker.address for worker in network.workers}
    run.counts_are_exact()


def test_a_task_manager_without_its_link_and_slots_to_spare(start_network: Callable[..., Network]) -> None:
    """The job goes on meanwhile with those that are left; with it again once it is back."""
    network = start_network(slots=2)
    run = Run(network)
    run.submit(3)
    lost = network.workers[0]
    with lost.unplugged():
        cut = time.monotonic()
        wait_for(lambda: lost.address not in run.workers() and run.state() == "RUNNING", "a restart elsewhere")
        run.goes_on()
        time.sleep(max(0, cut + OUTAGE - time.monotonic()))  # the fault itself, not a wait for something
    wait_for(lambda: network.rest("/overview")["taskmanagers"] == 3, "the TaskManager that is back")
    run.counts_are_exact()


def test_a_task_manager_without_its_link_and_no_slot_to_spare(start_network: Callable[..., Network]) -> None:
    """The job waits until it is back."""
    network = start_network()
    run = Run(network)
    run.submit(3)
    with network.workers[0].unplugged():
        time.sleep(OUTAGE)  # the fault itself, not a wait for something
    run.goes_on()
    assert run.workers() == {worker.address for worker in network.workers}
    run.counts_are_exact()


def test_a_task_manager_that_dies(start_network: Callable[..., Network]) -> None:
    """The job waits for another one."""
    network = start_network()
    run = Run(network)
    run.submit(3)
    lost = network.workers[0]
    lost.power_off()
    wait_for(lambda: run.state() != "RUNNING", "the end of the job's parts")
    network.start_worker(lost)
    run.goes_on()
    run.counts_are_exact()


def test_rescaling(start_network: Callable[..., Network]) -> None:
    """On three machines, then on one, then on two; what was produced between stop and start is counted as well."""
    network = start_network()
    run = Run(network)
    run.submit(3)
    run.submit(1, "-s", run.stop())
    assert len(run.workers()) == 1
    run.submit(2, "-s", run.stop())
    assert len(run.workers()) == 2
    run.counts_are_exact()


def test_the_job_manager_without_its_link(start_network: Callable[..., Network]) -> None:
    """All are cut off from it. They give up what they do, and it starts the job again when they are back."""
    network = start_network()
    run = Run(network)
    run.submit(3)
    with network.job_manager.unplugged():
        time.sleep(OUTAGE)  # the fault itself, not a wait for something
    run.goes_on()
    run.counts_are_exact()


def test_the_broker_without_its_link(start_network: Callable[..., Network]) -> None:
    """The job waits, and does not fail."""
    network = start_network()
    run = Run(network)
    run.submit(3)
    with network.broker.unplugged():
        # The fault itself. Where the source's question for new partitions has no answer for 60 s, the job does fail.
        time.sleep(OUTAGE / 2)
    run.goes_on()
    assert not run.failures()
    run.counts_are_exact()


def test_a_cluster_without_a_folder_for_checkpoints(start_network: Callable[..., Network]) -> None:
    """A folder on this machine would be of no use to it."""
    network = start_network(0, **{"execution.checkpointing.dir": ""})
    topic = Topic(network.bootstrap_servers, PARTITIONS)
    ended = network.flink("run", "--python", SCRIPT, *topic.arguments())
    assert ended.code == 31
    assert f"The cluster at {network.job_manager.address} keeps checkpoints in memory" in ended.stdout + ended.stderr


def test_an_older_cluster_with_no_slot_to_spare(start_network: Callable[..., Network]) -> None:
    """Five minutes after its start a JobManager no longer waits for slots: each try fails at once, and is counted."""
    network = start_network(**{"resourcemanager.standalone.start-up-time": "1 s"})
    run = Run(network)
    run.submit(3)
    with network.workers[0].unplugged():
        time.sleep(OUTAGE)  # the fault itself, not a wait for something
    run.goes_on()
    run.counts_are_exact()
