"""What kafka_job is made of, piece by piece: no broker, no Flink."""

import os
import struct
import tempfile
from argparse import Namespace
from pathlib import Path

from kafka_job import Plan, checkpoints, failures, job, local_run, offsets

import cloudpickle
import pytest

import word_count

TOPIC = offsets.TopicOffsets(first={0: 5, 1: 0}, end={0: 10, 1: 20}, committed={1: 7})


@pytest.mark.parametrize(
    ("start", "expected"), [("committed", {0: 5, 1: 7}), ("earliest", {0: 5, 1: 0}), ("latest", {0: 10, 1: 20})]
)
def test_start_offsets(start: str, expected: offsets.Offsets) -> None:
    assert offsets.start_offsets(start, TOPIC) == expected


def test_missing_records() -> None:
    assert offsets.missing_records(start={0: 5, 1: 7}, first=TOPIC.first) == 0
    assert offsets.missing_records(start={0: 2, 1: 0}, first=TOPIC.first) == 3


def coordinator(topic: str, partition: int, start: int, end: int, unassigned: int) -> bytes:
    """A partition as the coordinator of Flink's Kafka source writes it."""
    return struct.pack(">H", len(topic)) + topic.encode() + struct.pack(">iqqi", partition, start, end, unassigned)


def test_offsets_of_coordinator() -> None:
    no_end = -(2**63)
    state = b"".join(
        [
            b"\x00\x00\x00\x04",
            coordinator("input", 0, 3, no_end, unassigned=1),
            coordinator("input", 1, 3, 50, unassigned=1),
            coordinator("input", 2, 3, 50, unassigned=0),
            coordinator("other", 3, 3, 50, unassigned=0),
        ]
    )
    assert checkpoints.offsets_of_coordinator(state, "input") == {0: 3, 1: 3, 2: 50}


def test_offsets_of_reader() -> None:
    state = coordinator("input", 0, 41, 50, 0)[:-4] + coordinator("input", 7, 43, 50, 0)[:-4]
    assert checkpoints.offsets_of_reader(state, "input") == {0: 41, 7: 43}


def test_what_changes_between_two_jobs_is_named() -> None:
    before = {"topic": "input", "state": "windows"}
    assert checkpoints.difference(before, dict(before)) is None
    assert checkpoints.difference(before, before | {"state": "totals"}) == "state: windows, now totals"
    assert checkpoints.difference({}, before) == "topic: None, now input"


def test_newest_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.newest_checkpoint(tmp_path) is None
    for number, name in enumerate(["job/chk-9", "job/chk-10", "savepoint-1", "job/chk-11"]):
        (tmp_path / name).mkdir(parents=True)
        if name != "job/chk-11":  # not complete
            (tmp_path / name / "_metadata").touch()
            os.utime(tmp_path / name / "_metadata", (number, number))
    assert checkpoints.newest_checkpoint(tmp_path) == tmp_path / "savepoint-1"


def test_going_on_takes_all_state_but_that_of_the_source(tmp_path: Path) -> None:
    plan = Plan("input", start={0: 3}, settings={"a": "b"})
    resumed = checkpoints.go_on(plan, tmp_path / "job" / "chk-7")
    assert resumed.source_uid == "kafka-source after job/chk-7" != plan.source_uid
    assert resumed.settings["execution.state-recovery.path"] == f"file://{tmp_path}/job/chk-7"
    assert (resumed.topic, resumed.start, resumed.settings["a"]) == ("input", {0: 3}, "b")


def test_start_of_a_run_is_recorded(tmp_path: Path) -> None:
    assert checkpoints.recorded_start(tmp_path) == {}
    checkpoints.record_start(Plan("input", start={0: 3, 12: 4}), tmp_path)
    assert checkpoints.recorded_start(tmp_path) == {0: 3, 12: 4}
    assert [file.name for file in tmp_path.iterdir()] == ["start.json"]


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    file = checkpoints.lock(tmp_path)
    with pytest.raises(SystemExit, match=rf"^Another run uses {tmp_path}; stop that one, or choose another folder"):
        checkpoints.lock(tmp_path)
    os.close(file)
    os.close(checkpoints.lock(tmp_path))


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
    in_process = failures.why_it_failed(IN_PROCESS).splitlines()
    assert in_process == [expected[0], expected[2], "    return 1 / 0", expected[3]]


def test_any_other_failure_is_its_last_cause() -> None:
    java = "org.apache.flink.JobException: failed\n\tat a.b(C.java)\nCaused by: x.Y: first\nCaused by: No space left\n"
    assert failures.why_it_failed(java) == "No space left"
    assert failures.why_it_failed("no cause at all") == "no cause at all"


def test_a_value_is_put_before_those_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_PATH", raising=False)
    local_run.prepend("SOME_PATH", "/b")
    local_run.prepend("SOME_PATH", "/a")
    assert os.environ["SOME_PATH"] == "/a:/b"


def test_checkpoints_without_a_folder_go_with_the_run(tmp_path: Path) -> None:
    with local_run.checkpoint_folder(Namespace(checkpoint_dir=None)) as folder:
        assert folder.is_dir()
        assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()
    with local_run.checkpoint_folder(Namespace(checkpoint_dir=str(tmp_path))) as folder:
        assert folder == tmp_path
    assert tmp_path.exists()


def test_only_a_bounded_local_run_is_not_restarted() -> None:
    assert "restart-strategy.type" not in local_run.local_settings(bounded=False)
    assert local_run.local_settings(bounded=True)["restart-strategy.type"] == "none"


def test_functions_of_imported_modules_are_pickled_with_their_code() -> None:
    job.take_modules_along()
    assert b"count_by_shard" in cloudpickle.dumps(word_count.count_by_shard)
    assert b"crc32" in cloudpickle.dumps(word_count.count_by_shard), "only the name of the function was pickled"
    assert b"dumps_table" not in cloudpickle.dumps(cloudpickle.dumps), "a module of the environment was pickled"
