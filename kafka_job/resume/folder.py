"""A folder of checkpoints: take it for one run, see whose it is, find the newest one, note where a run starts."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka_job.flink.java import java_class
from kafka_job.flink.snapshots import METADATA, Unreadable, number_of
from kafka_job.kafka.broker import Offsets

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError

OTHER_FOLDER = "choose another folder: --checkpoint-dir DIR"
OTHER_CHECKPOINT = f"{OTHER_FOLDER} (or another savepoint: flink run -s SAVEPOINT)"
LOCK_TIMEOUT = 10.0  # seconds; the JVM of a run that was killed ends about 1 s after it


def checkpoint_settings(folder: Path) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint in a folder.

    Exits with one sentence where one of them is damaged. No older one is taken, which would write rows again.
    """
    numbers = {}
    for metadata in [*folder.glob(f"*/chk-*/{METADATA}"), *folder.glob(f"savepoint-*/{METADATA}")]:
        with one_sentence_for(metadata.parent):
            numbers[number_of(metadata)] = metadata.parent
    return numbers[max(numbers)] if numbers else None


@contextlib.contextmanager
def one_sentence_for(checkpoint: Path | str) -> Iterator[None]:
    """End the program with one sentence where a checkpoint cannot be read in the `with` block."""
    try:
        yield
    except Unreadable as error:
        sys.exit(f"The checkpoint {checkpoint} cannot be read ({error}); {OTHER_CHECKPOINT}")


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Take a folder of checkpoints for the run in the `with` block; exits with one sentence: another run uses it.

    The JVM has the lock, and so for as long as it can write something.
    """
    with contextlib.closing(java_class("java.io.RandomAccessFile")(str(folder / "job.json"), "rw")) as file:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not locked(file.getChannel()):
            if time.monotonic() > deadline:
                sys.exit(f"Another run uses {folder}; stop that one, or {OTHER_FOLDER}")
            time.sleep(0.1)
        yield


def locked(channel: JavaObject) -> bool:
    """Whether a Java FileChannel could be locked."""
    try:
        return channel.tryLock() is not None
    except Py4JJavaError as error:
        if error.java_exception.getClass().getSimpleName() != "OverlappingFileLockException":  # another run in this JVM
            raise
        return False


def difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """What two identities of jobs do not have in common, in words; None where they are of the same job."""
    for what, value in now.items():
        if before.get(what) != value:
            return f"{what}: {before.get(what)}, now {value}"
    return None


def check_owner(folder: Path, job: dict[str, str]) -> None:
    """Exit with one sentence where the checkpoints in a folder are of another job; else the folder is this one's.

    `job`: what must not change between a checkpoint and a run that goes on from it.
    """
    file = folder / "job.json"
    try:
        before = json.loads(file.read_text())
    except ValueError:  # it is empty: the folder is new
        before = {}
    changed = difference(before, job)
    if changed and newest_checkpoint(folder):
        sys.exit(f"The checkpoints in {folder} are of another job ({changed}); {OTHER_FOLDER}")
    if changed:
        (folder / "start.json").unlink(missing_ok=True)
        # In the same file, which is locked; but not in one of somebody else's, to which it is a link.
        with open(file, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as same:
            json.dump(job, same, indent=2)


def record_start(folder: Path, start: Offsets, after: str | None) -> None:
    """Note where a run starts: a checkpoint that is made before it has found all partitions does not tell.

    `after`: the checkpoint that it goes on from.
    """
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump({"start": start, "after": after}, file)
    Path(file.name).replace(folder / "start.json")


def recorded_start(folder: Path, checkpoint: Path | None, on_cluster: bool) -> Offsets | None:
    """Where the last run in a folder began, which has left `checkpoint`; None if there was no run.

    A run that was killed before its first checkpoint has kept nothing, so the next one begins where it began. Exits
    with one sentence where there was a checkpoint, or may have been one: others may have stopped a run `on_cluster`.
    """
    file = folder / "start.json"
    if not file.exists():
        return {} if checkpoint else None
    noted: dict[str, Any] = json.loads(file.read_text())
    if not checkpoint and (on_cluster or noted["after"]):
        elsewhere = "if it was stopped with a savepoint elsewhere, go on from that one: flink run -s SAVEPOINT"
        sys.exit(f"The last run with {folder} has left no checkpoint there; {elsewhere}; else {OTHER_FOLDER}")
    return {int(partition): offset for partition, offset in noted["start"].items()}
