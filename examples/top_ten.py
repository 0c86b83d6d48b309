"""The ten most frequent words of each window.

    python examples/top_ten.py
    python examples/top_ten.py --output out/ --bounded
    flink run --python examples/top_ten.py

A row has the start of the window (UTC), the rank, the word and its count, with tabs between. Of words with the same
count the first one has the better rank, in the order of Unicode. A window with fewer words has fewer rows.

    2026-11-22T14:00:05Z    1    hello    3

Who ranks words must have seen all of them. So in the end all counts of a window go to one worker: they have the same
key. What is most of the work, splitting lines and counting words, is done before that, by as many workers as there are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Annotated

from kafka_job import (
    JobOptions,
    Plan,
    batch_lines,
    keep_watermark,
    read_lines,
    reduce_windows,
    run,
    split_lines,
    utc,
    write_rows,
)

from pyflink.common import Time, Types
from pyflink.datastream import DataStream, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingEventTimeWindows

TOP = 10


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5


def top(counts: Counter[str]) -> list[tuple[str, int]]:
    """The TOP most frequent words with their counts, the first one first; equals are in the order of the words."""
    return nsmallest(TOP, counts.items(), key=lambda item: (-item[1], item[0]))


def add_counts(left: Counter[str], right: Counter[str]) -> Counter[str]:
    counts = left.copy()  # what reduce is given may be Flink's own, so it is not changed
    counts.update(right)
    return counts


class RankWords(ProcessWindowFunction):
    """The rows of a window, as one text."""

    def process(
        self, key: int, context: ProcessWindowFunction.Context, counted: Iterable[Counter[str]]
    ) -> Iterator[str]:
        start = utc(context.window().start)
        for counts in counted:  # one, which reduce has made of all
            rows = [f"{start}\t{rank}\t{word}\t{count}" for rank, (word, count) in enumerate(top(counts), start=1)]
            if rows:  # none where all lines of the window are empty
                yield "\n".join(rows)


def top_words(batches: DataStream, window: int) -> DataStream:
    """The top words per window of `window` seconds: batches of lines come in, rows go out when their window closes."""
    counts = split_lines(batches).map(Counter).name("count in batch").uid("count")  # {"hello": 2, "world": 1}
    one_place = keep_watermark(counts.key_by(lambda counts: 0, key_type=Types.INT()))
    windows = TumblingEventTimeWindows.of(Time.seconds(window))
    name = f"top {TOP} per {window} s window"
    # "2026-11-22T14:00:05Z\t1\thello\t3"
    return reduce_windows(one_place, windows, add_counts, RankWords(), Counter.total, name=name, uid="top-words")


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, top words, sink."""
    lines = read_lines(environment, options, plan)
    rows = top_words(batch_lines(lines, options.window), options.window)
    write_rows(rows, options.output)


def main() -> None:
    options = Options.parse(f"The {TOP} most frequent words of a Kafka topic per window of event time.")
    run("top_ten", build, options, state=f"counts for the top words per window of {options.window} s")


if __name__ == "__main__":
    main()
