"""A run with --checkpoint-dir goes on from its checkpoints, and its counts are those of a run that nothing stopped."""

import signal
from collections.abc import Callable
from pathlib import Path

from conftest import Job, Topic
from support import START, checkpoints, expected_counts, lines, read_files, wait_for


def test_stop_without_drain_leaves_open_windows_to_the_next_run(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output, folder = tmp_path / "out", tmp_path / "check points"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder), "--no-drain"]
    job = start_job(*arguments)
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    second = start_job(*arguments).wait()
    assert second.code == 1
    assert (
        second.stderr == f"Another run uses {folder}; stop that one, or choose another folder: --checkpoint-dir DIR\n"
    )

    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    [savepoint] = folder.glob("savepoint-*")
    last = f"Stopped: open windows are in {savepoint}, files and offsets are committed.\n"
    assert ended.stderr.endswith(last)
    assert read_files(output) == expected_counts(records[:5])

    refused = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder), "--window", "7"]
    before = checkpoints(folder)
    ended = start_job(*refused).wait()
    assert ended.code == 1
    assert ended.stderr == (
        f"The checkpoints in {folder} are of another job (state: counts per window of 5 s, now"
        " counts per window of 7 s); choose another folder: --checkpoint-dir DIR\n"
    )
    assert checkpoints(folder) == before

    records += topic.produce(lines("open", "open", start=START + 6_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith(f"Going on from {savepoint} of 20")
    assert read_files(output) == expected_counts(records)


def test_stop_with_drain_is_where_the_next_run_goes_on(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(folder)]
    job = start_job(*arguments)
    wait_for(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    job.process.send_signal(signal.SIGINT)
    assert job.wait().code == 0
    assert read_files(output) == expected_counts(records)

    # What counts are the offsets in the savepoint, not those of the group.
    topic.reset_offsets()
    records += topic.produce(lines("next run", start=START + 6_000))
    ended = start_job(*arguments, "--bounded").wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(records)


def test_a_late_record_right_after_a_restart_is_late(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """The source begins anew, and its first watermark is that of the late record."""
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--output", str(output), "--checkpoint-dir", str(tmp_path / "checkpoints")]
    job = start_job(*arguments, "--no-drain")
    job.until(lambda: read_files(output) == expected_counts(records[:5]), "the row of the closed window")
    job.end()

    topic.produce(lines("closed"))
    job = start_job(*arguments)
    job.wait_for_checkpoint_of(1)
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert "Words that came after their windows had closed, not counted (--max-delay): 1\n" in ended.stderr
    assert read_files(output) == expected_counts(records)
