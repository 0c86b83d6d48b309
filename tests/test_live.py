"""--live in a terminal, a real one as far as the job can tell; and what it is made of."""

import contextlib
import fcntl
import io
import itertools
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from unittest import mock

from kafka_job import JobOptions, run
from kafka_job.execution import entry
from kafka_job.execution.live import (
    NO_WATERMARK,
    LiveTable,
    Progress,
    Window,
    distance,
    draw,
    progress,
    watermark_text,
)
from kafka_job.flink.gateway import Jvm
from kafka_job.flink.output import Output
from kafka_job.terminal import printable

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from rich.console import Console

from broker import Broker, free_port
from conftest import Job, Topic, environment_with
from support import (
    ROOT,
    SCRIPT,
    START,
    STILL_STOPPING,
    Record,
    copy_script,
    expected_counts,
    lines,
    parse_rows,
    wait_for,
)

ESCAPES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
SPAN = re.compile(r"│ (\S+) +([\d,]+) █+ *│")
STOPPED = "Stopped: open windows are written, files and offsets are committed.\r\n"


class Terminal:
    """A program in a terminal of its own: what it has shown so far, and keys to press."""

    def __init__(self, command: list[str | Path], cwd: Path, **variables: str) -> None:
        self.keyboard, screen = pty.openpty()
        self.resize(100)
        self.shown = b""
        self.process = subprocess.Popen(
            command,
            stdin=screen,
            stdout=screen,
            stderr=screen,
            cwd=cwd,
            env=environment_with(TERM="xterm-256color", PATH="/usr/bin:/bin", **variables),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is for this program
        )
        os.close(screen)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # all programs have left the terminal, or it was closed
            while more := os.read(self.keyboard, 65536):
                self.shown += more

    def text(self) -> str:
        """All that was shown, without what moves the cursor, gives colour, or is said of a slow stop."""
        return STILL_STOPPING.sub("", ESCAPES.sub("", self.shown.decode()))

    def table(self) -> str:
        """The last table that is shown as a whole, and what follows it."""
        return self.text()[: self.text().rfind("╯") + 1].rpartition("╭")[2] + self.text().rpartition("╯")[2]

    def rows(self) -> dict[str, int]:
        """The keys and counts in the last table."""
        return {key: int(count.replace(",", "")) for key, count in SPAN.findall(self.table())}

    def until(self, condition: Callable[[], object], what: str, timeout: float = 90) -> None:
        """Wait for something that is shown; an error if the program ends instead."""

        def met() -> object:
            assert self.process.poll() is None or condition(), f"ended before {what}: {self.text()}"
            return condition()

        wait_for(met, what, timeout)

    def resize(self, width: int) -> None:
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))

    def press_ctrl_c(self) -> None:
        os.write(self.keyboard, b"\x03")

    def wait(self, timeout: float = 60) -> int:
        """Wait for the program's end, and for all that it has shown; its exit code."""
        code = self.process.wait(timeout)
        self.reader.join(10)
        return code

    def end(self) -> None:
        """End it: first as a user may, since the demo's broker is no child of this terminal."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.terminate()
            self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.keyboard)


@pytest.fixture
def in_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts a Python script in a terminal; ended with the test."""
    started: list[Terminal] = []

    def start(*arguments: str, script: Path = SCRIPT, **variables: str) -> Terminal:
        started.append(Terminal([sys.executable, script, *arguments], tmp_path, **variables))
        return started[-1]

    yield start
    for terminal in started:
        terminal.end()


def counts(records: list[Record], start: str, window: int = 5) -> dict[str, int]:
    """The independent count of one window of so many seconds."""
    return {word: count for (at, word), count in expected_counts(records, window).items() if at == start}


def test_table_until_ctrl_c(new_topic: Callable[..., Topic], in_terminal: Callable[..., Terminal]) -> None:
    """The table has the newest closed window; the last one, which the stop has closed, stays on the screen."""
    topic = new_topic()
    job = in_terminal(*topic.arguments(), "--live", NO_COLOR="1")
    job.until(lambda: "A window closes when a record comes that is later" in job.table(), "a hint")
    assert "watermark none yet" in job.table()

    records = topic.produce(lines("to be or not to be", "that is the question", "to be", every=2500))
    job.until(lambda: job.rows() == counts(records, "2023-11-14T22:13:20Z"), "the first window")
    assert "Rows of 2023-11-14T22:13:20Z: all 8" in job.table()
    job.until(lambda: "3 records, " in job.table(), "the number of records")
    behind = re.compile(r"watermark 2023-11-14T22:13:24Z, \d years behind the clock")
    job.until(lambda: behind.search(job.table()), "the watermark")
    job.until(lambda: "invalidLines 0, lateWords 0, nullValues 0" in job.table(), "what was reported")

    topic.produce(lines("too late"))
    job.until(lambda: "lateWords 2" in job.table(), "the late words")
    assert job.shown.rindex(b"\x1b[?25h") > job.shown.rindex(b"\x1b[?25l"), "a kill would leave no cursor"
    job.press_ctrl_c()
    assert job.wait() == 0
    assert job.rows() == counts(records, "2023-11-14T22:13:25Z") == {"to": 1, "be": 1}
    assert job.table().endswith(f"╯\r\n{STOPPED}")
    assert "not counted (--max-delay): 2" in job.text()
    assert "Printing result" not in job.text()


def test_bounded_run_in_a_terminal(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], in_terminal: Callable[..., Terminal]
) -> None:
    """However many windows close at once, and however fast, the table has the last one; without a terminal all rows."""
    topic = new_topic()
    records = topic.produce(lines(*["many words of many windows"] * 500, "last words, words"))
    job = in_terminal(*topic.arguments(), "--live", "--bounded")
    assert job.wait() == 0
    assert job.rows() == counts(records, max(start for start, _ in expected_counts(records)))

    def printed(*arguments: str) -> list[str]:
        ended = start_job(*topic.arguments(), "--bounded", "--start", "earliest", *arguments).wait()
        assert ended.code == 0
        return sorted(ended.stdout.splitlines())

    plain = printed()
    assert printed("--live") == plain
    printing = "Printing result to stdout. Use --output to specify output path."
    assert parse_rows("".join(f"{row}\n" for row in plain if row != printing)) == expected_counts(records)


def test_failure_in_a_terminal(
    new_topic: Callable[..., Topic], in_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """What Python functions print stands above the table, the sentence that tells of the failure under it."""
    bug = "print('\\x1b[2J'); return [1 // (word != 'bug') for word in words]"
    buggy = copy_script(tmp_path, connectors=True, old="return shards.items()", new=bug)
    topic = new_topic()
    topic.produce(lines("a bug"))
    job = in_terminal(*topic.arguments(), "--bounded", "--live", script=buggy)
    assert job.wait() == 1
    assert "\ufffd[2J" in job.text()
    assert b"\x1b[2J" not in job.shown
    assert "ZeroDivisionError" in job.table()
    assert "The job has failed." in job.table()


def test_terminal_that_is_made_narrow_and_closed(
    new_topic: Callable[..., Topic], in_terminal: Callable[..., Terminal]
) -> None:
    topic = new_topic()
    job = in_terminal(*topic.arguments(), "--live")
    topic.produce(lines("to be", "or not"))
    job.until(lambda: "2 records, " in job.table(), "the records")
    assert b"\x1b[2J" not in job.shown
    job.resize(50)
    job.until(lambda: max(map(len, job.table().splitlines())) == 50, "a narrow table")
    assert job.shown.count(b"\x1b[2J") == 1

    os.close(job.keyboard)
    assert job.process.wait(60) == 0
    assert topic.committed_records() == 2


@pytest.mark.parametrize(("terminal", "shown"), [("xterm", True), ("dumb", False)])
def test_table_needs_a_terminal_that_can_show_it(terminal: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(entry.gateway, "start", mock.Mock())
    monkeypatch.setattr(entry, "check_set_up", mock.Mock())
    run_locally = mock.Mock()
    monkeypatch.setattr(entry, "run_locally", run_locally)
    run("live", mock.Mock(), JobOptions(live=True), state="")
    _, _, live, _ = run_locally.call_args.args
    assert live is shown


def test_files_are_not_live(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        JobOptions.parse("Count.", ["--live", "--output", "out/"])
    assert capsys.readouterr().err.endswith(f"here they go to {Path('out').resolve()}; leave out one of the two\n")


def test_other_runs_do_not_import_rich() -> None:
    code = "import sys, kafka_job.execution.local; sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, check=True)


def copy_of_demo(folder: Path) -> Path:
    """A copy of the demo, so that its rows are in no folder of ours; its path."""
    copy_script(folder, connectors=True)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "tools" / "demo.py"


def test_demo_in_a_terminal(own_broker: Broker, in_terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """After its table the demo goes on live, and ends by itself in good order."""
    demo = in_terminal("--bootstrap-servers", own_broker.bootstrap_servers, script=copy_of_demo(tmp_path))
    assert demo.wait(120) == 0, demo.text()
    assert "Top 10 words" in demo.text()
    assert demo.text().endswith(STOPPED)
    assert demo.text().count(STOPPED) == 1
    address = own_broker.bootstrap_servers
    with KafkaAdminClient(bootstrap_servers=address) as admin:
        [committed] = admin.list_group_offsets(["test_group"])["test_group"].values()
    with contextlib.closing(
        KafkaConsumer("input", bootstrap_servers=address, auto_offset_reset="earliest")
    ) as consumer:
        sent = [Record(one.value, one.timestamp) for one in itertools.islice(consumer, committed.offset)]
    assert len(sent) > 100
    expected = expected_counts(sent[40:], window=2)  # 40 lines are those of the first run
    start = max(start for start, _ in expected)
    assert f"Rows of {start}: " in demo.table()
    last = counts(sent[40:], start, window=2)
    assert len(demo.rows()) == min(10, len(last))
    assert demo.rows().items() <= last.items()


def test_ctrl_c_in_the_live_part_of_the_demo(in_terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """It has a broker of its own, whatever there is. Without the part before, which the test above has."""
    script = copy_of_demo(tmp_path)
    text = script.read_text("utf-8")
    for old, new in (("LIVE_SECONDS = 15\n", "LIVE_SECONDS = 600\n"), ("show(run_word_count(address))", "pass")):
        assert old in text
        text = text.replace(old, new)
    script.write_text(text, "utf-8")
    demo = in_terminal(script=script)
    demo.until(lambda: demo.rows(), "the live table")
    demo.press_ctrl_c()
    assert demo.wait() == 1
    assert demo.text().splitlines()[-3:] == [STOPPED.rstrip(), "", "Stopped."]


def read(text: bytes) -> LiveTable:
    table = LiveTable(mock.Mock(Jvm))
    table.read(text)
    return table


def test_highest_rows_are_kept() -> None:
    rows = b"".join(b"2026-11-22T14:00:05Z\tword%d\t%d\n" % (number, number % 1000) for number in range(100_000))
    window = read(rows).newest
    assert window.rows == 100_000
    highest = sorted(f"word{number}" for number in range(999, 100_000, 1000))
    assert window.top == [(-999, word) for word in highest[:10]]


def test_a_window_is_shown_when_its_rows_are_complete() -> None:
    table = read(b"first\ta\t1\nfirst\tb\t2\n")
    assert table.window() is table.newest, "better than none"
    table.add(b"second\ta\t1\n")
    assert table.window().start == b"first", "more rows of the second may come"
    table.last_row -= 1
    assert table.window().start == b"second"
    table.add(b"third\ta\t1\n")
    table.progress = None
    assert table.window().start == b"third", "the job has ended"


def test_what_is_not_a_row_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    table = read(b"hello \x1b[31m\xff\nfirst\tkey\tno number\nfirst\tkey\t3\n")
    assert capsys.readouterr().out == "hello \ufffd[31m\ufffd\nfirst   key     no number\n"
    assert table.newest.top == [(-3, "key")]


def test_a_number_with_decimals_has_other_columns_before_it() -> None:
    """As the rows of examples/orders.py."""
    table = read(b"first\tann\t2\t20.00\t12.50\nfirst\tbob\t1\t-3.00\t-3.00\nfirst\tcy\tnan\nfirst\td\t1e1000000\n")
    assert table.newest.top == [(Decimal("-12.50"), "ann\t2\t20.00"), (3, "bob\t1\t-3.00")]
    assert [row.split("█")[0].strip(" │") for row in drawn(table)[1:3]] == ["ann 2 20.00 12.50", "bob 1 -3.00 -3.00"]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\x07", "\u202e", "\x00", "\r", "\u2028"])
def test_what_a_terminal_would_obey_is_not_shown(text: str) -> None:
    assert printable(f"a{text}b").startswith("a\ufffd")
    assert printable("wörld 言葉 🦊 e\u0301") == "wörld 言葉 🦊 e\u0301"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s behind the clock"),
        (3, "3 s behind the clock"),
        (-100, "100 s ahead of the clock"),
        (150, "2 min behind the clock"),
        (8000, "2 h behind the clock"),
        (3 * 86_400, "3 days behind the clock"),
        (-56.4 * 365 * 86_400, "56 years ahead of the clock"),
    ],
)
def test_distance_of_event_time(seconds: float, said: str) -> None:
    assert distance(seconds) == said


def test_watermarks() -> None:
    assert watermark_text(NO_WATERMARK, now=0) == "none yet"
    assert watermark_text(START, now=START // 1000 + 3) == "2023-11-14T22:13:20Z, 3 s behind the clock"
    assert watermark_text(2**62, now=0) == "146235604 years ahead of the clock"


def test_progress() -> None:
    def metric(name: str, value: float) -> dict[str, object]:
        return {"id": name, "min": value, "max": value + 5, "sum": 2 * value}

    metrics = [
        metric("Source__Kafka.numRecordsIn", 300.0),
        metric("window.currentInputWatermark", 7000.0),
        metric("late.currentInputWatermark", 5000.0),
        metric("report_lateWords.lateWords", 4.0),
        metric("window.numLateRecordsDropped", 0.0),
    ]
    after = progress(metrics, Progress(records=400, rate=50), seconds=2)
    assert after == Progress(records=600, rate=75, watermark=5000, reported={"lateWords": 8})
    assert progress(metrics, Progress(records=400), seconds=4).rate == 50
    assert progress(metrics, Progress(records=9000), seconds=9).rate == 0, "the job was started again"
    assert progress([], after, seconds=9) == Progress()


def test_last_table_has_what_is_still_on_its_way(capsys: pytest.CaptureFixture[str]) -> None:
    """The job has ended, its last row is in the pipe: the JVM prints a mark behind it."""
    stdout, printed = os.pipe()
    jvm, java_stream = mock.Mock(Jvm), mock.Mock()
    table = LiveTable(jvm)
    output = Output(os.fdopen(stdout, "rb"), table.read)
    jvm.wait_for_output = lambda: output.wait(java_stream)
    java_stream.println = lambda mark: threading.Timer(
        0.5, os.write, (printed, f"2026\tlast\t1\n{mark}\n".encode())
    ).start()
    with table.shown(f"http://localhost:{free_port()}/jobs/0"):
        pass
    assert "│ last 1 █" in ESCAPES.sub("", capsys.readouterr().out)
    os.close(printed)


def test_keys_of_several_fields() -> None:
    """As those of examples/top_ten.py, whose rows have a rank."""
    table = read(b"2026\t1\thello\t9\n")
    assert table.newest.top == [(-9, "1\thello")]
    assert "│ 1 hello 9 █" in drawn(table)[1]


def drawn(table: LiveTable, width: int = 100, height: int = 30, encoding: str = "utf-8") -> list[str]:
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace") as screen:
        console = Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)
        console.print(draw(table.window(), table.progress, console, now=START / 1000))
        screen.seek(0)
        return screen.read().splitlines()


def test_what_is_drawn() -> None:
    table = read(b"2026\tkey\t1200\n2026\t[b]k\xe8\xa8\x80\x1b\t600\n2026\t" + b"long" * 1000 + b"\t1\n")
    table.progress = Progress(12_345, 67.8, START - 3000, {"lateWords": 2})
    first, *rows = drawn(table)
    assert first == f"╭─ Rows of 2026: all 3 {'─' * 54}╮"
    assert [row.strip(" │") for row in rows[:-1]] == [
        f"key                        1,200 {'█' * 32}",
        f"[b]k言\ufffd                      600 {'█' * 16}",
        f"{'long' * 6}l…     1 █",
        "",
        "read      12,345 records, about 68 a second",
        "watermark 2023-11-14T22:13:17Z, 3 s behind the clock",
        "reported  lateWords 2",
    ]
    table.progress = None
    assert len(drawn(table)) == 5, "of a job that has ended, only rows"
    assert f" {'#' * 32} " in drawn(table, encoding="ascii")[1]


def test_table_fits_the_terminal() -> None:
    table = read(b"".join(b"2026\tword%d\t7\n" % number for number in range(50)))
    for width, height, number in [(100, 30, 10), (40, 30, 10), (100, 15, 7), (20, 5, 1)]:
        rows = drawn(table, width, height)
        assert sum("word" in row for row in rows) == number
        assert all(len(row) <= width for row in rows)


def test_no_rows() -> None:
    table = LiveTable(mock.Mock(Jvm))
    assert "No rows yet" in drawn(table)[0]
    table.progress = None
    assert drawn(table) == [f"╭─ No rows {'─' * 66}╮", f"╰{'─' * 76}╯"]
    assert table.window() == Window()
