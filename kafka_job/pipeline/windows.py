"""Windows of event time, and what is added up in them: the steps of word_count.py for any value and any window."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from zlib import crc32

from kafka_job.pipeline.steps import keep_watermark, report, report_late
from kafka_job.terminal import utc

from pyflink.common import Time, Types
from pyflink.datastream import (
    DataStream,
    KeyedProcessFunction,
    KeyedStream,
    OutputTag,
    ProcessWindowFunction,
    RuntimeContext,
)
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.datastream.window import (
    SlidingEventTimeWindows,
    TimeWindow,
    TumblingEventTimeWindows,
    WindowAssigner,
)

SHARDS = 128  # groups of keys, see word_count.py; no more workers than this can share the work
ALL = 2**62  # a slice that has all records
# A shard; how many things were added up, and what they have come to, by key; and a time, see EventTime.java.
Part = tuple[int, tuple[int, dict[Any, Any]], int]
PART = Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY(), Types.LONG()])
LATE = OutputTag("late")
Value = TypeVar("Value")
Add = Callable[[Value, Value], Value]
Rows = Callable[[TimeWindow, Mapping[Any, Any]], Iterable[Any]]


@dataclass(frozen=True)
class Windows:
    """What windows there are; made by `tumbling`, `sliding` or `session`."""

    text: str
    assigner: WindowAssigner | None  # None: sessions
    slice: int = ALL  # milliseconds: the records of one slice are in the same windows
    shards: int = SHARDS
    overlap: int = 0  # milliseconds from the end of a record's first window to that of its last one
    gap: int = 0  # milliseconds, of sessions


def tumbling(seconds: int, shards: int = SHARDS) -> Windows:
    """Windows that follow each other. `shards`: 1 brings all keys of a window to one place, as a ranking needs."""
    windows = TumblingEventTimeWindows.of(Time.seconds(seconds))
    return Windows(f"window of {seconds} s", windows, seconds * 1000, shards)


def sliding(seconds: int, slide: int) -> Windows:
    """Windows of which one begins every `slide` seconds. `seconds`: a multiple of it."""
    windows = SlidingEventTimeWindows.of(Time.seconds(seconds), Time.seconds(slide))
    text = f"window of {seconds} s, every {slide} s"
    return Windows(text, windows, slide * 1000, overlap=(seconds - slide) * 1000)


def session(gap: int) -> Windows:
    """For each key windows of its own, which end when nothing has come for `gap` seconds."""
    return Windows(f"session with a gap of {gap} s", None, gap=gap * 1000)


def shard_of(key: Any, shards: int) -> int:
    """The shard that a key always belongs to; not by hash(key), which differs from process to process."""
    return crc32((key if isinstance(key, str) else repr(key)).encode(errors="surrogatepass")) % shards


def in_shards(values: Mapping[Any, Any], numbers: Mapping[Any, int], shards: int, time: int = 0) -> Iterator[Part]:
    """Values by key as parts. `numbers`: how many things each stands for."""
    parts: dict[int, tuple[list[int], dict[Any, Any]]] = {}
    for key, value in values.items():
        number, part = parts.setdefault(shard_of(key, shards), ([0], {}))
        number[0] += numbers[key]
        part[key] = value
    yield from ((shard, (number[0], part), time) for shard, (number, part) in parts.items())


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
        counts: Counter[Any] = Counter()
        for lines in batch:
            counts.update(values_in(lines))
        return in_shards(counts, counts, shards)

    parts = batches.flat_map(count, output_type=PART).name("count in batch").uid("count-by-shard")
    return parts.key_by(lambda part: part[0], key_type=Types.INT())


def aggregate(
    parts: KeyedStream,
    windows: Windows,
    add: Add,
    make_rows: Rows,
    *,
    things: str = "words",
    as_text: bool = True,
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
        lambda left, right: joined(left, right, add),
        MakeRows(make_rows, as_text),
        output_type=output_type,
    )
    rows.name(f"count per {windows.text}").uid(uid)
    report_late(rows, LATE, lambda part: part[1][0], things)
    if windows.overlap:
        partly = keyed.process(TooLateForSome(windows.overlap), output_type=Types.LONG())
        partly.name("too late for some windows").uid("too-late-for-some")
        late = f"{things.capitalize()} that came after some of their windows had closed, not counted in these"
        report(partly, f"partlyLate{things.capitalize()}", late)
    return rows


def joined(left: Part, right: Part, add: Add) -> Part:
    """Two parts of a shard, as one."""
    shard, (number, values), time = left
    both = values.copy()  # a reduce function must not change what it is given
    for key, value in right[1][1].items():
        both[key] = add(both[key], value) if key in both else value
    return shard, (number + right[1][0], both), time


def given_out(rows: Iterable[Any], as_text: bool) -> Iterator[Any]:
    """Rows as they leave a step: as one text, or one by one."""
    if not as_text:
        yield from rows
    elif text := "\n".join(rows):
        yield text


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


Interval = tuple[int, int, int, Any]  # first and last time, in milliseconds; how many things, and their value


class Joined:
    """Joins the intervals of a key: those that are no more than a gap apart become one."""

    def __init__(self, add: Add, gap: int) -> None:
        self.add, self.gap = add, gap

    def __call__(self, some: list[Interval], others: list[Interval]) -> list[Interval]:
        """`some`: no two of them are to be joined."""
        for first, last, number, value in others:
            apart = []
            for one in some:
                if one[0] <= last + self.gap and first <= one[1] + self.gap:
                    first, last = min(first, one[0]), max(last, one[1])
                    number, value = one[2] + number, self.add(one[3], value)
                else:
                    apart.append(one)
            some = [*apart, (first, last, number, value)]
        return some


class Sessions(KeyedProcessFunction):
    """Session windows. Flink's own cannot be in a checkpoint where Python runs inside Flink's JVM (ClassCastException).

    Rows come in the second of event time after a session has ended.
    """

    def __init__(self, add: Add, gap: int, make_rows: Rows, as_text: bool) -> None:
        self.join, self.gap, self.make_rows, self.as_text = Joined(add, gap), gap, make_rows, as_text

    def open(self, runtime_context: RuntimeContext) -> None:
        # key -> its intervals
        self.sessions = runtime_context.get_state(ValueStateDescriptor("sessions", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, part: Part, context: KeyedProcessFunction.Context) -> Iterator[Any]:
        timers, sessions = context.timer_service(), self.sessions.value() or {}
        closed = timers.current_watermark() - self.gap + 1  # up to then the last times are of sessions that have ended
        for key, intervals in part[1][1].items():
            before = sessions.get(key, [])
            ended = [one for one in before if one[1] <= closed]
            joined = self.join([one for one in before if one[1] > closed], intervals)
            late = sum(one[2] for one in joined if one[1] <= closed)
            if late:
                yield LATE, late
            sessions[key] = ended + [one for one in joined if one[1] > closed]
            for _, last, _, _ in intervals:
                timers.register_event_time_timer((last + self.gap) // 1000 * 1000 + 1000)
        self.sessions.update({key: intervals for key, intervals in sessions.items() if intervals})

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        closed, sessions, rows = timestamp - self.gap + 1, self.sessions.value() or {}, []
        for key, intervals in list(sessions.items()):
            for first, last, _, value in intervals:
                if last <= closed:
                    rows += self.make_rows(TimeWindow(first, last + self.gap), {key: value})
            sessions[key] = [one for one in intervals if one[1] > closed]
            if not sessions[key]:
                del sessions[key]
        self.sessions.update(sessions)
        yield from given_out(rows, self.as_text)


def count_rows(window: TimeWindow, counts: Mapping[Any, int]) -> Iterable[str]:
    """Rows: start of the window (UTC), what was counted, and its count, with tabs between them."""
    start = utc(window.start)
    return [f"{start}\t{value}\t{count}" for value, count in counts.items()]
