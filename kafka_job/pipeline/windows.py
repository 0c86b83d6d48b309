"""Windows of event time, and what is added up in them: the steps of word_count.py for any value and any window."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kafka_job.pipeline.parts import LATE, PART, SHARDS, Add, Part, Rows, given_out, in_shards, joined
from kafka_job.pipeline.sessions import Sessions
from kafka_job.pipeline.steps import keep_watermark, report, report_late
from kafka_job.terminal import utc

from pyflink.common import Time, Types
from pyflink.datastream import DataStream, KeyedProcessFunction, KeyedStream, ProcessWindowFunction
from pyflink.datastream.window import SlidingEventTimeWindows, TimeWindow, TumblingEventTimeWindows, WindowAssigner

ALL = 2**62  # a slice that has all records


@dataclass(frozen=True)
class Windows:
    """What windows there are; made by `tumbling`, `sliding` or `session`."""

    text: str
    assigner: WindowAssigner | None  # None: sessions
    slice: int = ALL  # milliseconds: the records of one slice are in the same windows
    shards: int = SHARDS
    overlap: int = 0  # milliseconds from the end of a record's first window to that of its last one
    gap: int = 0  # milliseconds, of sessions

    @property
    def cut(self) -> tuple[int, int, int]:
        """What parts are made for: with another one they would count in windows that are not theirs."""
        return self.slice, self.shards, self.gap


def tumbling(seconds: int, shards: int = SHARDS) -> Windows:
    """Windows that follow each other. `shards`: 1 brings all keys of a window to one place, as a ranking needs."""
    windows = TumblingEventTimeWindows.of(Time.seconds(seconds))
    return Windows(f"window of {seconds} s", windows, seconds * 1000, shards)


def sliding(seconds: int, slide: int) -> Windows:
    """Windows of which one begins every `slide` seconds. `seconds`: a multiple of it; raises ValueError for another."""
    if seconds % slide:
        raise ValueError(f"sliding windows of {seconds} s every {slide} s: the length is not a multiple of the slide")
    windows = SlidingEventTimeWindows.of(Time.seconds(seconds), Time.seconds(slide))
    text = f"window of {seconds} s, every {slide} s"
    return Windows(text, windows, slide * 1000, overlap=(seconds - slide) * 1000)


def session(gap: int) -> Windows:
    """For each key windows of its own, which end when nothing has come for `gap` seconds."""
    return Windows(f"session with a gap of {gap} s", None, gap=gap * 1000)


def split(lines: bytes) -> list[str]:
    """What is between white space. Bytes that are not UTF-8 become U+FFFD."""
    return lines.decode("utf-8", errors="replace").split()


def count_values(
    batches: DataStream, values_in: Callable[[bytes], Iterable[Any]] = split, shards: int = SHARDS
) -> KeyedStream:
    """How often each value is in a batch of lines, as parts for `aggregate`.

    `batches`: of `batch_lines`. `values_in`: what is counted in some lines; by default words.
    """

    def count(batch: list[bytes]) -> Iterator[Part]:
        counts: Counter[Any] = Counter(chain.from_iterable(map(values_in, batch)))
        return in_shards(counts, counts, shards)

    parts = batches.flat_map(count, output_type=PART).name("count in batch").uid("count-by-shard")
    keyed = parts.key_by(lambda part: part[0], key_type=Types.INT())
    keyed.cut = getattr(batches, "slice", None), shards, 0
    return keyed


def aggregate(
    parts: KeyedStream, windows: Windows, add: Add, make_rows: Rows, *, things: str = "words", as_text: bool = True
) -> DataStream:
    """Add up the values of each key in each window; what comes out when the watermark closes it.

    Args:
        parts: of `count_values` or `read_records`.
        add: makes one value of two, and changes neither.
        make_rows: is given a window, with start and end in milliseconds since the epoch, and the values of some of its
            keys; returns rows.
        things: in one word, what is counted where it is late.
        as_text: rows are texts, and those of a call become one; else each is an object, as a `message`.
    """
    cut = getattr(parts, "cut", windows.cut)  # there is none where a script has made the parts
    if any(one not in (None, other) for one, other in zip(cut, windows.cut, strict=True)):
        raise ValueError(f"The parts were made for other windows than a {windows.text}; see Windows.cut")
    keyed = keep_watermark(parts)
    output_type = Types.STRING() if as_text else Types.PICKLED_BYTE_ARRAY()
    if windows.gap:
        sessions = keyed.process(Sessions(add, windows.gap, make_rows, as_text), output_type=output_type)
        sessions.name(f"count per {windows.text}").uid(f"sessions-in-{windows.shards}-shards")
        report_late(sessions, LATE, lambda number: number, things)
        return sessions
    windowed = keyed.window(windows.assigner).side_output_late_data(LATE)
    uid = f"count-in-{windows.shards}-shards"  # with another number, old state would have keys in the wrong shards
    rows = windowed.reduce(
        lambda left, right: joined(left, right, add), MakeRows(make_rows, as_text), output_type=output_type
    )
    rows.name(f"count per {windows.text}").uid(uid)
    report_late(rows, LATE, lambda part: part[1][0], things)
    if windows.overlap:
        partly = keyed.process(TooLateForSome(windows.overlap), output_type=Types.LONG())
        partly.name("too late for some windows").uid("too-late-for-some")
        late = f"{things.capitalize()} that came after some of their windows had closed, not counted in these"
        report(partly, f"partlyLate{things.capitalize()}", late)
    return rows


class MakeRows(ProcessWindowFunction):
    """What comes out of a window."""

    def __init__(self, make_rows: Rows, as_text: bool) -> None:
        self.make_rows, self.as_text = make_rows, as_text

    def process(self, shard: int, context: ProcessWindowFunction.Context, added: Iterable[Part]) -> Iterator[Any]:
        for _, (_, values), _ in added:  # one, which reduce has made of all
            yield from given_out(self.make_rows(context.window(), values), self.as_text)


class TooLateForSome(KeyedProcessFunction):
    """How many things come when some of their windows have closed, and others are open.

    Flink counts them in the windows that are open, and says nothing of the others.
    """

    def __init__(self, overlap: int) -> None:
        self.overlap = overlap

    def process_element(self, part: Part, context: KeyedProcessFunction.Context) -> Iterator[int]:
        first_end = context.timestamp()  # a part has the last millisecond of its slice; its first window ends there
        if first_end <= context.timer_service().current_watermark() < first_end + self.overlap:
            yield part[1][0]


def count_rows(window: TimeWindow, counts: Mapping[Any, int]) -> Iterable[str]:
    """Rows: start of the window (UTC), what was counted, and its count, with tabs between them."""
    start = utc(window.start)
    return [f"{start}\t{value}\t{count}" for value, count in counts.items()]
