"""The folder of checkpoints: whose it is, which is the newest one, and where a run began.

Where something is wrong with it, one sentence ends the program: SystemExit.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kafka_job.flink.connector import java_class
from kafka_job.flink.snapshots import METADATA, SAVEPOINTS, Unreadable, number_of
from kafka_job.kafka.broker import Offsets

OTHER_FOLDER = "choose another folder: --checkpoint-dir DIR"
OTHER_CHECKPOINT = f"{OTHER_FOLDER} (or another savepoint: flink run -s SAVEPOINT)"
TOPIC_ID = "id of the topic"
LOCK_TIMEOUT = 10.0  # seconds; the JVM of a run that was killed ends about 1 s after it


def checkpoint_settings(folder: Path) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint. If one is damaged, no older one is taken: rows would come again."""
    numbers = {}
    for metadata in [*folder.glob(f"*/chk-*/{METADATA}"), *folder.glob(SAVEPOINTS)]:
        with readable(metadata.parent):
            numbers[number_of(metadata)] = metadata.parent
    return numbers[max(numbers)] if numbers else None


def made_at(checkpoint: Path) -> int:
    """When a checkpoint was made, in milliseconds since the epoch."""
    return int((checkpoint / METADATA).stat().st_mtime * 1000)


@contextlib.contextmanager
def readable(checkpoint: Path | str) -> Iterator[None]:
    """End the program with one sentence where a checkpoint cannot be read in the `with` block."""
    try:
        yield
    except Unreadable as error:
        sys.exit(f"The checkpoint {checkpoint} cannot be read ({error}); {OTHER_CHECKPOINT}")


TAKEN: set[Path] = set()  # folders that runs of this process use


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Take a folder for the run in the `with` block. The JVM locks it, and so for as long as it can write something."""
    deadline = time.monotonic() + LOCK_TIMEOUT

    def wait_a_moment() -> None:
        if time.monotonic() > deadline:
            sys.exit(f"Another run uses {folder}; stop that one, or {OTHER_FOLDER}")
        time.sleep(0.1)

    while folder in TAKEN:  # by a run of this process: to close its file once more would give up its lock
        wait_a_moment()
    TAKEN.add(folder)
    try:
        with contextlib.closing(java_class("java.io.RandomAccessFile")(str(folder / "job.json"), "rw")) as file:
            while file.getChannel().tryLock() is None:  # another process has it
                wait_a_moment()
            yield
    finally:
        TAKEN.remove(folder)


def check_owner(folder: Path, job: dict[str, str]) -> None:
    """Exit with one sentence where the checkpoints in a folder are of another job; else the folder is this one's."""
    file = folder / "job.json"
    try:
        before = json.loads(file.read_text())
    except ValueError:  # it is empty: the folder is new
        before = {}
    changed = [f"{what}: {before.get(what)}, now {value}" for what, value in job.items() if before.get(what) != value]
    if changed and newest_checkpoint(folder):
        sys.exit(f"The checkpoints in {folder} are of another job ({changed[0]}); {OTHER_FOLDER}")
    if changed:
        (folder / "start.json").unlink(missing_ok=True)
        # In the same file, which is locked; but not in one of somebody else's, to which it is a link.
        with open(file, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as same:
            json.dump(job, same, indent=2)


def topic_of(folder: Path) -> str:
    """The id of the topic that the job with a folder reads."""
    return json.loads((folder / "job.json").read_text())[TOPIC_ID]


def record_start(folder: Path, start: Offsets, after: str | None) -> None:
    """Note where a run starts, `after` which checkpoint: one made before all partitions are found does not tell."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # nothing is left of it where the disk is full
        file = Path(temporary, "start.json")
        file.write_text(json.dumps({"start": start, "after": after}))
        file.replace(folder / "start.json")


def recorded_start(folder: Path, checkpoint: Path | None, on_cluster: bool) -> Offsets | None:
    """Where the last run in a folder began, which has left `checkpoint`; None if there was no run.

    Killed before its first checkpoint, it has kept nothing. `on_cluster`: others than this library may have stopped it.
    """
    file = folder / "start.json"
    if not file.exists():
        return {} if checkpoint else None  # {}: where it began nobody knows; the checkpoint tells all
    try:
        noted = json.loads(file.read_text())
    except ValueError:
        sys.exit(f"{file} is damaged, which says where the last run has begun; {OTHER_FOLDER}")
    if not checkpoint and (on_cluster or noted["after"]):
        elsewhere = "if it was stopped with a savepoint elsewhere, go on from that one: flink run -s SAVEPOINT"
        sys.exit(f"The last run with {folder} has left no checkpoint there; {elsewhere}; else {OTHER_FOLDER}")
    return {int(partition): offset for partition, offset in noted["start"].items()}
