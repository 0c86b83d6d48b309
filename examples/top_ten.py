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

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nsmallest

from kafka_job import JobParser, Plan, batch_lines, keep_watermark, positive, report, run

from pyflink.common import Time, Types
from pyflink.datastream import DataStream, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingEventTimeWindows

from word_count import LATE, SETTINGS, read_lines, split_lines, utc, write_rows

TOP = 10


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
    words = batches.map(split_lines).name("split into words").uid("split-lines")  # ["hello", "hello", "world"]
    counts = words.map(Counter).name("count in batch").uid("count")  # {"hello": 2, "world": 1}
    rows = (
        keep_watermark(counts.key_by(lambda counts: 0, key_type=Types.INT()))
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add_counts, RankWords(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\t1\thello\t3"
        .name(f"top {TOP} per {window} s window")
        .uid("top-words")
    )

    late = rows.get_side_output(LATE).name("late").uid("late")
    late_words = late.map(lambda counts: counts.total(), output_type=Types.LONG()).name("number of words")
    report(late_words, "lateWords", "Words that came after their windows had closed, not counted (--max-delay)")
    return rows


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, top words, sink."""
    lines = read_lines(environment, options, plan)
    rows = top_words(batch_lines(lines, options.window), options.window)
    write_rows(rows, options.output)


def main() -> None:
    parser = JobParser(f"The {TOP} most frequent words of a Kafka topic per window of event time.")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    options = parser.parse_args()
    run("top_ten", build, options, SETTINGS, state=f"counts for the top words per window of {options.window} s")


if __name__ == "__main__":
    main()
