"""Windows that overlap: the counts of the last minute, anew every ten seconds.

    python examples/sliding_windows.py                                  # windows of 10 s, one begins every 5 s
    python examples/sliding_windows.py --window 60 --slide 10 --output out/
    flink run --python examples/sliding_windows.py

A window of word_count.py begins where the last one has ended; each word counts in one of them. A sliding window begins
before the last one has ended, so a word counts in several: --window divided by --slide. A row is the start of a window
(UTC), a word, and its count, as in word_count.py.

    2026-11-22T13:59:55Z    hello    1
    2026-11-22T14:00:00Z    hello    3
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    SHARDS,
    JobOptions,
    Plan,
    ShardCounts,
    batch_lines,
    count_windows,
    key_by_shard,
    read_lines,
    report,
    run,
    split_lines,
    write_rows,
)

from pyflink.common import Time, Types
from pyflink.datastream import DataStream, KeyedProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.window import SlidingEventTimeWindows


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 10
    slide: Annotated[int, "seconds between their starts"] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window % self.slide:
            raise ValueError(f"--window must be a multiple of --slide, and {self.window} is none of {self.slide}")


class WordsTooLateForSome(KeyedProcessFunction):
    """The number of words that come when some of their windows have closed, and others are open.

    Flink counts them in the windows that are open, and says nothing of the others.
    """

    def __init__(self, window: int, slide: int) -> None:
        self.last_after_first = (window - slide) * 1000  # milliseconds, from the end of a word's first window

    def process_element(self, counts: ShardCounts, context: KeyedProcessFunction.Context) -> Iterator[int]:
        first_end = context.timestamp()  # a batch has the last millisecond of its slice; its first window ends there
        watermark = context.timer_service().current_watermark()
        if first_end <= watermark < first_end + self.last_after_first:
            yield counts[1].total()


def count_words(batches: DataStream, window: int, slide: int) -> DataStream:
    """Count words per window of `window` seconds, of which one begins every `slide` seconds.

    Args:
        batches: stream of bytes, as of `batch_lines` with `slide`.
        window: a multiple of `slide`.
    """
    shards = key_by_shard(split_lines(batches))  # (6, {"hello": 2})
    windows = SlidingEventTimeWindows.of(Time.seconds(window), Time.seconds(slide))
    name = f"count per {window} s window, every {slide} s"
    rows = count_windows(shards, windows, name)  # late is what is too late for all of its windows
    partly = shards.process(WordsTooLateForSome(window, slide), output_type=Types.LONG())
    partly.name("too late for some windows").uid("too-late-for-some")
    report(partly, "partlyLateWords", "Words that came after some of their windows had closed, not counted in these")
    return rows


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink."""
    lines = read_lines(environment, options, plan)
    # Windows begin and end at multiples of --slide. All words between two of these are in the same windows, so a batch,
    # which has one timestamp, must not reach beyond such a slice: it is made of --slide seconds, not of --window.
    batches = batch_lines(lines, options.slide)
    write_rows(count_words(batches, options.window, options.slide), options.output)


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time; windows overlap.")
    state = f"counts per window of {options.window} s, one every {options.slide} s, in {SHARDS} shards"
    run("sliding_windows", build, options, state)


if __name__ == "__main__":
    main()
