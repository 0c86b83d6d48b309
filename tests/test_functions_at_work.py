"""What whoever writes a function asks for: a breakpoint in it, and what it logs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from conftest import Job, Topic, environment_with
from support import edited, expected_counts, lines, parse_rows, wait_for
from test_local_run import PRINTING

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


def user_without_a_name() -> list[str]:
    """The command that runs another one as a user id that is in no list of users, where this machine lets us do so."""
    unnamed = ["unshare", "--user", "--map-user=1234567"]
    possible = shutil.which("unshare") and subprocess.run([*unnamed, "true"], capture_output=True).returncode == 0
    return unnamed if possible else []


def test_logging(new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path) -> None:
    """In a process of its own, for its log: its name is that of the user, who in some containers has none."""
    topic = new_topic()
    records = topic.produce(lines("hello world"))
    mine = 'logging.getLogger("mine")'
    logged = f'{mine}.warning("a line that %s", "was logged"); {mine}.info("for the log alone")'
    caught = f"try:\n        1 // 0\n    except ZeroDivisionError:\n        {mine}.exception('what was caught')"
    logs = f'    import logging\n    {logged}\n    {caught}\n    print("printed")\n{CALL}'
    script = edited(tmp_path / "logs", CALL, logs)
    (tmp_path / "log").mkdir()
    unnamed, names = user_without_a_name(), ("FLINK_IDENT_STRING", "LOGNAME", "USER", "LNAME", "USERNAME")
    variables = {"FLINK_LOG_DIR": str(tmp_path / "log"), **(dict.fromkeys(names, "") if unnamed else {})}
    ended = start_process(*topic.arguments(), "--bounded", script=script, through=unnamed, **variables).wait()
    assert ended.code == 0, ended.stderr
    printing, printed, rows = ended.stdout.split("\n", 2)
    assert (f"{printing}\n", printed, parse_rows(rows)) == (PRINTING, "printed", expected_counts(records))
    assert ended.stderr.count("a line that was logged\n") == 1
    assert re.search(r"^what was caught\nTraceback .*\n.*, line \d+, in split\n", ended.stderr, re.MULTILINE)
    assert "for the log alone" not in ended.stderr
    [log] = (tmp_path / "log").iterdir()
    assert log.name.startswith("flink-1234567-python-") or not unnamed
    assert " WARN " in log.read_text("utf-8")
    assert "- a line that was logged" in log.read_text("utf-8")
    assert "- for the log alone" in log.read_text("utf-8")


def test_what_an_exception_was_raised_from(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """And the exception itself, with all its lines."""
    topic = new_topic()
    topic.produce(lines("hello world"))
    again = 'raise ValueError("several\\n\\nlines") from error'
    caught = f"    try:\n        1 // 0\n    except ZeroDivisionError as error:\n        {again}\n"
    script = edited(tmp_path / "raises", CALL, caught)
    ended = start_job(*topic.arguments(), "--bounded", script=script).wait()
    assert ended.code == 1
    _, cause, *_ = ended.stderr.split("What a ValueError was raised from:\nTraceback (most recent call last):\n")
    assert re.match(r'  File "[^"]*/word_count.py", line \d+, in split\n    1 // 0\n.*\nZeroDivisionError: ', cause)
    error = ended.stderr.rpartition("Traceback (most recent call last):\n")[2]
    assert f"    {again}\nValueError: several\n\nlines\nThe job has failed. " in error
    assert "hide_beam" not in ended.stderr


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
