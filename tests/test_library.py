"""What kafka_job is made of, piece by piece: no broker, no job."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

from kafka_job import JobOptions, Plan, Stop
from kafka_job.execution import cluster, entry, local, watch
from kafka_job.flink import environment, gateway
from kafka_job.flink import running as failures
from kafka_job.flink.snapshots import METADATA
from kafka_job.kafka import broker as offsets
from kafka_job.kafka.broker import Broker, Refused
from kafka_job.resume import folder as checkpoints
from kafka_job.resume import plans

import cloudpickle
import pytest
from py4j.protocol import Py4JJavaError, Py4JNetworkError

import word_count
from support import ROOT

BROKER = Broker("localhost:1")
TOPIC = offsets.TopicOffsets(id=None, first={0: 5, 1: 0}, end={0: 10, 1: 20}, committed={1: 7})


@pytest.mark.parametrize(
    ("start", "expected"), [("committed", {0: 5, 1: 7}), ("earliest", {0: 5, 1: 0}), ("latest", {0: 10, 1: 20})]
)
def test_start_offsets(start: str, expected: offsets.Offsets) -> None:
    assert plans.make_plan(JobOptions(start=start), BROKER, TOPIC, None, by_flink=False).start == expected


def test_missing_records(capsys: pytest.CaptureFixture[str]) -> None:
    plans.check_start({0: 5, 1: 7}, TOPIC, "the group", "mend it")
    assert capsys.readouterr().err == ""
    plans.check_start({0: 2, 1: 0}, TOPIC, "the group", "mend it")
    assert capsys.readouterr().err.startswith("3 records are missing: the topic's retention has deleted them")


def test_a_group_that_may_not_be_written_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(broker: Broker, topic: str, group_id: str, committed: offsets.Offsets) -> None:
        assert committed == {0: 5, 1: 7}, "it tries with what is committed already, which changes nothing"
        refused = Refused.__new__(Refused)
        refused.kind = "GroupAuthorizationException"
        raise refused

    monkeypatch.setattr(offsets, "commit_offsets", refuse)
    with pytest.raises(SystemExit, match=r"has no right to use the group mine; .*: --group-id GROUP_ID$"):
        offsets.check_group(BROKER, "input", "mine", TOPIC)


def test_what_changes_between_two_jobs_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "job" / "chk-1", 1)
    before = {"topic": "input", "state": "windows"}
    (tmp_path / "job.json").write_text(json.dumps(before))
    checkpoints.check_owner(tmp_path, before)
    with pytest.raises(SystemExit, match=r" are of another job \(state: windows, now totals\); choose another folder"):
        checkpoints.check_owner(tmp_path, before | {"state": "totals"})
    (tmp_path / "job.json").write_text("")
    with pytest.raises(SystemExit, match=r" are of another job \(topic: None, now input\); choose another folder"):
        checkpoints.check_owner(tmp_path, before)


def make_checkpoint(folder: Path, number: int) -> Path:
    """What is read of a checkpoint without Flink: the head of its _metadata, the path of which is returned."""
    folder.mkdir(parents=True)
    (folder / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 6, number))
    return folder / "_metadata"


@pytest.mark.parametrize(
    ("configuration", "flags", "said"),
    [
        ({}, {"bounded": True}, "--bounded keeps no state when it ends on a cluster"),
        ({"execution.state-recovery.path": "/sp"}, {}, "-s /sp names where to go on from"),
        ({"execution.savepoint.path": "/sp"}, {}, "-s /sp names where to go on from"),
        (
            {"execution.target": "embedded", "high-availability.type": "kubernetes"},
            {},
            "With high availability Flink itself goes on from its checkpoints",
        ),
    ],
)
def test_what_does_not_go_with_a_checkpoint_folder_on_a_cluster(
    configuration: dict[str, str], flags: dict[str, bool], said: str
) -> None:
    job = mock.Mock(options=JobOptions(checkpoint_dir="/checkpoints", **flags))
    with pytest.raises(SystemExit, match=f"^{said}, so it does not go with --checkpoint-dir; leave out one of the two"):
        cluster.refuse_beside_folder(job, configuration)


@pytest.mark.parametrize("key", [cluster.SAVEPOINT, cluster.OLD_SAVEPOINT])
def test_a_savepoint_has_a_plan_of_its_own(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever name: that of `flink run -s`, or that of the Kubernetes operator."""
    made = mock.Mock(return_value=("plan", plans.Recovery()))
    monkeypatch.setattr(cluster, "plan_after", made)
    monkeypatch.setattr(cluster, "make_plan", lambda *arguments, **flags: "another plan")
    monkeypatch.setattr(cluster, "place_for_checkpoints", lambda configuration: {})
    monkeypatch.setattr(cluster, "ask_broker", mock.Mock())
    job, target = mock.Mock(options=JobOptions()), {"execution.target": "embedded"}
    assert cluster.planned(job, target | {key: "/sp"}, None, contextlib.ExitStack())[0] == "plan"
    assert made.call_args.args[0] == "/sp"
    assert cluster.planned(job, target | {key: cluster.LAST_STATE}, None, contextlib.ExitStack())[0] == "another plan"


class Failed(Py4JJavaError):
    """What a call of Java raises."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def test_a_stop_that_fails_behind_its_savepoint_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flink would go on from an older checkpoint, and write these rows once more."""
    monkeypatch.setattr(failures, "java_class", mock.Mock())
    client = mock.Mock()
    stopped = mock.Mock(
        get=mock.Mock(side_effect=Failed(f"java.util.concurrent.ExecutionException: {failures.STOPPING}"))
    )
    client._j_job_client.stopWithSavepoint.return_value = stopped
    with pytest.raises(SystemExit, match=r"^The stop has failed when all was in its savepoint; "):
        failures.stop_with_savepoint(client, tmp_path, True, mock.Mock())
    assert client._j_job_client.stopWithSavepoint.call_count == 1


def test_a_stop_whose_answer_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flink ends with the job, and on a slow machine before it has answered: its savepoint is what counts."""
    monkeypatch.setattr(failures, "java_class", mock.Mock())
    monkeypatch.setattr(failures, "number_of", lambda metadata: int(metadata.parent.name[-1]))

    def stopped(savepoint: str) -> mock.Mock:
        def no_answer() -> None:
            (tmp_path / savepoint).mkdir()
            (tmp_path / savepoint / file).touch()
            raise Failed("java.util.concurrent.TimeoutException")

        client = mock.Mock()
        client._j_job_client.stopWithSavepoint.return_value = mock.Mock(get=no_answer)
        return client

    file = "not yet complete"
    with pytest.raises(SystemExit, match=r"^The job was stopped by another program; "):
        failures.stop_with_savepoint(stopped("savepoint-1"), tmp_path, True, mock.Mock())
    file = METADATA
    for savepoint in ("savepoint-2", "savepoint-3"):
        uri = failures.stop_with_savepoint(stopped(savepoint), tmp_path, True, mock.Mock())
        assert uri == f"file:{tmp_path / savepoint}"


def test_newest_checkpoint_goes_by_its_number(tmp_path: Path) -> None:
    """Not by the time of its file, nor by its name."""
    assert checkpoints.newest_checkpoint(tmp_path) is None
    for time, (number, name) in enumerate(
        [(9, "job/chk-9"), (11, "savepoint-1"), (10, "job/chk-10"), (12, "new/chk-12")]
    ):
        metadata = make_checkpoint(tmp_path / name, number)
        os.utime(metadata, (time, time))
    (tmp_path / "new" / "chk-12" / "_metadata").unlink()  # it is not complete
    assert checkpoints.newest_checkpoint(tmp_path) == tmp_path / "savepoint-1"
    for damaged in (b"", b"something else"):
        (tmp_path / "job" / "chk-9" / "_metadata").write_bytes(damaged)
        with pytest.raises(SystemExit, match=rf"^The checkpoint {tmp_path}/job/chk-9 cannot be read"):
            checkpoints.newest_checkpoint(tmp_path)


def test_going_on_takes_all_state_but_that_of_the_source(tmp_path: Path) -> None:
    plan = Plan(BROKER, "input", start={0: 3})
    resumed, recovery = plans.go_on(plan, f"{tmp_path}/job/chk-7", {"a": "b"})
    assert resumed.source_uid == "kafka-source after job/chk-7" != plan.source_uid
    assert replace(resumed, source_uid=plan.source_uid) == plan
    assert recovery.checkpoint == recovery.settings["execution.state-recovery.path"] == f"{tmp_path}/job/chk-7"
    assert recovery.settings["execution.state-recovery.ignore-unclaimed-state"] == "true"
    assert recovery.settings["a"] == "b"


def test_nothing_is_recorded_of_a_run_that_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline may refuse a flag of its own; the same command, mended, must find the folder as it was."""
    monkeypatch.setattr(plans, "ask_for_offsets", lambda *arguments: TOPIC)
    monkeypatch.setattr(plans, "check_group", lambda *arguments: None)
    (tmp_path / "job.json").touch()
    plan, _ = plans.plan_in(tmp_path, JobOptions(), BROKER, "state", on_cluster=True)
    assert plan.start == {0: 5, 1: 7}
    assert not (tmp_path / "start.json").exists()


def test_start_of_a_run_is_recorded(tmp_path: Path) -> None:
    checkpoint = tmp_path / "chk-1"
    assert checkpoints.recorded_start(tmp_path, None, on_cluster=True) is None
    assert checkpoints.recorded_start(tmp_path, checkpoint, on_cluster=True) == {}
    checkpoints.record_start(tmp_path, {0: 3, 12: 4}, after=None)
    assert [file.name for file in tmp_path.iterdir()] == ["start.json"]
    assert checkpoints.recorded_start(tmp_path, checkpoint, on_cluster=True) == {0: 3, 12: 4}
    assert checkpoints.recorded_start(tmp_path, None, on_cluster=False) == {0: 3, 12: 4}, "killed before its first one"


@pytest.mark.parametrize(("on_cluster", "after"), [(True, None), (False, "/chk-1")])
def test_a_checkpoint_that_is_gone_is_noticed(tmp_path: Path, on_cluster: bool, after: str | None) -> None:
    checkpoints.record_start(tmp_path, {0: 3}, after)
    with pytest.raises(
        SystemExit, match=r"has left no checkpoint there; if it was stopped .*: flink run -s SAVEPOINT;"
    ):
        checkpoints.recorded_start(tmp_path, None, on_cluster)


@pytest.mark.parametrize("start", [{0: 11, 1: 0}, {0: 10, 1: 0, 2: 0}])
def test_a_topic_that_ends_before_what_was_read_is_refused(start: offsets.Offsets) -> None:
    with pytest.raises(SystemExit, match=r"^The topic was deleted and created again, or cut off \(partition \d is at"):
        plans.check_start(start, TOPIC, "the group", "mend it")


def test_what_another_job_has_left_is_not_taken(tmp_path: Path) -> None:
    """Its checkpoints are refused; where it began is forgotten."""
    (tmp_path / "job.json").touch()  # as `taken` leaves it
    for state, kept in (("one", False), ("one", True), ("two", False)):
        checkpoints.check_owner(tmp_path, {"state": state})
        assert (tmp_path / "start.json").exists() == kept
        checkpoints.record_start(tmp_path, {0: 3}, after=None)
    make_checkpoint(tmp_path / "savepoint-1", 1)
    checkpoints.check_owner(tmp_path, {"state": "two"})
    with pytest.raises(SystemExit, match=r"are of another job \(state: two, now three\); choose another folder"):
        checkpoints.check_owner(tmp_path, {"state": "three"})


def test_a_folder_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within one JVM; that another one finds it taken, test_resume.py and test_chaos.py show."""
    gateway.start(has_python=True)
    monkeypatch.setattr(checkpoints, "LOCK_TIMEOUT", 0)
    again = pytest.raises(SystemExit, match=rf"^Another run uses {tmp_path}; stop that one, or choose another folder")
    lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with checkpoints.taken(tmp_path):
        with again, checkpoints.taken(tmp_path):
            pass
        ended = subprocess.run([sys.executable, "-c", lock, tmp_path / "job.json"], capture_output=True, text=True)
        assert "BlockingIOError" in ended.stderr, "who was refused has given up the lock of the other"
    with checkpoints.taken(tmp_path):
        pass


IN_THREAD = """\
org.apache.flink.runtime.JobException: Recovery is suppressed
\tat org.apache.flink.Some.thing(Some.java:1)
Caused by: pemja.core.PythonException: <class 'ZeroDivisionError'>: division by zero
\tat /job/word_count.inner(word_count.py:7)
\tat /venv/pyflink/datastream/data_stream.process_element(data_stream.py:311)
\tat /job/word_count.outer(word_count.py:3)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""
IN_PROCESS = """\
Caused by: java.lang.RuntimeException: Error from SDK harness: Traceback (most recent call last):
  File "/venv/apache_beam/runners/worker/sdk_worker.py", line 297, in _execute
    response = task()
  File "/job/word_count.py", line 7, in inner
    return 1 / 0
ZeroDivisionError: division by zero

\tat org.apache.beam.Some.thing(Some.java:1)
"""


def test_a_failure_in_a_python_function_is_a_python_traceback() -> None:
    expected = [
        "Traceback (most recent call last):",
        '  File "/job/word_count.py", line 3, in outer',
        '  File "/job/word_count.py", line 7, in inner',
        "ZeroDivisionError: division by zero",
    ]
    assert failures.why_it_failed(IN_THREAD).splitlines() == expected
    in_process = [expected[0], expected[2], "    return 1 / 0", expected[3]]
    assert failures.why_it_failed(IN_PROCESS).splitlines() == in_process
    raised_from = "\n\nThe above exception was the direct cause of the following exception:\n\n"
    last = "\n".join([*in_process[:-1], "ValueError: why", "", "in several lines"])
    chained = IN_PROCESS.replace("\n\n", f"{raised_from}{last}\n\n")
    assert failures.why_it_failed(chained).endswith(f"division by zero{raised_from}{last}")


def test_any_other_failure_is_its_last_cause() -> None:
    java = "org.apache.flink.JobException: failed\n\tat a.b(C.java)\nCaused by: x.Y: first\nCaused by: No space left\n"
    assert failures.why_it_failed(java) == "No space left"
    gone = ": Py4J\nCaused by: org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This server does"
    assert failures.why_it_failed(gone).startswith("A topic of the job is gone; create it ")
    assert failures.why_it_failed("no cause at all") == "no cause at all"
    by_py4j = "An error occurred while calling o5.executeAsync.\n: java.lang.OutOfMemoryError: why\n\tat a.b(C.java)\n"
    assert failures.why_it_failed(by_py4j) == "java.lang.OutOfMemoryError: why"


def test_a_jvm_that_ends_while_the_broker_is_asked_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in ("check_addresses", "check_folders", "start_jvm"):
        monkeypatch.setattr(entry, before, mock.Mock())
    monkeypatch.setattr(entry, "check_kafka", mock.Mock(side_effect=Py4JNetworkError("no answer")))
    with pytest.raises(SystemExit, match=r"^Flink's JVM has ended, killed or out of memory\. All of its log is in /"):
        entry.check_set_up(mock.Mock(), on_cluster=False)


def test_a_value_is_put_before_those_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_PATH", raising=False)
    assert gateway.prepended("SOME_PATH", Path("/b")) == "/b"
    monkeypatch.setenv("SOME_PATH", "/b")
    assert gateway.prepended("SOME_PATH", Path("/a")) == "/a:/b"


def test_a_signal_may_come_at_any_moment_of_a_wait() -> None:
    signals_at_all_moments = """
import signal
from kafka_job.execution import local as stop
stop.SIGNALS = [signal.SIGALRM]
for number in range(10_000):
    asked = stop.Stop()
    with asked.on_signals():
        signal.setitimer(signal.ITIMER_REAL, 3e-4 + number % 100 * 1e-6)
        while not asked.wait(1e-4):
            pass
"""
    subprocess.run([sys.executable, "-c", signals_at_all_moments], cwd=ROOT, check=True, timeout=60)


def test_checkpoints_without_a_folder_go_with_a_good_run(tmp_path: Path) -> None:
    with local.checkpoint_folder(None, Stop()) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    with local.checkpoint_folder(str(tmp_path), Stop()) as folder:
        assert folder == tmp_path
    assert tmp_path.exists()


@pytest.mark.parametrize(("complete", "failure"), [(True, SystemExit), (False, SystemExit), (True, watch.AnotherTopic)])
def test_checkpoints_of_a_run_that_failed_are_kept(complete: bool, failure: type[SystemExit]) -> None:
    """Where there are any, and they are of use."""
    folders = []

    def run_that_fails() -> None:
        with local.checkpoint_folder(None, Stop()) as folder:
            folders.append(folder)
            if complete:
                make_checkpoint(folder / "job" / "chk-1", 1)
            raise failure("The job has failed.")

    with pytest.raises(SystemExit) as raised:
        run_that_fails()
    [folder] = folders
    kept = complete and failure is SystemExit
    assert folder.exists() == kept
    said = [
        "The job has failed.",
        f"Nothing of what was read is lost: the same command goes on with --checkpoint-dir {folder}",
    ]
    assert raised.value.code.split("\n") == said[: 1 + kept]
    shutil.rmtree(folder, ignore_errors=True)


def test_functions_of_imported_modules_are_pickled_with_their_code() -> None:
    environment.take_modules_along()
    assert b"in_shards" in cloudpickle.dumps(word_count.in_shards)
    assert b"crc32" in cloudpickle.dumps(word_count.in_shards), "only the name of the function was pickled"
    assert b"dumps_table" not in cloudpickle.dumps(cloudpickle.dumps), "a module of the environment was pickled"


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("my_job.functions", "/home/me/my_job/functions.py", True),
        ("my_functions", f"{ROOT}/examples/../my_functions.py", True),
        ("zipped", "/home/me/zipped.zip/zipped.py", True),
        ("kafka_job.execution.job", f"{ROOT}/kafka_job/execution/job.py", True),
        ("kafka_job.options", "/venv/lib/python3.11/site-packages/kafka_job/options.py", True),  # by 'pip install .'
        ("argparse", argparse.__file__, False),
        ("sys", None, False),
        ("compiled", "/home/me/compiled.cpython-311-x86_64-linux-gnu.so", False),
        ("pytest", pytest.__file__, False),  # the environment may lie in the repository
        ("yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py", False),
        ("pyflink.java_gateway", "/opt/flink/opt/python/pyflink.zip/pyflink/java_gateway.py", False),
        ("cloudpickle", "/tmp/pyflink/1/2/cloudpickle.zip/cloudpickle/__init__.py", False),
    ],
)
def test_what_no_other_machine_has_travels(name: str, file: str | None, expected: bool) -> None:
    assert environment.travels(name, file) == expected


def test_ctrl_c_while_the_library_is_imported_says_nothing() -> None:
    early = "import os, signal, threading; threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()"
    ended = subprocess.run([sys.executable, "-c", f"{early}; import kafka_job"], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


def test_commits_that_fail_are_said_unless_the_job_has_just_gone_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What it commits once more then was committed before."""
    job = mock.Mock(rights={"in": "READ", "sums": "WRITE"}, options=JobOptions())
    watch_ = watch.Watch(mock.Mock(), None, tmp_path, job, None)
    monkeypatch.setattr(watch.flink, "job_url", lambda running: "url")
    late = 20 * 60_000
    for failed, restored, made, said in [
        (0, 0, 0, ""),
        (2, 0, 5, "are missing (2)"),
        (1, 10, 5, ""),
        (2, 10, 5, ""),
        (2, 10, 12, ""),
        (5, 10, 12, "are missing (3)"),
        (1, 20, 22, ""),  # begun again, and a checkpoint, since it was asked last
        (0, late, 22, ""),
        (1, late, 22, "may be missing (1)"),
        (1, late, late + 1, ""),
    ]:
        latest = {"restored": {"restore_timestamp": restored}, "completed": {"trigger_timestamp": made}}
        answers = {"url/checkpoints": {"latest": latest}, "url/checkpoints/config": {"interval": 3000}}
        monkeypatch.setattr(watch.flink, "metrics_of", lambda url, names, failed=failed: [{"sum": failed}])
        monkeypatch.setattr(watch.flink, "get_json", answers.get)
        watch_.say_lost_rows()
        found = re.sub(r"Rows (.*) in the topic sums: .* (\(\d\))\.\n", r"\1 \2", capsys.readouterr().err)
        assert found == said
