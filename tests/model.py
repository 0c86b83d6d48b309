"""What every visible row must be, after any runs of one job over one topic, with one --checkpoint-dir and --output.

At any time, whatever has ended a run:

- A visible file is complete, and never changes.
- Between two drains a (window, word) is written at most once. A drain is a stop without --no-drain, or the end of a
  bounded run: it writes windows that are open, so more of such a window is a further row. These rows add up.
- All rows of a window that was closed by the watermark, not by a drain, are in one file, and no more come, ever.
- No sum of rows is more than what was produced.

After a drain the group's offsets say which records were read, and exactly these are in rows:

- Where nothing can be late, the rows of each (window, word) add up to the independent count.
- Where words can be late, those in rows and those said to be late are together all words. SQL does not say how many
  were late; running totals drop no late word, so each word has its exact total, but not in the second of its record.
- Null values and invalid lines that were said are those produced (SQL says the first only).

Running totals are read as counts in windows of one second: a row counts by how much its word's total has grown. So all
of this holds for them too, and no total comes twice. Between two drains none goes back.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from support import SQL, TOTALS, Counts, Record, expected_counts

# What a run that ends may say, each with a number.
LATE = "Words that came after their windows had closed, not counted (--max-delay)"
NULLS = "Records with a null value (tombstones), not counted"
INVALID = "Lines with bytes that are not UTF-8"

Row = tuple[str, str, int]  # start of the window, word, count or total


@dataclass(frozen=True)
class Kind:
    """What a whole walk has in common."""

    script: Path
    time: str
    max_delay: int
    idle_timeout: int
    slow: bool  # a millisecond for each line
    partitions: int

    @property
    def window(self) -> int:
        """Seconds."""
        return 1 if self.script.name == TOTALS.name else 5

    @property
    def totals(self) -> bool:
        return self.window == 1


def differences(rows: list[Row]) -> list[Row]:
    """Running totals as counts: by how much a word's total has grown."""
    last: Counter[str] = Counter()
    counts = []
    for second, word, total in sorted(rows, key=lambda row: row[2]):
        assert total > last[word], f"the total {total} of {word} comes twice"
        counts.append((second, word, total - last[word]))
        last[word] = total
    return counts


def add_up(rows: list[Row]) -> Counts:
    """One count for each (window, word)."""
    counts: Counter[tuple[str, str]] = Counter()
    for window, word, count in rows:
        counts[window, word] += count
    return counts


class Model:
    """What was produced, what is visible, and whether the two fit."""

    def __init__(self, kind: Kind, output: Path) -> None:
        self.kind, self.output = kind, output
        self.records: list[list[Record]] = [[] for _ in range(kind.partitions)]  # of each partition, by offset
        self.skipped = [0] * kind.partitions  # where --start latest has started
        self.files: dict[Path, list[Row]] = {}  # that were seen
        self.earlier: set[Path] = set()  # of those, the ones that were there after the last drain
        self.checked: set[Path] = set()
        self.closed: set[str] = set()  # windows, by the watermark
        self.drains = 0  # after that, by runs that were killed; their rows may come with the next run
        self.said: Counter[str] = Counter()  # how many late words, and the like
        self.all_said = True  # not so where a run was killed after it has drained

    def look(self) -> None:
        """Read the visible files."""
        found = {file: file.read_bytes().decode() for file in self.output.rglob("counts-*.tsv")}
        for file, text in found.items():
            assert text.endswith("\n"), f"the last row of {file} is cut off"
            rows = [tuple(row.split("\t")) for row in text.split("\n")[:-1]]
            parsed = [(window, word, int(count)) for window, word, count in rows]
            assert self.files.get(file, parsed) == parsed, f"{file} has changed"
            self.files[file] = parsed
        assert found.keys() == self.files.keys(), "a visible file is gone"

    def counts(self) -> Counts:
        """What all visible rows say."""
        rows = [row for rows in self.files.values() for row in rows]
        return add_up(differences(rows) if self.kind.totals else rows)

    def expected(self, upto: list[int] | None = None) -> Counts:
        """What the records say, of each partition those before an offset."""
        upto = upto or [len(records) for records in self.records]
        return expected_counts(self.read(upto), self.kind.window)

    def read(self, upto: list[int]) -> list[Record]:
        """The records before these offsets, from where the first run has started."""
        parts = zip(self.records, self.skipped, upto, strict=True)
        return [record for records, first, end in parts for record in records[first:end]]

    def comparable(self, counts: Counts) -> Counts:
        """Counts by what is known: a late word adds to a later running total."""
        if not (self.kind.totals and self.kind.time == "late"):
            return dict(counts)
        return dict(add_up([("any", word, count) for (_, word), count in counts.items()]))

    def check_windows(self, drained: bool) -> None:
        """What was closed stays closed."""
        for file in self.files.keys() - self.checked:
            windows = {row[0] for row in self.files[file]}
            assert not windows & self.closed, f"rows of closed windows in {file}: {sorted(windows & self.closed)}"
            if not drained and not self.drains:
                self.closed |= windows
        self.checked = set(self.files)

    def check(self, drained: bool = False) -> None:
        """What must hold at any time."""
        self.look()
        self.check_windows(drained)
        new = [row for file, rows in self.files.items() if file not in self.earlier for row in rows]
        [(twice, times)] = Counter(row[:2] for row in new).most_common(1) or [(None, 0)]
        assert times <= 1 + self.drains, f"{times} rows of {twice}"
        if self.kind.totals and not self.drains:
            seconds: dict[str, list[str]] = {}
            for second, word, _ in sorted(new, key=lambda row: row[2]):
                seconds.setdefault(word, []).append(second)
            assert all(found == sorted(found) for found in seconds.values()), "a total goes back"
        self.compare(self.comparable(self.counts()), self.comparable(self.expected()), exactly=False)

    @staticmethod
    def compare(counts: Counts, expected: Counts, exactly: bool) -> None:
        """No count may be more than what is expected, or, exactly, other than that."""
        wrong = {
            row: (counts.get(row, 0), expected.get(row, 0))
            for row in counts.keys() | expected.keys()
            if counts.get(row, 0) > expected.get(row, 0) or (exactly and counts.get(row, 0) != expected.get(row, 0))
        }
        assert not wrong, f"{len(wrong)} are wrong, (found, expected): {sorted(wrong.items())[:8]}"

    def check_drained(self, upto: list[int]) -> None:
        """What must hold where exactly the records before these offsets were counted, and no window is open."""
        self.check(drained=True)
        self.earlier, self.drains = set(self.files), 0
        counts, expected, read = self.counts(), self.expected(upto), self.read(upto)
        exactly = self.kind.time != "late" or self.kind.totals
        self.compare(self.comparable(counts), self.comparable(expected), exactly)
        if not self.all_said:
            return
        lost = sum(expected.values()) - sum(counts.values())
        values = [record.value for record in read]
        assert self.said[NULLS] == sum(value is None for value in values)
        if self.kind.script.name != SQL.name:
            assert self.said[LATE] == lost, f"{lost} words are in no row, said to be late: {self.said[LATE]}"
            assert self.said[INVALID] == sum(b"\xff" in value for value in values if value is not None)
