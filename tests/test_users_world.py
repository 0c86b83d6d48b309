"""Where the program meets a machine that is no test bench, and Kafka as others write it: codecs, locales, disks.

What is wrong is said in one sentence, and nothing is lost without a word.
"""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from kafka_job import Stop
from kafka_job.execution import cluster as submission
from kafka_job.execution import entry, watch
from kafka_job.execution.job import said_in_one_sentence
from kafka_job.flink import connector, gateway, output
from kafka_job.flink.running import get_json, why_it_failed
from kafka_job.kafka.broker import Broker, ask_for_offsets
from kafka_job.options import JobOptions
from kafka_job.resume.folder import record_start, recorded_start, taken
from kafka_job.resume.plans import plan_in

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

import broker as embedded
import flink_on_path
import word_count
from conftest import PYFLINK, Cluster, Job, Topic
from support import (
    ROOT,
    SCRIPT,
    START,
    Record,
    checkpoints,
    expected_counts,
    lines,
    parse_rows,
    random_lines,
    read_files,
)
from test_local_run import PRINTING
from test_travel import NAMESPACE

DISK = "mount -t tmpfs -o {options} tmpfs {folder}; "
THROUGH = [*NAMESPACE, "sh", "-c"]


def can_mount(folder: Path) -> bool:
    """Whether this machine lets us mount something in a namespace of our own."""
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True).returncode == 0


def with_disk(folder: Path, options: str) -> list[str]:
    """The command that runs another one with a disk in a folder."""
    if not can_mount(folder):
        pytest.skip("no user namespaces here, so no disk of our own")
    return [*THROUGH, DISK.format(options=options, folder=folder) + 'exec "$@"', "sh"]


# --- Codecs ---------------------------------------------------------------------------------------------------------


def in_codecs(topic: Topic, *codecs: str) -> list[Record]:
    """Records of a topic, some in each of the codecs. Here they are the topic's: the broker compresses."""
    found: list[Record] = []
    for codec in codecs:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, {"compression.type": codec})
        with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
            admin.alter_configs([resource])
        found += topic.produce(random_lines(1, 200, partitions=1, start=START + 50 * len(found)))
    return found


def test_codecs(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    topic = new_topic()
    records = in_codecs(topic, "snappy", "zstd", "gzip", "lz4")
    ended = start_job(*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_codecs_where_nothing_in_tmp_may_be_run(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """In a process of its own, for its /tmp; and in a locale without UTF-8, which does not change the words."""
    if Path("/tmp") in (ROOT / "any").parents:
        pytest.skip("this repository is in /tmp, over which the test lays a disk")
    topic = new_topic()
    records = in_codecs(topic, "snappy", "zstd")
    through = with_disk(Path("/tmp"), "noexec")
    ended = start_process(*topic.arguments(), "--bounded", through=through, LC_ALL="C").wait()
    assert ended.code == 0, ended.stderr
    assert parse_rows(ended.stdout.removeprefix(PRINTING)) == expected_counts(records)


# --- Locales --------------------------------------------------------------------------------------------------------


def test_names_that_are_not_ascii(
    new_topic: Callable[..., Topic],
    start_process: Callable[..., Job],
    start_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """In a process of its own, for its locale. The second run goes on from what the first one has left."""
    topic = new_topic()
    records = topic.produce(lines(*["слово"] * 5, "wörld"))
    output, folder = tmp_path / "zählung", tmp_path / "контроль"
    arguments = [*topic.arguments(), "--group-id", "группа", "--output", str(output), "--checkpoint-dir", str(folder)]
    assert start_process(*arguments, "--bounded", LC_ALL="C").wait().code == 0
    assert checkpoints(folder)
    records += topic.produce(lines("next", start=START + 60_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith(f"Going on from {folder}/")
    assert read_files(output) == expected_counts(records)


@pytest.mark.slow
def test_names_that_are_not_ascii_under_flink_run(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """Flink's own `flink` has lost them in this locale, and it is said; ours has not, see tests/test_cluster.py."""
    run = ["run", "--python", SCRIPT, "--bounded", "--output", str(tmp_path / "zählung"), *new_topic().arguments()]
    env = Cluster(tmp_path).env | {"LC_ALL": "C", "JAVA_HOME": str(gateway.find_java())}
    ended = subprocess.run([PYFLINK / "bin" / "flink", *run], env=env, capture_output=True, text=True)
    assert ended.returncode != 0
    said = "Java knows only ASCII in this locale, and has taken "
    assert ended.stdout.partition(said)[2].endswith("z??hlung; run: export LC_ALL=C.UTF-8\n"), ended.stdout


# --- Disks, and streams that are gone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipe", "why"),
    [
        ("> /dev/full", "No space left on device; rows that are not there do not count as written"),
        ("| head -1", "Broken pipe; rows since the last checkpoint come again, older ones that nobody has read do not"),
    ],
    ids=["full", "head"],
)
def test_rows_that_cannot_be_printed(
    pipe: str,
    why: str,
    new_topic: Callable[..., Topic],
    start_process: Callable[..., Job],
    start_job: Callable[..., Job],
) -> None:
    """They come again in the next run, where no checkpoint has them. In a process of its own, for its stdout."""
    topic = new_topic()
    records = topic.produce(random_lines(1, 2_000, partitions=1))
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {pipe}', "bash"]
    ended = start_process(*topic.arguments(), through=shell).wait()
    assert ended.code == 1
    assert f"Cannot write to stdout: {why}\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    folder = ["--checkpoint-dir", ended.stderr.split()[-1]] if "--checkpoint-dir" in ended.stderr else []
    ended = start_job(*topic.arguments(), "--bounded", *folder).wait()
    assert ended.code == 0, ended.stderr
    rows = parse_rows(ended.stdout.removeprefix(PRINTING))
    first = min(rows)[0] if folder else ""  # of the windows that had not closed at the checkpoint
    assert rows == {row: count for row, count in expected_counts(records).items() if row[0] >= first}


def test_streams_that_are_closed(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Rows do not go nowhere, and what is said is not among them. In processes of their own, for these streams.

    And for their locale, one that was never generated: neither words nor names are changed.
    """
    topic = new_topic()
    records = topic.produce(lines("ἤ b ἤ"))
    ended = start_process(*topic.arguments(), through=["bash", "-c", '"$@" >&-', "bash"]).wait()
    assert ended.code == 1
    assert ended.stderr == "Cannot print rows on stdout, which is closed; choose a folder for them: --output PATH\n"
    through = ["bash", "-c", '"$@" 2>&-', "bash"]
    names = ["--group-id", "группа", "--checkpoint-dir", str(tmp_path / "контроль")]
    variables = {"LC_ALL": "xx_XX.never-generated"}
    ended = start_process(*topic.arguments(), *names, "--bounded", through=through, **variables).wait()
    assert checkpoints(tmp_path / "контроль")
    assert parse_rows(ended.stdout.removeprefix(PRINTING)) == expected_counts(records)
    assert ended.stdout.count("\n") == 3


def test_a_full_disk_is_said(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """In a process of its own, for its disk."""
    topic = new_topic()
    topic.produce(lines(*[" ".join(f"{number}-{word}" for word in range(2_000)) for number in range(50)], every=10))
    through = with_disk(tmp_path, "size=300k")
    arguments = ["--output", "/tmp/never", "--window", "100000", "--checkpoint-dir", str(tmp_path / "kept")]
    job = start_process(*topic.arguments(), *arguments, through=through)
    said = f" (disk of {tmp_path / 'kept'}: "
    job.until(lambda: said in job.stderr.read_text("utf-8"), "the reason", 60)
    assert "\nFlink tries again (newest checkpoint: " in job.stderr.read_text("utf-8")


def test_a_disk_that_is_full_at_the_start(bootstrap_servers: str, tmp_path: Path) -> None:
    """In a process of its own, for its disk."""
    fill = 'dd if=/dev/zero of="$0"/filler bs=4k status=none 2> /dev/null; exec "$@"'
    through = [*with_disk(tmp_path, "size=100k"), "sh", "-c", fill, tmp_path]
    command = [sys.executable, SCRIPT, "--bootstrap-servers", bootstrap_servers, "--output", tmp_path]
    ended = subprocess.run([*through, *command], capture_output=True, text=True, timeout=60)
    mend = "choose another folder: --output PATH"
    assert (ended.returncode, ended.stderr) == (1, f"Cannot write to {tmp_path}: No space left on device; {mend}\n")


def test_what_is_wrong_with_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch.state_of(tmp_path / "gone") == f" ({tmp_path / 'gone'}: No such file or directory)"
    monkeypatch.setattr(watch, "LITTLE", 2**60)
    assert watch.state_of(tmp_path).endswith(" kB are left)")


def test_a_folder_of_checkpoints_that_somebody_has_cleaned(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The same command does not begin anew, which would write all rows again."""
    topic = new_topic()
    topic.produce(lines("a", "b", every=10_000))
    folder = tmp_path / "kept"
    arguments = [*topic.arguments(), "--output", str(tmp_path / "out"), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments)

    def is_noted() -> bool:
        return bool(checkpoints(folder)) and json.loads((folder / "start.json").read_text())["after"] is not None

    job.until(is_noted, "the note that there was a checkpoint")
    job.end()
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint)
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 1
    assert ended.stderr.startswith(f"The last run with {folder} has left no checkpoint there"), ended.stderr
    assert ended.stderr.count("\n") == 1


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """As those of another user."""
    (tmp_path / "start.json").mkdir()
    said = rf"^Cannot use {tmp_path}/start\.json: Is a directory; choose another folder: --checkpoint-dir DIR$"
    with pytest.raises(SystemExit, match=said), said_in_one_sentence(tmp_path):
        recorded_start(tmp_path, None, on_cluster=False)
    with pytest.raises(FileNotFoundError), said_in_one_sentence(tmp_path / "kept"):
        (tmp_path / "words.tsv").open()  # a script's own: it is for a traceback


def test_a_note_that_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "start.json").write_text('{"start": {')
    with pytest.raises(SystemExit, match=r"/start\.json is damaged, which says where the last run has begun; choose "):
        recorded_start(tmp_path, None, on_cluster=False)


@pytest.mark.slow  # it waits for three restarts
def test_records_that_are_deleted_while_a_job_is_behind(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The run ends with a sentence, and the next one says how many are missing, and goes on behind them."""
    topic = new_topic()
    before = topic.produce(lines(*["x" * 1_000] * 20_000, every=1))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(tmp_path / "kept")]
    job = start_job(*arguments, slow=True)
    job.until(lambda: checkpoints(tmp_path / "kept"), "a checkpoint")
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(topic.name, 0): 20_000})
    after = topic.produce(lines("after", start=START + 60_000))
    ended = job.wait()
    assert ended.code == 1
    assert (
        "\nThe topic's retention has deleted records that were not read yet; the same command goes on" in ended.stderr
    )

    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    said = re.search(r"^(\d+) records are missing: the topic's retention", ended.stderr, re.MULTILINE)
    rows = read_files(output)
    assert sum(rows.values()) + int(said[1]) == len(before) + len(after)
    assert rows.items() >= expected_counts(after).items()


# --- Proxies, signals, clusters ---------------------------------------------------------------------------------------


def test_flink_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the proxy that a company has; nor does gRPC, between Java and Python processes."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[1]")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("localhost", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("http_proxy", "http://localhost:1")
        assert get_json(f"http://localhost:{server.server_port}/") == [1]
    monkeypatch.setenv("no_proxy", "example.org")
    assert gateway.variables_of_jvm(has_python=False)["no_proxy"] == "example.org,localhost,127.0.0.1"


def test_process_mode_behind_a_proxy(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """In a process of its own, for its environment."""
    topic = new_topic()
    records = topic.produce(random_lines(1, 100, partitions=1))
    (tmp_path / "find_libpython.py").write_text("def find_libpython(): return None")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://localhost:1")
    arguments = [*topic.arguments(), "--bounded", "--output", str(tmp_path / "out")]
    ended = start_process(*arguments, PYTHONPATH=str(tmp_path), **proxies).wait()
    assert ended.code == 0, ended.stderr
    assert read_files(tmp_path / "out") == expected_counts(records)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As nohup has it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        embedded.end_on_signals()
        with Stop().on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_no_cluster(
    jvm: gateway.Jvm, new_topic: Callable[..., Topic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before anything is noted in a folder, so the same command does it once a cluster is up."""
    port = embedded.free_port()
    of_flink_run = {"execution.target": "remote", "rest.port": str(port)}
    monkeypatch.setattr(gateway, "under_flink_run", lambda: True)
    monkeypatch.setattr(entry, "configuration_of", lambda environment: of_flink_run)
    monkeypatch.setattr(submission, "START_TIMEOUT", 0)
    monkeypatch.setattr(sys, "argv", ["word_count.py", "--checkpoint-dir", str(tmp_path), *new_topic().arguments()])
    said = f"^No Flink cluster answers on localhost:{port}; start one: start-cluster.sh "
    with pytest.raises(SystemExit, match=said):
        word_count.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.chaos
def test_no_cluster_under_flink_run(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """The same, with what Flink's own client says of a cluster."""
    cluster, folder = Cluster(tmp_path), tmp_path / "kept"
    ended = cluster.flink("run", "--python", SCRIPT, "--checkpoint-dir", str(folder), *new_topic().arguments())
    assert ended.code != 0
    assert f"No Flink cluster answers on localhost:{cluster.rest_port}; start one: start-cluster.sh" in ended.stdout
    assert not (folder / "start.json").exists()


def test_a_task_manager_that_has_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watch, "ASK", 0)
    monkeypatch.setattr(watch.flink, "has_task_manager", lambda running: False)
    monkeypatch.setattr(watch.Watch, "say_failures", lambda watched: None)
    jvm = SimpleNamespace(stdout=SimpleNamespace(failure=None))
    running = mock.Mock(end=mock.Mock(done=lambda: ended))
    watched = watch.Watch(running, jvm, tmp_path, SimpleNamespace(options=JobOptions(), rights={}), None)
    ended = False
    watched.look()  # it is not there yet
    ended = watched.had_task_manager = True
    watched.look()  # Flink ends with its job
    ended, watched.had_task_manager = False, True
    with pytest.raises(SystemExit, match=r"^The part of Flink that runs the job has ended\. All"):
        watched.look()


def test_a_stdout_of_the_program_s_own_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own stays as it is."""
    given_up = mock.Mock()
    monkeypatch.setattr(output.os, "dup2", given_up)
    failing = pytest.raises(OSError, match="No space left")
    with failing, Path("/dev/full").open("w") as full, contextlib.redirect_stdout(full):
        output.to_stdout(b"a\tb\t1\n")
    assert not given_up.called
    assert not output.dropped


def test_what_a_function_prints_is_no_row(tmp_path: Path) -> None:
    """Where rows go to files, they are not lost with a stdout that is full."""
    jvm = SimpleNamespace(stdout=SimpleNamespace(failure=OSError(28, "No space left on device")))
    for options, lost in ((JobOptions(), True), (JobOptions(output="/out"), False)):
        assert watch.Watch(None, jvm, tmp_path, SimpleNamespace(options=options), None).rows_are_lost() == lost


def test_a_topic_that_goes_and_comes_back_is_said_once(
    jvm: gateway.Jvm, new_topic: Callable[..., Topic], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kafka's clients in Flink would wait for it without a word, as for the broker."""
    topic = new_topic()
    job = SimpleNamespace(options=JobOptions(), broker=Broker(topic.bootstrap_servers), rights={topic.name: "WRITE"})
    watched = watch.Watch(None, jvm, tmp_path, job, None)
    watched.say_what_is_wrong_with_kafka()
    assert capsys.readouterr().err == ""
    topic.delete()
    for _ in range(2):
        watched.say_what_is_wrong_with_kafka()
        new_topic()  # the sentence names those that there are
    assert capsys.readouterr().err.count(f"The job waits: There is no topic {topic.name} on ") == 1
    topic.create(1)
    watched.say_what_is_wrong_with_kafka()
    assert capsys.readouterr().err == "The job waits for the broker no more.\n"


def test_a_topic_that_is_another_one_by_now(jvm: gateway.Jvm, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """The job would not read its first records."""
    topic = new_topic()
    options = JobOptions(bootstrap_servers=topic.bootstrap_servers, topic=topic.name, group_id=topic.name)
    job = SimpleNamespace(options=options, broker=Broker(topic.bootstrap_servers), rights={topic.name: "READ"})
    with taken(tmp_path):
        plan_in(tmp_path, options, job.broker, "words", on_cluster=False)
    watched = watch.Watch(None, jvm, tmp_path, job, None)
    watched.say_what_is_wrong_with_kafka()
    if topic.has_id():
        topic.delete()
        topic.create(1)
        with pytest.raises(SystemExit, match=rf"^The topic {topic.name} was deleted and created again; begin anew: "):
            watched.say_what_is_wrong_with_kafka()


def test_a_folder_whose_run_has_left_no_checkpoint(
    jvm: gateway.Jvm, new_topic: Callable[..., Topic], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has read is read again, whatever --start says."""
    topic = new_topic()
    options = JobOptions(topic=topic.name, group_id=topic.name, start="latest")
    broker = Broker(topic.bootstrap_servers)
    with taken(tmp_path):
        before, _ = plan_in(tmp_path, options, broker, "words", on_cluster=False)
        record_start(tmp_path, before.start, None)
        topic.produce(lines("a"))
        assert capsys.readouterr().err == ""
        plan, _ = plan_in(tmp_path, options, broker, "words", on_cluster=False)
    assert plan.start == before.start == {0: 0}
    said = f"The last run with {tmp_path} has left no checkpoint: this one begins where that one has begun.\n"
    assert capsys.readouterr().err == said


class OneOfThree(embedded.Broker):
    """A broker as Kafka's defaults have it, which want three of them."""

    def properties(self) -> str:
        return super().properties().replace("offsets.topic.replication.factor=1", "offsets.topic.replication.factor=3")


@pytest.mark.chaos
def test_a_broker_that_cannot_keep_offsets_of_groups(jvm: gateway.Jvm, tmp_path: Path) -> None:
    """A broker of its own, for its configuration."""
    with embedded.running(OneOfThree(tmp_path, embedded.free_port())) as alone:
        embedded.create_topic(alone.bootstrap_servers, "input")
        said = (
            "The broker finds nobody who keeps the offsets of groups; one that is alone needs, in its configuration: "
        )
        with pytest.raises(SystemExit, match=said + r"offsets\.topic\.replication\.factor=1$"):
            ask_for_offsets(Broker(alone.bootstrap_servers), "input", "group")


def test_no_jar_for_zstd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connector, "CONNECTORS", tmp_path)
    with pytest.raises(SystemExit, match=rf"^No zstd-jni jar in {tmp_path}; run: python {tmp_path}/fetch\.py$"):
        connector.connector_jars()


def test_flink_in_a_folder_with_a_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flink_on_path, "PYFLINK", tmp_path / "my notes" / "pyflink")
    for script in flink_on_path.write_scripts(tmp_path):
        ended = subprocess.run([script], capture_output=True, text=True, timeout=10)
        assert ended.returncode == 1
        assert "Flink's scripts do not work in a folder whose path has a space; move" in ended.stderr


def test_messages_of_several_lines() -> None:
    """Of a Python error all lines are shown, and where it was raised."""
    java = """Caused by: pemja.core.PythonException: <class 'ValueError'>: first
second
\tat /job/my_job.split(my_job.py:7)
\tat pemja.core.object.PyIterator.next(Native Method)"""
    assert why_it_failed(java).endswith('File "/job/my_job.py", line 7, in split\nValueError: first\nsecond')


def test_a_machine_whose_name_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.check_name_of_machine()
    monkeypatch.setattr(gateway.socket, "gethostname", lambda: "nowhere.invalid")
    with pytest.raises(SystemExit, match=r"^The name of this machine, nowhere\.invalid, leads nowhere, and Flink asks"):
        gateway.check_name_of_machine()


def test_log_of_a_user_who_may_not_write_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINK_LOG_DIR", raising=False)
    assert Path(gateway.log_file()).parent == PYFLINK / "log"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert Path(gateway.log_file()).parent == Path(gateway.tempfile.gettempdir())


def test_a_project_that_has_moved_is_set_up_again() -> None:
    """Its environment has its old path in many places; `make` notices."""
    assert (ROOT / ".venv" / "ready").read_text().strip() == str((ROOT / ".venv").resolve())
