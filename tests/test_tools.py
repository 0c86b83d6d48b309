"""The embedded broker and the demo around the job; `make demo` as a whole is run by .ci/run."""

import contextlib
import hashlib
import io
import itertools
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from kafka_job.kafka.config import read_config

import pytest
from jgo.maven import MavenContext
from kafka import KafkaConsumer

import broker
import demo
from support import ROOT, wait_for
from test_doors import assert_local, listening


@pytest.mark.slow
def test_broker_in_the_foreground_until_ctrl_c(tmp_path: Path) -> None:
    """What `make broker` runs; and the command that it names for typing words, as a shell runs it."""
    port = broker.free_port()
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, ROOT / "tools" / "broker.py", "--port", str(port)], stdout=output, stderr=output
        )
    try:
        wait_for(lambda: f"Kafka is up on localhost:{port}; Ctrl-C ends it." in printed.read_text(), "the broker", 60)
        wait_for(lambda: printed.read_text().endswith(" -t input\n"), "a command to type words with")
        said = printed.read_text().partition("run in another terminal:\n")[2]
        subprocess.run(
            ["bash", "-e"], input=f"{said.strip()} <<< 'hello world'", text=True, cwd=ROOT, check=True, timeout=60
        )
        with contextlib.closing(
            KafkaConsumer("input", bootstrap_servers=f"localhost:{port}", auto_offset_reset="earliest")
        ) as consumer:
            assert next(iter(consumer)).value == b"hello world"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert printed.read_text().endswith("Kafka is stopped.\n")
    assert not broker.is_listening(port)


def test_paths_in_properties_are_those_that_java_reads(tmp_path: Path) -> None:
    """Kafka, and kafka_job as Kafka does: not as UTF-8."""
    file = tmp_path / "client.properties"
    file.write_bytes(broker.as_java_reads_it("client.id=/home/jörg/é\n"))
    assert read_config(str(file)) == {"client.id": "/home/jörg/é"}


def test_broker_on_a_port_that_is_taken() -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, ROOT / "tools" / "broker.py", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"Port {port} is taken; stop what listens there, or choose another: --port\n"


@pytest.mark.slow
def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    """In Kafka's own words. Its Java is one of its own: it is the one that fails."""
    with (
        socket.create_server(("localhost", 0)) as taken,
        pytest.raises(broker.BrokerError, match=r"ERROR .* Address already in use"),
        broker.embedded_broker(taken.getsockname()[1], tmp_path / "kafka"),
    ):
        pass


def test_broker_in_a_folder_that_cannot_be_made() -> None:
    where = ["--port", str(broker.free_port()), "--data-dir", "/dev/null/x"]
    command = [sys.executable, ROOT / "tools" / "broker.py", *where]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "[Errno 20] Not a directory: '/dev/null/x'\n")


def environment_with_jars(folder: Path, **changed: bytes) -> Path:
    """An environment with Kafka's jars as links to those of this one, except for some; its path."""
    jars = broker.jars_folder(folder)
    jars.mkdir(parents=True)
    for jar in broker.kafka_jars().iterdir():
        if jar.name.startswith(tuple(changed)):
            (jars / jar.name).write_bytes(*changed.values())
        else:
            (jars / jar.name).symlink_to(jar)
    return folder


def test_changed_jar_is_refused(tmp_path: Path) -> None:
    assert broker.kafka_jars(environment_with_jars(tmp_path / "same"))
    changed = environment_with_jars(tmp_path / "changed", lz4=b"not what was pinned")
    [name] = [jar.name for jar in broker.jars_folder(changed).iterdir() if not jar.is_symlink()]
    with pytest.raises(broker.BrokerError) as refused:
        broker.kafka_jars(changed)
    mend = f"delete {broker.jars_folder(changed)} and run: python tools/broker.py --download"
    assert str(refused.value) == f"Kafka's jars are not those in kafka-jars.lock ({name}); {mend}"


def test_wrong_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is locked."""
    place = "org/kafka/1.0/kafka-1.0.jar"

    def found(maven: MavenContext) -> list[Path]:
        """In place of Maven Central: one jar, another one than those we know."""
        jar = maven.repo_cache / place
        jar.parent.mkdir(parents=True)
        jar.write_bytes(b"something else")
        link = maven.repo_cache.parent / jar.name
        link.hardlink_to(jar)
        return [link]

    monkeypatch.setattr(broker, "pinned", found)
    monkeypatch.setattr(broker, "resolved", found)
    with pytest.raises(
        broker.BrokerError, match=r" kafka-1\.0\.jar, .*\); nothing is kept\. After a change of Kafka's v"
    ):
        broker.kafka_jars(tmp_path)
    assert list((tmp_path / "share").iterdir()) == []

    monkeypatch.setattr(broker, "LOCK", tmp_path / "kafka-jars.lock")
    jars = broker.lock_jars(tmp_path)
    assert broker.LOCK.read_text() == f"{hashlib.sha256(b'something else').hexdigest()}  {place}\n"
    assert broker.kafka_jars(tmp_path) == jars


def test_demo_touches_no_broker_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts one on another port, which ends with the demo."""
    running: list[int] = []

    @contextlib.contextmanager
    def start(port: int) -> Iterator[SimpleNamespace]:
        running.append(port)
        yield SimpleNamespace(bootstrap_servers=f"localhost:{port}")
        running.remove(port)

    monkeypatch.setattr(demo, "embedded_broker", start)
    with socket.create_server(("localhost", 0)) as somebodys:
        monkeypatch.setattr(demo, "PORT", somebodys.getsockname()[1])
        with demo.demo_broker(None) as address:
            assert address != f"localhost:{demo.PORT}"
            assert [f"localhost:{port}" for port in running] == [address]
            assert demo.where(address) == ["--bootstrap-servers", address]
    assert not running


def test_demo_uses_the_broker_that_is_named(own_broker: broker.Broker) -> None:
    """The broker keeps what it was sent over a crash."""
    if sys.platform == "linux":  # it is for this machine
        sockets = listening(own_broker.process.pid)
        assert own_broker.port in sockets
        assert_local(sockets)
    with demo.demo_broker(own_broker.bootstrap_servers) as address:
        assert address == own_broker.bootstrap_servers
        assert broker.create_topic(address, "input")
        assert not broker.create_topic(address, "input")  # there already
        demo.produce_sample(address)
    assert broker.is_kafka(own_broker.bootstrap_servers), "the demo has ended a broker that it did not start"
    own_broker.kill()
    own_broker.start()
    with contextlib.closing(
        KafkaConsumer("input", bootstrap_servers=address, auto_offset_reset="earliest")
    ) as consumer:
        sample = demo.SAMPLE.read_bytes().splitlines()
        records = list(itertools.islice(consumer, len(sample)))
    assert [record.value for record in records] == sample
    assert records[-1].timestamp - records[0].timestamp >= 60_000


def test_demo_shows_the_top_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    screen = io.StringIO()
    monkeypatch.setattr(demo, "console", demo.Console(file=screen, width=80))
    (tmp_path / "a.tsv").write_text("2026-11-22T14:00:05Z\tthe\t2\n2026-11-22T14:00:05Z\triver\t1\n")
    (tmp_path / "b.tsv").write_text("2026-11-22T14:00:10Z\tthe\t1\n")
    demo.show([tmp_path / "a.tsv", tmp_path / "b.tsv"])
    shown = Counter(dict(re.findall(r"│ (\w+) +│ +(\d+) │", screen.getvalue())))
    assert shown == {"the": "3", "river": "1"}
    assert "4 words in 3 rows (window, word, count) of 2 windows, in:\n  a.tsv\n  b.tsv\n" in screen.getvalue()


@pytest.mark.chaos
def test_quick_benchmark() -> None:
    """Every run of every job has the right rows, else it ends with an error."""
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench.py", "--quick"], capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout in (ROOT / "benchmarks" / "results" / "quick.md").read_text("utf-8")
