"""`make plot`: the counts in out/ as a picture."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import plot
from programs import run_here
from support import ROOT

FIVE = datetime(2026, 11, 22, 14, 0, 5)
TEN = datetime(2026, 11, 22, 14, 0, 10)


def write(folder: Path, name: str, *rows: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows), "utf-8")


def draw(counts: plot.Counts) -> Figure:
    """The picture, drawn: some things go wrong only then."""
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = plot.draw(counts)
        FigureCanvasAgg(figure).draw()
    return figure


def names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_rows_of_all_files_add_up(tmp_path: Path) -> None:
    write(tmp_path, "2026-11-22/counts-1.tsv", "2026-11-22T14:00:05Z\thello\t3", "2026-11-22T14:00:10Z\thello\t1")
    write(tmp_path, "2026-11-23/counts-2.tsv", "2026-11-22T14:00:05Z\thello\t2", "2026-11-22T14:00:05Z\twörld\t7")
    write(tmp_path, "2026-11-23/.counts-3.tsv.inprogress.1", "2026-11-22T14:00:05Z\thidden\t1")
    write(tmp_path / "totals", "2026-11-22/counts-4.tsv", "2026-11-22T14:00:05Z\tother\t1")
    assert plot.read_counts(tmp_path) == {FIVE: {"hello": 5, "wörld": 7}, TEN: {"hello": 1}}


def test_lines_are_the_most_frequent_words() -> None:
    counts = {FIVE: plot.Counter({f"word{number}": number for number in range(1, 12)}), TEN: plot.Counter(word11=4)}
    figure = draw(counts)
    lines = {name: [*line.get_ydata()] for name, line in zip(names(figure), figure.axes[0].lines, strict=True)}
    assert lines == {"word11  15": [11, 4]} | {f"word{number}  {number}": [number, 0] for number in range(10, 3, -1)}
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == plot.WORDS


def test_a_line_breaks_where_windows_are_missing() -> None:
    later = datetime(2026, 11, 23, 9, 0, 0)
    counts = {start: plot.Counter(hello=1) for start in (FIVE, TEN, later)}
    assert plot.newest(counts) == [FIVE, TEN, None, later]
    figure = draw(counts)
    shown = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert shown == ["11-22 14:00:05", "11-22 14:00:10", "11-23 09:00:00"]


def test_only_the_newest_windows() -> None:
    counts = {datetime(2026, 11, 22, 14, minute): plot.Counter(hello=minute) for minute in range(60)}
    counts |= {datetime(2026, 11, 22, 15, minute): plot.Counter(hello=60 + minute) for minute in range(10)}
    (line,) = draw(counts).axes[0].lines
    assert [*line.get_ydata()] == [*range(10, 70)]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("$x$", "$x$"),
        ("$", "$"),
        ("\\frac{1}{", "\\frac{1}{"),
        ("_hidden", "_hidden"),
        ("a_b^c", "a_b^c"),
        ("x" * 24, "x" * 24),
        ("x" * 1_000_000, "x" * 23 + "…"),
        ("nul\0", "nul\N{REPLACEMENT CHARACTER}"),
        ("水", "水"),
        ("%s{}", "%s{}"),
    ],
    ids=range(10),
)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_odd_words_are_drawn_as_they_are(word: str, shown: str) -> None:
    figure = draw({FIVE: plot.Counter({word: 1})})
    assert names(figure) == [f"{shown}  1"]
    width = figure.axes[0].get_position().width
    assert width > 0.5, "the legend has taken the room of the lines"


def test_a_picture_is_written(tmp_path: Path) -> None:
    write(tmp_path, "2026-11-22/counts-1.tsv", "2026-11-22T14:00:05Z\t$\\frac{$\t3", "2026-11-22T14:00:05Z\t水\t3")
    command = [sys.executable, ROOT / "tools" / "plot.py", "--folder", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{tmp_path}/counts.png: the most frequent words, window by window\n"
    with Image.open(tmp_path / "counts.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1080
        assert len(picture.getcolors(100_000)) > 3
    other = tmp_path / "other.svg"
    assert run_here(plot.main, "--folder", tmp_path, "--picture", other).code == 0
    assert "<svg" in other.read_text()


def test_what_is_missing_or_wrong_is_said_in_one_sentence(tmp_path: Path) -> None:
    def said(*arguments: str | Path) -> str:
        ended = run_here(plot.main, "--folder", tmp_path, *arguments)
        assert ended.code == 1
        return ended.stderr

    assert said() == f"There are no rows in {tmp_path}/ yet. To write some, run: make demo\n"
    write(tmp_path, "2026-11-22/counts-1.tsv", "2026-11-22T14:00:05Z\thello\t3")
    assert said("--picture", tmp_path / "no" / "folder.png").startswith(f"Cannot write {tmp_path}/no/folder.png: ")
    assert said("--picture", tmp_path / "a.docx").startswith(f"Cannot write {tmp_path}/a.docx: ")
    write(tmp_path, "2026-11-22/counts-2.tsv", '{"word": "hello"}')
    assert said().startswith(f"Not every line of {tmp_path}/2026-11-22/counts-2.tsv is a window, a word and a count: ")
