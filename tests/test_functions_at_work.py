"""What whoever writes a function asks for: a breakpoint in it, and what it logs."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from conftest import Job, Topic, environment_with
from support import edited, lines, wait_for

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


def test_number_of_ones_own(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """A metric of that name, and a line at the end; neither begins anew after a resume."""
    topic = new_topic()
    line = "    shards = count_batches(batches)"
    words = "batches.map(lambda batch: len(split(b' '.join(batch))), output_type=Types.LONG()).uid('words')"
    script = edited(tmp_path / "numbers", line, f"    report({words}, 'wordsRead', 'Words read')\n{line}")
    script.write_text(script.read_text("utf-8").replace("report_late, run", "report, report_late, run"), "utf-8")
    arguments = [*topic.arguments(), "--output", str(tmp_path / "out"), "--checkpoint-dir", str(tmp_path / "kept")]
    topic.produce(lines("a b c", "d"))
    job = start_job(*arguments, script=script)
    job.wait_for_checkpoint_of(2)
    wait_for(lambda: job.metric("wordsRead") == 4, "the number")
    job.end()
    topic.produce(lines("e f"))
    ended = start_job(*arguments, "--bounded", script=script).wait()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.endswith("\nWords read: 6\n")
