"""What Flink's JVM prints, handed on to this process's stdout and stderr.

Leans on: what Java prints comes in order, so a line that is printed through py4j comes behind all others.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from kafka_job.terminal import say

from py4j.java_gateway import JavaObject

PROGRESS = 5.0  # seconds between the lines that say that somebody reads slowly


class Output:
    """What the JVM prints on one of its streams, handed on as whole lines as it comes."""

    def __init__(self, pipe: IO[bytes], hand_on: Callable[[bytes], None]) -> None:
        self.pipe, self.hand_on = pipe, hand_on
        self.mark = os.urandom(16)  # a line behind the last one that somebody waits for; at first, one that never comes
        self.marked = threading.Event()
        self.failure: Exception | None = None  # why what was printed could not be handed on, as on a full disk
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        """Read until the JVM has ended. It waits for us if we are slow."""
        rest = b""
        while chunk := self.pipe.read1(1 << 16):
            lines, end, rest = (rest + chunk).rpartition(b"\n")
            before, mark, after = (lines + end).partition(self.mark)
            self.write(before + after)
            if mark:
                self.marked.set()
        self.write(rest)
        self.marked.set()

    def write(self, lines: bytes) -> None:
        try:
            if lines:
                self.hand_on(lines)
        except (OSError, ValueError) as error:  # ValueError: somebody has closed it
            self.failure, self.hand_on = error, lambda lines: None

    def wait(self, java_stream: JavaObject) -> None:
        """Wait until all is handed on that was printed before, however slowly somebody reads: else rows would be lost.

        `java_stream`: System.out or System.err.
        """
        self.marked.clear()
        mark = os.urandom(16).hex()
        self.mark = f"{mark}\n".encode()
        java_stream.println(mark)
        while not self.marked.wait(PROGRESS) and self.reader.is_alive():
            say("Waiting for who reads what is printed; a second Ctrl-C ends this at once.")


dropped: OSError | None = None  # why nothing goes to stdout any more


def to_stdout(lines: bytes) -> None:
    """Print lines as they are; as text where stdout takes nothing else, as in a notebook. Raises OSError: it cannot."""
    if dropped and sys.stdout is sys.__stdout__ and os.path.samestat(os.fstat(1), Path(os.devnull).stat()):
        raise dropped
    try:
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.flush()
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        else:
            sys.stdout.write(lines.decode("utf-8", "replace"))
    except OSError as error:
        drop_stdout(error)
        raise


def drop_stdout(error: OSError) -> None:
    """Let go nowhere what Python still has for stdout: at its end it would try again, and fail."""
    global dropped
    if sys.stdout is sys.__stdout__:  # not something else in its place, whose fault is its own
        dropped = error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def stdout_is_gone(error: Exception, rest: str = "rows that are not there do not count as written") -> str:
    """One sentence where stdout takes no more rows; `rest`: what that means."""
    why = getattr(error, "strerror", None) or error
    return f"Cannot write to stdout: {why}; {rest}"


def to_stderr(lines: bytes) -> None:
    """Say lines."""
    if lines.strip():
        say(lines.decode("utf-8", "replace").removesuffix("\n"))
