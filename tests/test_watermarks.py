"""The table of the tutorial's chapter on windows is what a job does, record by record."""

import re
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, time, timezone

from conftest import Job, Topic
from support import ROOT, Counts, Record, get_json, parse_rows, wait_for

TABLE = (ROOT / "docs" / "tutorial.md").read_text("utf-8").partition("<!-- table: tests/test_watermarks.py -->")[2]
ROWS = re.findall(r"^\| `(.+?)` \| ([\d:]+) \| ([\d:.]+) \| (.*?) ?\|$", TABLE.partition("\n\n")[0], re.MULTILINE)
DAY = datetime(2026, 11, 22, tzinfo=timezone.utc)


def milliseconds(clock: str) -> int:
    """A time of that day, 14:00:01 or 14:00:00.999, as milliseconds since the epoch."""
    return round(datetime.combine(DAY, time.fromisoformat(clock), timezone.utc).timestamp() * 1000)


def counts_in(outcome: str) -> Iterator[tuple[tuple[str, str], int]]:
    """The rows that the last column tells of: window 14:00:00: `to` 2, `be` 2"""
    if window := re.match(r"window ([\d:]+): ", outcome):
        for word, count in re.findall(r"`(\w+)` (\d+)", outcome):
            yield (f"2026-11-22T{window[1]}Z", word), int(count)


def test_sample_is_the_table() -> None:
    sample = (ROOT / "docs" / "samples" / "watermark.txt").read_text("utf-8").splitlines()
    assert sample == [f"{time} {line}" for line, time, _, _ in ROWS]


def test_table_record_by_record(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    topic = new_topic()
    job = start_job(*topic.arguments())
    web_ui = job.web_ui()

    def watermark() -> int:
        """What the second box of the web UI was given; less than 0 before the first one."""
        running = get_json(f"{web_ui}/jobs")["jobs"][0]["id"]
        _, windows = get_json(f"{web_ui}/jobs/{running}")["vertices"]
        found = get_json(f"{web_ui}/jobs/{running}/vertices/{windows['id']}/watermarks")
        return int(found[0]["value"]) if found else -1

    def rows() -> Counts:
        return parse_rows(job.stdout.read_text("utf-8").partition("\n")[2])

    counts: Counts = {}
    for offset, (line, clock, after, outcome) in enumerate(ROWS):
        topic.produce([Record(line.encode(), milliseconds(clock))])
        counts |= counts_in(outcome)
        expected = (offset, milliseconds(after), counts)
        wait_for(lambda e=expected: (job.metric("currentOffset"), watermark(), rows()) == e, str(expected))
    job.process.send_signal(signal.SIGINT)
    assert "not counted (--max-delay): 1\n" in job.wait().stderr
