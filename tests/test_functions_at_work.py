"""What whoever writes a function asks for: a breakpoint in it, and what it logs."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from conftest import Topic, environment_with
from support import edited, lines

CALL = '    return lines.decode("utf-8", errors="replace").split()\n'


@pytest.mark.slow  # it has a terminal
def test_breakpoint(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    topic = new_topic()
    topic.produce(lines("hello world"))
    script = edited(tmp_path / "stops", CALL, f"    breakpoint()\n{CALL}")
    command = [str(script), *topic.arguments(), "--bounded"]
    job = pexpect.spawn(sys.executable, command, env=environment_with(), encoding="utf-8", timeout=90)
    try:
        job.expect(r"in split|split\(\)")
        job.expect(r"\(Pdb\) ")
        job.sendline("p lines")
        job.expect(r"b'hello world\\n'")
        job.expect(r"\(Pdb\) ")
        job.sendline("continue")
        job.expect("world\t1")
        job.expect(pexpect.EOF)
    finally:
        job.close(force=True)
    assert job.exitstatus == 0


def test_logging(new_topic: Callable[..., Topic], start_process: Callable[..., object], tmp_path: Path) -> None:
    topic = new_topic()
    topic.produce(lines("hello world"))
    mine = 'logging.getLogger("mine")'
    logged = f'{mine}.warning("a line that %s", "was logged"); {mine}.info("for the log alone")'
    caught = f"try:\n        1 // 0\n    except ZeroDivisionError:\n        {mine}.exception('what was caught')"
    logs = f'    import logging\n    {logged}\n    {caught}\n    print("printed")\n{CALL}'
    script = edited(tmp_path / "logs", CALL, logs)
    (tmp_path / "log").mkdir()
    ended = start_process(*topic.arguments(), "--bounded", script=script, FLINK_LOG_DIR=str(tmp_path / "log")).wait()
    assert ended.code == 0, ended.stderr
    assert "printed\n" in ended.stdout
    assert ended.stderr.count("a line that was logged\n") == 1
    assert re.search(r"^what was caught\nTraceback .*\n.*, line \d+, in split\n", ended.stderr, re.MULTILINE)
    assert "for the log alone" not in ended.stderr
    [log] = (tmp_path / "log").iterdir()
    assert " WARN " in log.read_text("utf-8")
    assert "- a line that was logged" in log.read_text("utf-8")
    assert "- for the log alone" in log.read_text("utf-8")
