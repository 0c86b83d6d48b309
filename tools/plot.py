"""The counts in out/ over time, as a picture: make plot

    python tools/plot.py                                            # out/counts.png
    python tools/plot.py --folder /tmp/other --picture other.png

It draws the most frequent words of the newest windows. A line breaks where windows are missing. A letter that
matplotlib's font does not have is drawn as a box.
"""

import argparse
import itertools
import sys
import warnings
from collections import Counter
from datetime import datetime
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from demo import OUTPUT, ROOT, read_rows

WORDS = 8  # lines in the picture
WINDOWS = 60
LETTERS = 24  # of a word
LABELS = 8  # times on the axis
# Okabe and Ito's colours, which colour-blind people can tell apart, but for their yellow: it is too light for a line.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#808080"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES = ["-", "--", "-.", ":"]

Counts = dict[datetime, Counter[str]]  # window start -> word -> count


def read_counts(folder: Path) -> Counts:
    """The counts in a job's files; rows of a window and word add up. Exits where there are none, or of another form."""
    counts: Counts = {}
    for file in sorted(folder.glob("*/counts-*.tsv")):  # not those of other jobs, in folders of their own below
        try:
            for start, word, count in read_rows([file]):
                counts.setdefault(datetime.strptime(start, "%Y-%m-%dT%H:%M:%SZ"), Counter())[word] += count
        except ValueError:
            sys.exit(f"Not every line of {file} is a window, a word and a count: name another folder with --folder")
    if not counts:
        sys.exit(f"There are no rows in {folder}/ yet. To write some, run: make demo")
    return counts


def newest(counts: Counts) -> list[datetime | None]:
    """The starts of the newest windows in order, with None where windows are missing between two of them."""
    starts = sorted(counts)
    length = min((later - earlier for earlier, later in itertools.pairwise(starts)), default=None)
    axis: list[datetime | None] = []
    for start in starts[-WINDOWS:]:
        if axis and start - axis[-1] > length:
            axis.append(None)
        axis.append(start)
    return axis


def label(word: str) -> str:
    """A word as it can be drawn: of some letters at most, without characters that no font has."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in word)
    return printable if len(printable) <= LETTERS else f"{printable[: LETTERS - 1]}…"


def draw(counts: Counts) -> Figure:
    """The most frequent words as lines over the newest windows."""
    axis = newest(counts)
    totals = sum((counts[start] for start in axis if start), Counter())
    words = [word for word, _ in totals.most_common(WORDS)]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    lines = []
    for number, word in enumerate(words):
        heights = [counts[start][word] if start else float("nan") for start in axis]
        look = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": DASHES[number % len(DASHES)]}
        lines += axes.plot(heights, **look, markersize=5, linewidth=1.6, clip_on=False)
    names = [f"{label(word)}  {totals[word]:,}" for word in words]
    figure.legend(lines, names, loc="outside right upper", frameon=False, title="word, total", handlelength=4)

    several_days = len({start.date() for start in axis if start}) > 1
    form = "%m-%d %H:%M:%S" if several_days else "%H:%M:%S"
    windows = [number for number, start in enumerate(axis) if start]
    axes.xaxis.set_major_locator(FixedLocator(windows[:: -(-len(windows) // LABELS)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: axis[round(number)].strftime(form)))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("start of the window, UTC" if several_days else f"start of the window, UTC, {axis[0]:%Y-%m-%d}")
    axes.set_ylabel("count in the window")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the most frequent words over time.")
    parser.add_argument("--folder", type=Path, default=OUTPUT, help="what the job's --output was (default: out/)")
    parser.add_argument("--picture", type=Path, help="file to write, PNG or SVG (default: counts.png in that folder)")
    options = parser.parse_args()
    picture = options.picture or options.folder / "counts.png"
    counts = read_counts(options.folder)
    # A dollar sign in a word is a dollar sign.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        try:
            draw(counts).savefig(picture, dpi=120)
        except (OSError, ValueError) as error:
            sys.exit(f"Cannot write {picture}: {error}")
    shown = picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture
    print(f"{shown}: the most frequent words, window by window")


if __name__ == "__main__":
    main()
