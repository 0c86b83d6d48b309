"""The job against a stand-in for Redpanda, the broker of docker-compose.yml; see redpanda.py for what that can show."""

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse, MetadataRequest

from broker import is_listening
from conftest import Cluster, Job, Topic, environment_with
from redpanda import OFFERED, UNSUPPORTED_VERSION, Redpanda, proxy_of, redpanda
from support import ROOT, SCRIPT, START, Record, expected_counts, lines, parse_rows, random_lines, read_files, wait_for
from test_cluster import rescaled
from test_local_run import PRINTING

# The test files in which the job reads from the broker of the fixtures.
END_TO_END = [
    *(
        "checks",
        "cluster",
        "corners",
        "literal",
        "local_run",
        "resume",
        "sql",
        "totals",
        "usages",
        "watermarks",
    ),
    *("recipes_enrich", "recipes_json", "recipes_sliding", "recipes_top"),  # not recipes_kafka, travel: transactions
]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Redpanda]:
    """A broker that looks like Redpanda; at the end nobody has asked it for more than it offers."""
    with redpanda() as stand_in:
        yield stand_in
        assert stand_in.refused == []


@pytest.fixture(scope="module")
def bootstrap_servers(stand_in: Redpanda) -> str:
    """In this file `new_topic` makes topics there."""
    return stand_in.bootstrap_servers


# --- The stand-in itself --------------------------------------------------------------------------------------------


def ask(port: int, request: ApiVersionsRequest | MetadataRequest) -> bytes:
    """The answer to a request, without its length; empty where the connection is closed instead."""
    request.with_header(correlation_id=7, client_id="test")
    with socket.create_connection(("localhost", port), timeout=10) as connection, connection.makefile("rb") as stream:
        connection.sendall(request.encode(framed=True, header=True))
        length = stream.read(4)
        return stream.read(*struct.unpack(">i", length)) if length else b""


@pytest.mark.parametrize("version", range(5))
def test_answer_to_api_versions(version: int, stand_in: Redpanda) -> None:
    answer = ask(
        stand_in.port,
        ApiVersionsRequest(version=version, client_software_name="test", client_software_version="1"),
    )
    layout = version if version <= 3 else 0
    decoded = ApiVersionsResponse.decode(answer, version=layout, header=True)
    assert bytes(decoded.encode(header=True)) == answer, "an answer of another layout"
    assert decoded.header.correlation_id == 7
    offered = {api.api_key: (api.min_version, api.max_version) for api in decoded.api_keys}
    if version > 3:
        assert (decoded.error_code, offered) == (UNSUPPORTED_VERSION, {18: (0, 3)})
    else:
        assert decoded.error_code == 0
        assert offered.keys() == OFFERED.keys()
        assert {key: last for key, (_, last) in offered.items()} == {key: last for key, (_, _, last) in OFFERED.items()}
        assert not decoded.finalized_features


def test_what_is_not_offered_is_refused(stand_in: Redpanda) -> None:
    with proxy_of(stand_in.broker_port) as other:
        assert ask(other.port, MetadataRequest(version=8, topics=None))
        assert ask(other.port, MetadataRequest(version=9, topics=None)) == b""
        assert other.refused == ["Metadata 9"]
        idle = socket.create_connection(("localhost", other.port), timeout=10)
    with idle:
        assert idle.recv(1) == b"", "the end of the proxy is the end of its connections"
    assert not is_listening(other.port)


def test_kafka_python(stand_in: Redpanda, new_topic: Callable[..., Topic]) -> None:
    topic = new_topic()
    [record] = topic.produce(lines("over the proxy"))
    with contextlib.closing(
        KafkaConsumer(topic.name, bootstrap_servers=stand_in.bootstrap_servers, auto_offset_reset="earliest")
    ) as consumer:
        assert next(iter(consumer)).value == record.value
    with KafkaAdminClient(bootstrap_servers=stand_in.bootstrap_servers) as admin:
        [described] = admin.describe_topics([topic.name])
        assert not described.get("topic_id"), "Redpanda has no topic ids"


# --- The job against it ---------------------------------------------------------------------------------------------


def test_local_runs(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """To files and to stdout."""
    topics = [new_topic(partitions=3), new_topic()]
    records = [topics[0].produce(random_lines(11, 600, partitions=3)), topics[1].produce(lines(*["to stdout"] * 20))]
    to_files = start_job(*topics[0].arguments(), "--bounded", "--output", str(tmp_path / "out"))
    ended = to_files.wait()
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (0, "", 1), ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records[0])
    assert topics[0].committed_records() == 600
    ended = start_job(*topics[1].arguments(), "--bounded").wait()
    assert (ended.code, ended.stderr.count("\n")) == (0, 1), ended.stderr
    assert parse_rows(ended.stdout.removeprefix(PRINTING)) == expected_counts(records[1])


def test_rescaling_from_savepoints(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """One subtask, then three, then two: the counts of the open window move with their shards."""
    topic = new_topic(partitions=3)
    records: list[Record] = []
    output = tmp_path / "out"
    run = ["--python", SCRIPT, "--output", str(output), "--window", "100000", *topic.arguments()]

    def produce(number: int) -> None:
        records.extend(topic.produce(random_lines(number, 600, partitions=3, start=START + number * 60_000)))

    rescaled(cluster, run, tmp_path / "savepoints", produce)
    assert read_files(output) == {}, "the window has closed"
    closing = [line for partition in range(3) for line in lines("x", start=START + 200_000_000, partition=partition)]
    topic.produce(closing)
    wait_for(lambda: read_files(output) == expected_counts(records, window=100_000), "the rows of the window")


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """The window that was open counts on: its words are in a checkpoint only."""
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments)
    job.until(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    job.end()
    records += topic.produce(lines("open", "open", start=START + 6_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith(f"Going on from {folder}/")
    assert read_files(output) == expected_counts(records)


# Transactions of kafka-python, and of our sink, leave no marker there, so that nothing of them is ever committed.
SELECTED = ["-m", "not chaos and not docs", "-k", "not transaction and not counts_to_kafka"]


@pytest.mark.chaos
def test_all_end_to_end_tests(stand_in: Redpanda) -> None:
    """As if Redpanda were the broker at $KAFKA_BOOTSTRAP_SERVERS."""
    files = [f"tests/test_{name}.py" for name in END_TO_END]
    env = environment_with(KAFKA_BOOTSTRAP_SERVERS=stand_in.bootstrap_servers)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *SELECTED, *files],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"Kafka broker: {stand_in.bootstrap_servers}" in ended.stdout
    assert stand_in.refused == []
