"""Session windows: for each key windows of its own, which end when nothing has come for some time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from kafka_job.pipeline.parts import LATE, Add, Part, Rows, given_out

from pyflink.common import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimerService
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.datastream.window import TimeWindow

Interval = tuple[int, int, int, Any]  # first and last time, in milliseconds; how many things, and their value
FIRST, LAST = map(itemgetter, (0, 1))


class Joined:
    """Joins the intervals of a key: those that are no more than a gap apart become one."""

    def __init__(self, add: Add, gap: int) -> None:
        self.add, self.gap = add, gap

    def __call__(self, some: list[Interval], others: list[Interval]) -> list[Interval]:
        """`some`, which is changed: in their order, no two of them to be joined."""
        for first, last, number, value in others:
            begin = bisect_left(some, first - self.gap, key=LAST)
            end = bisect_right(some, last + self.gap, key=FIRST)
            for one in some[begin:end]:
                first, last = min(first, one[0]), max(last, one[1])
                number, value = one[2] + number, self.add(one[3], value)
            some[begin:end] = [(first, last, number, value)]
        return some


class Sessions(KeyedProcessFunction):
    """Session windows. Flink's own cannot be in a checkpoint where Python runs inside Flink's JVM (ClassCastException).

    Rows come in the second of event time after a session has ended, or later, where the watermark leaps; Flink gives
    all of a call the time of its first.
    """

    def __init__(self, add: Add, gap: int, make_rows: Rows, as_text: bool) -> None:
        self.join, self.gap, self.make_rows, self.as_text = Joined(add, gap), gap, make_rows, as_text

    def open(self, runtime_context: RuntimeContext) -> None:
        # key -> its intervals
        self.sessions = runtime_context.get_state(ValueStateDescriptor("sessions", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, part: Part, context: KeyedProcessFunction.Context) -> Iterator[Any]:
        timers, sessions = context.timer_service(), self.sessions.value() or {}
        closed = self.last_of_closed(timers)
        for key, intervals in part[1][1].items():
            before = sessions.get(key, [])
            ended = [one for one in before if one[1] <= closed]
            joined = self.join([one for one in before if one[1] > closed], intervals)
            late = sum(one[2] for one in joined if one[1] <= closed)
            if late:
                yield LATE, late
            sessions[key] = ended + [one for one in joined if one[1] > closed]
        self.keep(sessions, timers)

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        timers, sessions, rows = context.timer_service(), self.sessions.value() or {}, []
        closed = self.last_of_closed(timers)
        for key, intervals in sessions.items():
            for first, last, _, value in intervals:
                if last <= closed:
                    rows += self.make_rows(TimeWindow(first, last + self.gap), {key: value})
            sessions[key] = [one for one in intervals if one[1] > closed]
        self.keep(sessions, timers)
        yield from given_out(rows, self.as_text)

    def last_of_closed(self, timers: TimerService) -> int:
        """Sessions whose last time is up to this one have ended."""
        return timers.current_watermark() - self.gap + 1

    def keep(self, sessions: dict[Any, list[Interval]], timers: TimerService) -> None:
        """Keep what is left, until the first of it ends. One timer is enough: it closes all that has ended by then."""
        left = {key: intervals for key, intervals in sessions.items() if intervals}
        self.sessions.update(left)
        if left:
            first_end = min(intervals[0][1] for intervals in left.values()) + self.gap
            timers.register_event_time_timer(first_end // 1000 * 1000 + 1000)
