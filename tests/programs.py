"""Programs in the process of the tests, where all that they import is there: that takes them a second or two."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from conftest import Finished


def run_here(main: Callable[[], object], *arguments: str | Path, name: str = "program", stdin: str = "") -> Finished:
    """How a program has ended that was given some arguments, and what it has printed."""
    code, stdout, stderr = 0, io.StringIO(), io.StringIO()
    given = {"argv": [name, *map(str, arguments)], "stdin": io.TextIOWrapper(io.BytesIO(stdin.encode()))}
    with mock.patch.multiple(sys, **given), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main()
        except SystemExit as end:  # as Python takes it
            code = end.code if isinstance(end.code, int) else 1
            stderr.write(f"{end.code}\n" if isinstance(end.code, str) else "")
    return Finished(code, stdout.getvalue(), stderr.getvalue())
