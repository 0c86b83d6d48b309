"""A lock that is held by the JVM, and so for as long as something can still be written by it.

Leans on: nothing that Java does not promise; it is here because it is asked of the JVM.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from kafka_job.flink.java import java_class

from py4j.protocol import Py4JJavaError


@contextlib.contextmanager
def locked(file: Path, timeout: float) -> Iterator[bool]:
    """Take a file for the `with` block, which is told whether that could be done within `timeout` seconds.

    Where this process is killed, the file is free as soon as its JVM has ended too, some moments later.
    """
    opened = java_class("java.io.RandomAccessFile")(str(file), "rw")
    try:
        channel = opened.getChannel()
        deadline = time.monotonic() + timeout
        while not (taken := try_lock(channel)) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield taken
    finally:
        opened.close()


def try_lock(channel: object) -> bool:
    """Whether a Java FileChannel could be locked."""
    try:
        return channel.tryLock() is not None
    except Py4JJavaError as error:
        if error.java_exception.getClass().getSimpleName() != "OverlappingFileLockException":  # another run in this JVM
            raise
        return False
