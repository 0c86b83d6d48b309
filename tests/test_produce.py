"""tools/produce.py: lines with times of their own become records; what is wrong is said before anything is sent."""

import contextlib
import itertools
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

import produce as program
from broker import free_port
from conftest import Finished
from programs import run_here
from support import ROOT, wait_for

FOURTEEN = 1_795_356_000_000  # 2026-11-22T14:00:00Z in milliseconds, by date -u -d 2026-11-22T14:00Z +%s000


@pytest.fixture
def topic(bootstrap_servers: str) -> Iterator[str]:
    """A name for a topic that is not there yet; what has it after the test is deleted."""
    name = f"test-{uuid.uuid4()}"
    yield name
    if name in topics(bootstrap_servers):
        with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
            admin.delete_topics([name])


def topics(bootstrap_servers: str) -> list[str]:
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        return admin.list_topics()


def produce(*arguments: str | Path, stdin: str = "") -> Finished:
    """Run tools/produce.py; how it has ended. The pages, and the tests of secure brokers, run it as a process."""
    return run_here(program.main, *arguments, stdin=stdin)


def records(bootstrap_servers: str, topic: str) -> list[list[tuple[int, bytes]]]:
    """The records of a topic, by partition, as (milliseconds after 14:00, value)."""
    with contextlib.closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=None)) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(partitions)
        found = []
        for one in partitions:
            consumer.assign([one])
            consumer.seek_to_beginning(one)
            found.append([(r.timestamp - FOURTEEN, r.value) for r in itertools.islice(consumer, ends[one])])
        return found


def test_lines_become_records(bootstrap_servers: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("14:00:01 hello wörld\n14:00:09.250 late\n14:00:03 @ 2 is text\n")
    (tmp_path / "two").write_text("14:00:04 @1  two  spaces\r\n14:00:15\n")
    arguments = ["--bootstrap-servers", bootstrap_servers, "--topic", topic, "--partitions", "3"]
    ended = produce(*arguments, tmp_path / "one", tmp_path / "two")
    said = f"Sent to topic {topic}: 5 lines, from 14:00:01 to 14:00:15 of 2026-11-22 (UTC)\n"
    assert (ended.code, ended.stdout, ended.stderr) == (0, said, "")
    first = [(1000, "hello wörld".encode()), (9250, b"late"), (3000, b"@ 2 is text"), (15_000, b"")]
    assert records(bootstrap_servers, topic) == [first, [(4000, b" two  spaces")], []]

    assert produce(*arguments, "-", stdin="14:01:00 @2 from stdin").code == 0
    assert records(bootstrap_servers, topic) == [first, [(4000, b" two  spaces")], [(60_000, b"from stdin")]]

    ended = produce(*arguments, "--partitions", "2", "-", stdin="14:01:00 more")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == f"Topic {topic} is there already, partitions: 3, not 2; nothing is sent\n"


@pytest.mark.parametrize("wrong", ["hello", "", "14:00 a", "25:00:00 a", "14:00:01.5 a", "14:00:01a", " 14:00:01 a"])
def test_malformed_line(bootstrap_servers: str, topic: str, wrong: str) -> None:
    ended = produce("--bootstrap-servers", bootstrap_servers, "--topic", topic, "-", stdin=f"14:00:01 good\n{wrong}\n")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == (
        "-, line 2: expected '14:00:01 some text' or '14:00:01.250 @1 some text', @1 being the partition; "
        "nothing is sent\n"
    )
    assert topic not in topics(bootstrap_servers)


def test_lines_as_they_are_typed(bootstrap_servers: str, topic: str) -> None:
    command = [sys.executable, ROOT / "tools" / "produce.py", "--bootstrap-servers", bootstrap_servers]
    before = int(time.time() * 1000)
    process = subprocess.Popen([*command, "--topic", topic], stdin=subprocess.PIPE)
    try:
        process.stdin.write(b"14:00:01 is text here\n")
        process.stdin.flush()
        wait_for(lambda: topic in topics(bootstrap_servers) and records(bootstrap_servers, topic) != [[]], "a record")
        assert process.poll() is None
        process.communicate(b"\nlast, w\xc3\xb6rld", timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    [found] = records(bootstrap_servers, topic)
    assert [text for _, text in found] == [b"14:00:01 is text here", b"", "last, wörld".encode()]
    assert all(before <= FOURTEEN + milliseconds <= time.time() * 1000 for milliseconds, _ in found)


def test_other_mistakes_are_said_in_one_sentence(bootstrap_servers: str, topic: str, tmp_path: Path) -> None:
    def said(*arguments: str | Path, stdin: str = "14:00:01 good\n") -> str:
        ended = produce("--topic", topic, "--bootstrap-servers", bootstrap_servers, *arguments, stdin=stdin)
        assert (ended.code, ended.stdout) == (1, "")
        return ended.stderr

    nobody = f"localhost:{free_port()}"
    start_one = "start one: docker compose up -d (or: make broker)"
    assert said("--bootstrap-servers", nobody, "-") == f"No Kafka broker answers on {nobody}; {start_one}\n"
    assert said(tmp_path / "none") == f"Cannot read {tmp_path}/none: No such file or directory\n"
    assert said("-", stdin="") == "There is no line to send\n"
    beyond = "-, line 1: there is no partition 1; nothing is sent (--partitions N)\n"
    assert said("-", stdin="14:00:01 @1 beyond\n") == beyond
    assert said("--topic", "no good", "-").startswith(f"The broker on {bootstrap_servers} does not take the lines: ")
    assert "argument --pause: it cannot be less than 0" in produce("--topic", topic, "--pause", "-1").stderr
    assert topic not in topics(bootstrap_servers)
