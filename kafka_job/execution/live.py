"""A table of the newest rows, in place of all rows one after the other (--live, in a terminal).

A row is the start of its window, a key and a number, with tabs between. What else is printed stands above the table.
"""

import bisect
import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Any

from kafka_job.flink.gateway import Jvm
from kafka_job.flink.output import drop_stdout
from kafka_job.flink.running import metrics_of
from kafka_job.terminal import printable, utc

from py4j.protocol import Py4JError
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

TOP = 10  # rows of a window
WIDTH, KEY_WIDTH, OTHER_WIDTH = 78, 26, 20  # columns of the screen: of the table, a key, all else but the bar
KEY_BYTES = 5 * KEY_WIDTH  # how many bytes of a key are kept: it may have a million
MOST_DIGITS = 30  # of a number that is shown
REFRESH = 0.25  # seconds
ASK = 1.0  # seconds between questions to Flink
ANSWER = 5.0  # seconds that it has for an answer
SMOOTH = 4.0  # seconds that the rate is an average of
QUIET = 0.3  # seconds without a row, after which a window is taken to have all of its rows
NO_WATERMARK = -(2**63)  # Flink's, before the first record
YEAR_10000 = 253_402_300_800_000  # milliseconds since the epoch
UNITS = ((2 * 365 * 86_400, 365 * 86_400, "years"), (2 * 86_400, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min"))
# What is asked of Flink: the records that sources have read, how far event time has come, what is late or reported. The
# last one is a metric of Tally.java, whose operator has its name: report_lateWords.lateWords.
METRICS = re.compile(r"Source__.*\.numRecordsIn|.*\.(currentInputWatermark|numLateRecordsDropped)|report_(\w+)\.\2")
WAITING = "A window closes when a record comes that is later than its end: send one more line, some seconds later."


@dataclass
class Window:
    """The rows of a window, of which the highest are kept."""

    start: bytes = b""
    rows: int = 0
    top: list[tuple[Decimal, str]] = field(default_factory=list)  # (-number, key), the highest number first


@dataclass(frozen=True)
class Progress:
    """What Flink says of a job while it runs."""

    records: int = 0  # read since the job has started
    rate: float = 0.0  # records per second
    watermark: int = NO_WATERMARK  # milliseconds since the epoch
    reported: dict[str, int] = field(default_factory=dict)  # by the names of metrics


class LiveTable:
    """Reads what a job prints, and shows the newest window; two threads, of which each writes what the other reads."""

    def __init__(self, jvm: Jvm) -> None:
        self.jvm = jvm  # prints the rows
        self.newest = self.complete = Window()
        self.last_row = 0.0  # when it came, by time.monotonic()
        self.progress: Progress | None = Progress()  # None: the job has ended

    def read(self, lines: bytes) -> None:
        """Take lines that the JVM has printed."""
        for line in lines.removesuffix(b"\n").split(b"\n"):
            self.add(line)

    def add(self, line: bytes) -> None:
        """Take a line that was printed: a row, or something else, which is passed on."""
        try:
            start, rest = line.split(b"\t", 1)
            key, number = rest.rsplit(b"\t", 1)
            negative = -Decimal(number.decode())
            if not negative.is_finite() or negative.adjusted() > MOST_DIGITS:
                raise ValueError
        except (ValueError, ArithmeticError):
            with contextlib.suppress(OSError):
                print(printable(line.decode("utf-8", "replace").expandtabs()), flush=True)
            return
        if start != self.newest.start:  # windows close one after the other: the one before is complete
            self.complete, self.newest = self.newest, Window(start)
        self.newest.rows += 1
        top = self.newest.top
        if len(top) < TOP or negative <= top[-1][0]:
            bisect.insort(top, (negative, key[:KEY_BYTES].decode("utf-8", "replace")))
            del top[TOP:]
        self.last_row = time.monotonic()

    def window(self) -> Window:
        """The newest window that has all of its rows."""
        quiet = self.progress is None or time.monotonic() - self.last_row > QUIET
        return self.newest if quiet or not self.complete.rows else self.complete

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Panel]:
        yield draw(self.window(), self.progress, console, time.time())

    @contextlib.contextmanager
    def shown(self, job_url: str) -> Iterator[None]:
        """Show the table while the `with` block runs the job, which has this address; the last one stays."""
        sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than Unicode has
        console = Console(force_terminal=True, force_interactive=True, highlight=False)
        live = Live(self, console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
        done = threading.Event()
        refresh = threading.Thread(target=self.refresh, args=(live, job_url, done), daemon=True)
        with terminal_may_close():
            live.start()
            console.show_cursor(True)  # whatever ends this program, the cursor is there
        refresh.start()
        try:
            yield
        finally:
            with contextlib.suppress(Py4JError, OSError):  # it has ended
                self.jvm.wait_for_output()
            done.set()
            refresh.join()
            self.progress = None
            with terminal_may_close():
                live.stop()

    def refresh(self, live: Live, job_url: str, done: threading.Event) -> None:
        asked, width = -ASK, 0
        while not done.is_set():
            now = time.monotonic()
            if now - asked >= ASK:
                with contextlib.suppress(OSError, LookupError):  # it starts, or has ended
                    self.progress = progress(metrics_of(job_url, METRICS, ANSWER), self.progress, now - asked)
                asked = now
            with terminal_may_close():
                if live.console.width < width:
                    live.console.clear()  # the table was wider, so its lines are now two: it would not be found again
                width = min(WIDTH, live.console.width)
                live.refresh()
            done.wait(REFRESH)


@contextlib.contextmanager
def terminal_may_close() -> Iterator[None]:
    """Go on where the terminal is closed. That asks for a stop, which an error would cut short. No more is shown."""
    try:
        yield
    except OSError as error:
        drop_stdout(error)


def progress(metrics: list[dict[str, Any]], before: Progress, seconds: float) -> Progress:
    """What the values of METRICS say; `before` is what they have said `seconds` ago."""
    records, watermarks, reported = 0, [], {}
    for metric in metrics:
        name = metric["id"].rpartition(".")[2]
        if name == "numRecordsIn":
            records += int(metric["sum"])
        elif name == "currentInputWatermark":
            watermarks.append(int(metric["min"]))
        elif metric["sum"] or name != "numLateRecordsDropped":  # most jobs report late records in their own way
            reported[name] = reported.get(name, 0) + int(metric["sum"])
    rate = max(0, records - before.records) / seconds
    # Flink's answers are up to a second old, at times less, so that the rate of one second would be wrong by as much.
    smooth = before.rate + (rate - before.rate) * min(1, seconds / SMOOTH)
    return Progress(records, smooth, min(watermarks, default=NO_WATERMARK), reported)


def distance(seconds: float) -> str:
    """How far event time is from the clock: 3 s behind it, 2 days ahead of it."""
    size = abs(seconds)
    length, unit = next(((length, unit) for least, length, unit in UNITS if size >= least), (1, "s"))
    return f"{round(size / length)} {unit} {'behind' if seconds >= 0 else 'ahead of'} the clock"


def watermark_text(watermark: int, now: float) -> str:
    """A watermark, in milliseconds since the epoch, and its distance from `now`, in seconds since then."""
    if watermark == NO_WATERMARK:
        return "none yet"
    away = distance(now - watermark / 1000)
    return f"{utc(watermark)}, {away}" if 0 <= watermark < YEAR_10000 else away


def highest_rows(window: Window, number: int, bar: str) -> Table:
    """The highest rows of a window, each with a bar; `bar` is the longest one."""
    rows = Table.grid(padding=(0, 1))
    rows.add_column(max_width=KEY_WIDTH, no_wrap=True, overflow="ellipsis")
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(no_wrap=True, overflow="crop", style="cyan")
    highest = max(1, -window.top[0][0])
    for negative, key in window.top[:number]:
        length = max(0, ceil(-len(bar) * negative / highest))
        rows.add_row(Text(printable(key.replace("\t", " "))), f"{-negative:,}", bar[:length])
    return rows


def draw(window: Window, progress: Progress | None, console: Console, now: float) -> Panel:
    """All that is shown; of a job that has ended the rows alone, since what Flink said last is older than its end."""
    number = max(1, min(TOP, console.height - 8))
    width = min(WIDTH, console.width)
    bar = ("█" if console.encoding.startswith("utf") else "#") * max(1, width - KEY_WIDTH - OTHER_WIDTH)
    title = "No rows yet" if progress else "No rows"
    parts: list[Table | Text] = []
    if window.rows:
        start = printable(window.start.decode("utf-8", "replace"))
        shown = f"all {window.rows}" if window.rows <= number else f"{number} of {window.rows:,}"
        title = f"Rows of {start}: {shown}"
        parts.append(highest_rows(window, number, bar))
    elif progress:
        parts.append(Text(WAITING))
    if progress:
        state = Table.grid(padding=(0, 1))
        state.add_column(no_wrap=True, style="bold")
        state.add_row("read", f"{progress.records:,} records, about {progress.rate:,.0f} a second")
        state.add_row("watermark", watermark_text(progress.watermark, now))
        if progress.reported:
            reported = ", ".join(f"{name} {number:,}" for name, number in sorted(progress.reported.items()))
            state.add_row("reported", reported)
        parts += [Text(), state]
    return Panel(Group(*parts), title=Text(title), title_align="left", width=width)
