"""Draw the pictures of the tutorial: python docs/pictures/draw.py

It writes this folder's pictures anew, byte for byte as they are; a test compares them. Text is drawn as outlines, so it
looks the same wherever a picture is shown. Coordinates are pixels from the top left corner.
"""

import argparse
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

WIDTH = 900  # of all pictures: about what GitHub shows
PIXEL = 1 / 96  # inches
POINT = 0.75  # of a pixel's width; what matplotlib measures text and lines in
SETTINGS = {
    "svg.hashsalt": "pyflink-word-count",  # else the ids in a file differ from run to run
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],  # matplotlib brings it along
    "text.parse_math": False,
}

# Okabe and Ito's colours, which colour-blind people can tell apart. Java, Python, Kafka and files have one each, in all
# pictures.
INK, QUIET, GREY = "#222222", "#5F5F5F", "#9A9A9A"
JAVA = BLUE = "#0072B2"
PYTHON = "#E69F00"
KAFKA = "#CC79A7"
FILES = GREEN = "#009E73"
ALARM = RED = "#D55E00"

Point = tuple[float, float]
Place = tuple[float, float, float, float]  # left, top, width, height


def tint(color: str, strength: float = 0.16) -> tuple[float, ...]:
    """A colour mixed with white."""
    return tuple(1 - strength * (1 - part) for part in matplotlib.colors.to_rgb(color))


class Picture:
    """A white sheet, WIDTH pixels wide, and what is drawn on it."""

    def __init__(self, height: int, title: str, subtitle: str) -> None:
        self.figure = Figure(figsize=(WIDTH * PIXEL, height * PIXEL), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        self.text(24, 28, title, 17, weight="bold")
        self.text(24, 54, subtitle, color=QUIET)

    def text(self, x: float, y: float, text: str, size: float = 13, code: bool = False, **style: object) -> None:
        """Text to the right of a point, unless `ha` says otherwise; `code` is in a font of fixed width."""
        family = {"family": "DejaVu Sans Mono"} if code else {}
        look = {"va": "center", "color": INK, "linespacing": 1.35, "size": size * POINT, "zorder": 6} | family | style
        self.axes.text(x, y, text, **look)

    def note(self, x: float, y: float, columns: int, text: str, size: float = 12.5) -> None:
        """Some sentences in lines of so many letters; y is their top."""
        self.text(x, y, textwrap.fill(text, columns), size, va="top")

    def rectangle(self, place: Place, fill: object, edge: object = "none", **style: object) -> None:
        x, y, width, height = place
        self.axes.add_patch(
            Rectangle((x, y), width, height, **{"fc": fill, "ec": edge, "lw": 0.8, "zorder": 1} | style)
        )

    def box(self, place: Place, color: str) -> None:
        """An empty box with round corners."""
        x, y, width, height = place
        look = {"fc": tint(color), "ec": color, "lw": 1.6 * POINT, "zorder": 1}
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=7", **look))

    def step(self, place: Place, color: str, name: str, more: str = "") -> None:
        """A box with a name in its middle, and perhaps a quieter line below the name."""
        x, y, width, height = place
        self.box(place, color)
        middle = y + height / 2
        self.text(x + width / 2, middle - 10 if more else middle, name, ha="center", weight="bold")
        if more:
            self.text(x + width / 2, middle + 11, more, 12, ha="center", color=QUIET)

    def chip(self, place: Place, color: str, text: str) -> None:
        """A small box for a piece of data."""
        x, y, width, height = place
        self.box(place, color)
        self.text(x + width / 2, y + height / 2, text, 12, code=True, ha="center")

    def line(self, *points: Point, color: str = INK, width: float = 1.5, **style: object) -> None:
        x, y = zip(*points, strict=True)
        self.axes.plot(x, y, color=color, lw=width * POINT, solid_capstyle="butt", **style)

    def arrow(self, start: Point, end: Point, color: str = INK, width: float = 1.8, **style: object) -> None:
        look = {"mutation_scale": 1, "shrinkA": 0, "shrinkB": 0, "joinstyle": "miter", "zorder": 2, "color": color}
        look |= {"arrowstyle": "-|>,head_length=4.5,head_width=2.6", "lw": width * POINT}
        self.axes.add_patch(FancyArrowPatch(start, end, **look | style))

    def disc(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        self.axes.add_patch(Circle((x, y), radius, fc=fill, ec=edge, lw=1, zorder=5))

    def save(self, file: Path) -> None:
        FigureCanvasSVG(self.figure).print_svg(file, metadata={"Date": None, "Creator": None})


# In the order in which they arrive: seconds after 14:00:00, and a line; the tutorial's table has the same records.
SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "watermark.txt"
RECORDS = [(int(line[6:8]), line[9:]) for line in SAMPLE.read_text("utf-8").splitlines()]
WINDOW = 5  # seconds


def windows() -> Picture:
    """Records on the axis of event time, the watermark that they move, and the windows that it closes."""
    picture = Picture(
        590,
        "When does a window close?",
        "Six records in the order in which they arrive, each some time after the one before; windows of 5 s",
    )
    left, second, top, row = 278, 39, 168, 54  # where 14:00:00 is; pixels for a second; first record; between records
    bottom = top + len(RECORDS) * row - 20

    def at(time: float) -> float:
        return left + time * second

    def window(start: int) -> None:
        """A window as a column, grey from where a record closes it, and its rows."""
        end, x, width = start + WINDOW, at(start) + 2, WINDOW * second - 4
        closes = next((index for index, (time, _) in enumerate(RECORDS) if time >= end), len(RECORDS))
        closed = min(top + closes * row, bottom)
        picture.rectangle((x, top - 30, width, closed - top + 30), tint(BLUE))
        picture.rectangle((x, closed, width, bottom - closed), tint(GREY, 0.3))
        for time in range(start + 1, end):
            picture.line((at(time), top - 30), (at(time), bottom), color="white", width=0.7)
        picture.text(x + width / 2, top - 66, f"window 14:00:{start:02}", 12.5, ha="center", weight="bold")
        picture.text(at(end), top - 42, f"14:00:{end:02}", 12, ha="center", color=QUIET)
        if closes == len(RECORDS):
            picture.text(x + 12, bottom + 58, "still open: no rows yet", 12.5, color=QUIET)
            return
        picture.line((at(end), closed), marker="o", markersize=7, mfc="white", mec=INK, mew=1.4, zorder=7)
        picture.text(x + 10, bottom - 14, "closed", 12.5, color=QUIET)
        picture.arrow((x + width / 2, bottom + 2), (x + width / 2, bottom + 28), FILES, 2)
        picture.box((x, bottom + 30, width, 56), FILES)
        counts = Counter(word for time, line in RECORDS[:closes] if start <= time < end for word in line.split())
        for index, (word, count) in enumerate(counts.items()):
            column, line = divmod(index, 2)
            picture.text(x + 14 + 85 * column, bottom + 48 + 20 * line, f"{word} {count}", 12.5, code=True)

    picture.text(24, top - 66, "arrives", 12.5, weight="bold")
    picture.text(92, top - 66, "event time, line", 12.5, weight="bold")
    picture.text(24, bottom + 58, "rows that are written\nwhen a window closes", 12.5, weight="bold")
    picture.text(at(0), top - 42, "14:00:00", 12, ha="center", color=QUIET)
    for start in (0, 5, 10):
        window(start)

    latest, watermark = 0, []
    for index, (time, line) in enumerate(RECORDS):
        y = top + index * row
        picture.text(48, y, f"{index + 1}", ha="center", weight="bold")
        picture.text(92, y, f"14:00:{time:02}")
        picture.text(158, y, f'"{line}"', 12, code=True)
        if index:
            picture.line((24, y - row / 2), (258, y - row / 2), color=GREY, width=0.6)
        if time // WINDOW < latest // WINDOW:
            corners = [(at(time) - 15, y), (at(time), y - 15), (at(time) + 15, y), (at(time), y + 15)]
            picture.axes.add_patch(Polygon(corners, fc=ALARM, ec="white", zorder=5))
        else:
            picture.disc(at(time), y, 11.5, BLUE, "white")
        picture.text(at(time), y, f"{index + 1}", ha="center", color="white", weight="bold")
        latest = max(latest, time)
        watermark += [(at(latest), y), (at(latest), min(y + row, bottom))]
    picture.line(*watermark, width=3, zorder=3)

    picture.text(at(3) + 16, top + 1.5 * row, "the watermark: the latest time\nseen so far, less 1 ms", weight="bold")
    picture.text(at(2) - 18, top + 2 * row, "out of\norder,\ncounted", 12, ha="right")
    picture.text(at(6) + 18, top + 3 * row, "moves the watermark to 14:00:05.999,\nwhich closes window 14:00:00", 12.5)
    picture.text(at(4) - 20, top + 4 * row, "late:\nnot counted", 12, ha="right", color=ALARM, weight="bold")
    picture.text(at(11) + 18, top + 5 * row, "to 14:00:10.999:\ncloses 14:00:05", 12.5)
    return picture


def shuffle() -> Picture:
    """Pairs of two workers on their way to the worker that has their word."""
    picture = Picture(436, "key_by is a shuffle", "All pairs of a word go to the same worker, wherever they were read")
    styles = {"hello": (BLUE, "-"), "world": (RED, (0, (6, 3))), "flink": (GREEN, (0, (1.5, 2.5)))}
    arrivals = {"hello": iter((168, 176, 184)), "world": iter((300, 308)), "flink": iter((348,))}

    picture.text(24, 92, "read and split: any worker, any word", weight="bold")
    picture.text(876, 92, "count: one worker for each word", ha="right", weight="bold")
    for number, lines in enumerate([["hello world", "hello"], ["hello flink", "world"]]):
        y = 112 + number * 150
        picture.box((24, y, 316, 128), GREY)
        picture.text(40, y + 24, f"worker {number + 1}", weight="bold")
        picture.text(40, y + 54, f"partition {number}", 12.5, color=QUIET)
        for index, line in enumerate(lines):
            picture.text(40, y + 78 + 20 * index, f'"{line}"', 12, code=True)
        for index, word in enumerate(" ".join(lines).split()):
            color, style = styles[word]
            middle = y + 26 + 38 * index
            picture.chip((208, middle - 14, 118, 28), color, f'("{word}", 1)')
            picture.arrow((328, middle), (635, next(arrivals[word])), color, 2, linestyle=style)
    for number, counts in enumerate([{"hello": 3}, {"world": 2, "flink": 1}]):
        y = 112 + number * 150
        picture.box((622, y, 254, 128), GREY)
        picture.text(860, y + 24, f"worker {number + 1}", ha="right", weight="bold")
        for index, (word, count) in enumerate(counts.items()):
            top = y + (50 if len(counts) == 1 else 28 + 44 * index)
            picture.chip((638, top, 118, 28), styles[word][0], f'("{word}", {count})')
    picture.text(24, 414, "A hash of the word says which worker that is.", 12.5, color=QUIET)
    return picture


def who_runs_where() -> Picture:
    """Which part is in which process, in a local run and on a cluster."""
    picture = Picture(652, "Who runs where?", "Each box with round corners is a process of its own")

    def process(place: Place, color: str, name: str, columns: int = 0, more: str = "") -> None:
        picture.box(place, color)
        picture.text(place[0] + 14, place[1] + 20, name, weight="bold")
        picture.note(place[0] + 14, place[1] + 38, columns or 99, more)

    def part(place: Place, name: str, columns: int, more: str) -> None:
        picture.rectangle(place, "white", JAVA)
        picture.text(place[0] + 12, place[1] + 17, name, 12.5, weight="bold")
        picture.note(place[0] + 12, place[1] + 31, columns, more, 12)

    def slot(x: float, y: float) -> None:
        part((x, y, 236, 112), "slot", 40, "source, windows, sink")
        picture.rectangle((x + 12, y + 56, 212, 46), tint(PYTHON, 0.3), PYTHON)
        picture.note(x + 22, y + 63, 27, "Python functions, in a thread of the Java process", 12)

    def outside(y: float, files: str) -> None:
        process((752, y, 124, 78), KAFKA, "Kafka broker", 20, "topic input")
        picture.rectangle((752, y + 98, 124, 100), tint(FILES), FILES, lw=1.2)
        picture.text(766, y + 118, "files", weight="bold")
        picture.note(766, y + 136, 14, files)
        picture.arrow((752, y + 40), (664, y + 98), KAFKA, 2)
        picture.text(724, y + 82, "lines", 12, ha="center")
        picture.arrow((664, y + 148), (752, y + 148), FILES, 2)
        picture.text(715, y + 163, "rows", 12, ha="center")

    def job(y: float, right: float) -> None:
        picture.arrow((210, y), (right, y))
        picture.text(239, y - 14, "job", 12, ha="center")

    y = 112
    picture.text(24, y - 20, "A local run: python word_count.py", 14.5, weight="bold")
    process(
        (24, y, 186, 122),
        PYTHON,
        "Python: the script",
        20,
        "checks the set-up, draws the pipeline, waits for its end, or for Ctrl-C",
    )
    job(y + 80, 282)
    process((268, y, 410, 198), JAVA, "Java: all of Flink")
    part((282, y + 38, 120, 146), "JobManager", 16, "starts the parts of the job, and its checkpoints; web UI")
    part((414, y + 38, 250, 146), "TaskManager", 30, "")
    slot(421, y + 66)
    outside(y, "out/, and checkpoints")

    y += 228
    picture.text(24, y, "In process mode, in place of that thread:", 12.5)
    picture.box((424, y - 17, 236, 34), PYTHON)
    picture.text(438, y, "Python: worker", weight="bold")

    y += 72
    picture.text(24, y - 20, "A cluster: flink run --python word_count.py", 14.5, weight="bold")
    process((24, y, 186, 84), PYTHON, "Python: the script", 24, "draws the pipeline")
    process((24, y + 104, 186, 104), JAVA, "Java: flink run", 20, "hands the job over; with --detached both end then")
    picture.arrow((117, y + 84), (117, y + 104))
    job(y + 156, 268)
    process(
        (268, y, 134, 208), JAVA, "JobManager", 16, "Java; web UI; starts the parts of the job, and its checkpoints"
    )
    for offset in (12, 6):
        picture.box((414 + offset, y + offset, 250, 196), JAVA)
    process((414, y, 250, 196), JAVA, "TaskManager", 40, "Java; one or more of them")
    slot(421, y + 70)
    outside(y, "where all of them see it")
    return picture


def literal_and_batches() -> Picture:
    """How many records cross from Java to Python and back in the two pipelines, for the same words."""
    picture = Picture(
        652,
        "Word by word, and in batches",
        "What crosses between Java and Python for one window: 1,000 lines, 10,000 words, 1,000 different words",
    )

    def lanes(y: float, script: str, steps: list[tuple[str, str]], crossings: list[tuple[int, str, str]]) -> None:
        """Five steps that take turns in Java and Python, and what crosses between each and the next."""
        counts = [count for count, _, _ in crossings]
        picture.text(24, y, script, 14.5, weight="bold")
        picture.text(876, y, f"{' + '.join(f'{one:,}' for one in counts)} = {sum(counts):,}", ha="right")
        for lane, name, color in ((y + 20, "Java", JAVA), (y + 150, "Python", PYTHON)):
            picture.rectangle((24, lane, 852, 82), tint(color, 0.09))
            picture.text(36, lane + 41, name, weight="bold")
        places = [(104, 158), (224, 204), (394, 176), (530, 188), (678, 158)]  # left edge, width
        for index, ((x, width), (name, more)) in enumerate(zip(places, steps, strict=True)):
            top, color = ((y + 33, JAVA), (y + 163, PYTHON))[index % 2]
            picture.step((x, top, width, 56), color, name, more)
        for index, (x, (count, what, example)) in enumerate(zip((243, 411, 551, 698), crossings, strict=True)):
            ends = [(x, y + 89), (x, y + 163)]
            picture.arrow(*(ends if index % 2 == 0 else reversed(ends)), width=2)
            picture.text(x + 9, y + 117, f"{count:,} {what}", 12.5, weight="bold")
            picture.text(x + 9, y + 136, example, 11.5, code=True)

    pair, shard = '("hello", 1)', '(6, {"hello": 3})'
    lanes(
        96,
        "examples/literal.py",
        [("KafkaSource", ""), ("split, map", ""), ("key_by", "shuffle"), ("window, reduce", ""), ("FileSink", "")],
        [
            (1_000, "lines", '"hello world"'),
            (10_000, "pairs", pair),
            (10_000, "pairs", pair),
            (1_000, "rows", "hello 3"),
        ],
    )
    lanes(
        366,
        "word_count.py",
        [
            ("KafkaSource", "batch_lines"),
            ("split", "count_by_shard"),
            ("key_by", "shuffle"),
            ("window, reduce", "add"),
            ("FileSink", ""),
        ],
        [
            (1, "batch", r'"hello world\n…"'),
            (128, "shards", shard),
            (128, "shards", shard),
            (128, "texts", r"hello 3\n…"),
        ],
    )
    footnote = "On top come timers and state, for which the window asks Java. A batch also goes on at each checkpoint."
    picture.text(24, 626, footnote, 12.5, color=QUIET)
    return picture


def barriers() -> Picture:
    """Four moments of a checkpoint."""
    picture = Picture(
        674,
        "A checkpoint, in four moments",
        "A barrier flows with the records: dark records were sent before it, white ones after it",
    )
    moments = [
        "The JobManager asks for a checkpoint. The source saves its offset, and sends a barrier after its last record.",
        "All that came before the barrier is counted. The count saves its open windows, and passes the barrier on.",
        "The sink closes its file, which is still hidden, and saves its name.",
        "All have saved: the checkpoint is complete. Only now is the file made visible, and the offset committed.",
    ]
    steps = [(306, "source", "offset 42"), (490, "count", "windows"), (674, "sink", "file name")]
    for moment, text in enumerate(moments):
        y = 84 + 144 * moment
        middle = y + 44
        picture.rectangle((24, y, 852, 132), "#F6F6F6", zorder=0)
        picture.text(40, y + 28, str(moment + 1), 17, weight="bold")
        picture.note(64, y + 20, 32, text)
        for index, (x, name, state) in enumerate(steps):
            picture.step((x, middle - 25, 96, 50), GREY, name)
            if index <= moment:
                picture.line((x + 48, middle + 25), (x + 48, middle + 44), color=FILES)
                picture.chip((x, middle + 44, 96, 28), FILES, state)
        for gap, x in enumerate((402, 586)):
            picture.arrow((x, middle), (x + 88, middle), GREY, 1.2)
            for place in range(4):
                here = x + 12 + 19 * place
                if gap == moment and place == 1:
                    picture.rectangle((here - 3.5, middle - 17, 7, 34), ALARM, zorder=4)
                else:
                    before = gap > moment or (gap == moment and place > 1)
                    picture.disc(here, middle, 5, INK if before else "white", INK)
        picture.arrow((770, middle), (796, middle), GREY, 1.2)
        fill, edge, line, state = ("white", GREY, (0, (3, 2)), "hidden")
        if moment == 3:
            fill, edge, line, state = (tint(FILES), FILES, "-", "visible")
            picture.text(408, middle + 58, "committed", 12, weight="bold")
        picture.rectangle((797, middle - 25, 66, 50), fill, edge, lw=1.2, linestyle=line)
        picture.text(830, middle - 9, "file", 12.5, ha="center", weight="bold")
        picture.text(830, middle + 10, state, 12, ha="center", color=QUIET)
    return picture


def pipeline() -> Picture:
    """The steps of word_count.py, and what goes from each to the next."""
    steps = [
        (JAVA, "KafkaSource", "lines of topic input; event time: the record's timestamp", 'b"hello hello"   b"world"'),
        (JAVA, "batch_lines", "the lines of a window as one text, up to 8 MB", r'b"hello hello\nworld\n"'),
        (PYTHON, "map: split", "the words of the text", '["hello", "hello", "world"]'),
        (
            PYTHON,
            "flat_map: count_by_shard",
            "each word once, with its count, in the shard that it always belongs to",
            '(6, {"hello": 2})   (67, {"world": 1})',
        ),
        (
            JAVA,
            "key_by: the shard",
            "the same shard, and so the same word, to the same worker",
            '(6, {"hello": 2})   (6, {"hello": 1})',
        ),
        (PYTHON, "window, reduce: add", "adds up 5 s of event time", '(6, {"hello": 3})'),
        (PYTHON, "MakeRows", "adds the window, once the watermark has closed it", "2026-11-22T14:00:05Z   hello   3"),
        (JAVA, "FileSink, or print", "files become visible at the next checkpoint", ""),
    ]
    picture = Picture(
        100 + 72 * len(steps),
        "The steps of word_count.py",
        "Below each step: an example of what it hands to the next one",
    )
    for index, (color, name, what, example) in enumerate(steps):
        y = 84 + 72 * index
        picture.step((24, y, 250, 40), color, name)
        picture.text(294, y + 20, what)
        if example:
            picture.arrow((149, y + 40), (149, y + 72))
            picture.text(166, y + 55, example, 12, code=True, color=QUIET)
    for x, color, name in ((612, JAVA, "runs in Java"), (752, PYTHON, "runs in Python")):
        picture.rectangle((x, 21, 14, 14), tint(color), color, lw=1.2)
        picture.text(x + 22, 28, name, 12.5)
    return picture


PICTURES = {
    picture.__name__: picture for picture in (windows, shuffle, who_runs_where, literal_and_batches, barriers, pipeline)
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of the tutorial.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where to write them")
    folder = parser.parse_args().folder
    with matplotlib.rc_context(SETTINGS):
        for name, picture in PICTURES.items():
            picture().save(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
