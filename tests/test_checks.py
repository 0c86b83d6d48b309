"""A bad set-up gets one sentence, exit code 1, and no stack trace, within seconds."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from kafka_job.flink.connector import find_connector

import pytest
from kafka import KafkaAdminClient

import broker
from conftest import BIN, Job, Topic
from support import edited, lines

SECONDS = 10  # to say what is wrong


def complaint(job: Job) -> str:
    """The one sentence that a job ends with."""
    ended = job.wait(SECONDS)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.strip()


def test_no_broker(start_job: Callable[..., Job]) -> None:
    address = f"localhost:{broker.free_port()}"
    assert complaint(start_job("--bootstrap-servers", address)) == (
        f"No Kafka broker answers on {address}; start one: docker compose up -d (or: make broker)"
    )


def test_not_kafka(start_job: Callable[..., Job]) -> None:
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        said = complaint(start_job("--bootstrap-servers", address))
    assert said.startswith(f"What listens on {address} does not answer within 3 seconds; see what it is")


def test_missing_topic(own_broker: broker.Broker, start_job: Callable[..., Job]) -> None:
    """The sentence names what exists, and a command that mends it."""
    address = own_broker.bootstrap_servers
    kafka_admin = f"python -m kafka.admin --bootstrap-servers {address}"
    create = f"create it: {kafka_admin} topics create --topic input > /dev/null"
    assert complaint(start_job("--bootstrap-servers", address)) == f"There is no topic input on {address}; {create}"

    other = Topic(address, partitions=1).name
    said = complaint(start_job("--bootstrap-servers", address))
    assert said == f"There is no topic input on {address} (there are: {other}); {create}"

    command = said.partition("create it: ")[2]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}  # what an active environment gives
    created = subprocess.run(command, shell=True, env=env, check=True, capture_output=True, timeout=60)
    assert (created.stdout, created.stderr) == (b"", b"")
    with KafkaAdminClient(bootstrap_servers=address) as admin:
        assert "input" in admin.list_topics()


@pytest.mark.parametrize("topic", ["a,b", "input.*", "a b"])
def test_what_is_no_name_of_a_topic(topic: str, bootstrap_servers: str, start_job: Callable[..., Job]) -> None:
    said = complaint(start_job("--bootstrap-servers", bootstrap_servers, "--topic", topic))
    assert said == f"{topic} cannot be the name of a topic, of which a job reads one; mend --topic"


def test_output_that_cannot_be_written(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    said = complaint(start_job(*new_topic().arguments(), "--output", "/dev/null/out"))
    assert said == "Cannot write to /dev/null/out: Not a directory; choose another folder: --output PATH"


def test_connector_that_is_damaged(tmp_path: Path) -> None:
    jar = tmp_path / "flink-sql-connector-kafka-5.0.0-2.2.jar"
    jar.write_bytes(b"half a jar")
    with pytest.raises(SystemExit, match=rf"^{jar} is damaged; run: rm {jar} && python {tmp_path}/fetch.py$"):
        find_connector(tmp_path, "2.2.1")


def test_error_in_a_python_function(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """A bug in the script reaches the screen as its own traceback, with no Java in it."""
    bug = "return [1 // (word != 'bug') for word in words]"
    buggy = edited(tmp_path / "buggy", "return shards.items()", bug)
    topic = new_topic()
    topic.produce(lines("a bug"))
    ended = start_job(*topic.arguments(), "--bounded", script=buggy).wait()
    assert ended.code == 1
    assert bug in ended.stderr
    assert "ZeroDivisionError: integer division or modulo by zero\n" in ended.stderr
    [pointer] = [line for line in ended.stderr.splitlines() if line.startswith("The job has failed. ")]
    assert pointer.startswith("The job has failed. All of Flink's log is in /")
    assert "ZeroDivisionError" in Path(pointer.rpartition(" ")[2]).read_text("utf-8")
    assert "\tat " not in ended.stderr
    assert "pyflink/fn_execution" not in ended.stderr
