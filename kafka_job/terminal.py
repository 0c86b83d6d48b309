"""What is said to whoever sits at the screen."""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TextIO


def say(text: str) -> None:
    """Print a line on stderr, which may be gone: a closed terminal must not end a stop that it has caused."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def opened(stream: TextIO | None) -> TextIO:
    """Stdout or stderr; a place for nothing where it is closed, since print would take the other one then."""
    return stream or Path(os.devnull).open("w")


def debug() -> None:
    """What breakpoint() calls in a function inside Flink's JVM, whose stdin is not the terminal."""
    import pdb  # only here: few need it

    terminal = Path("/dev/tty")
    debugger = pdb.Pdb(stdin=terminal.open(), stdout=terminal.open("w"))  # which stay open
    debugger.use_rawinput = False
    debugger.set_trace(sys._getframe(1))


def printable(text: str) -> str:
    """A text without what a terminal would obey instead of showing it."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def utc(milliseconds: int) -> str:
    """A time since the epoch as text: 2026-11-22T14:00:05Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds // 1000)).zfill(20)  # the year 1 is 0001
