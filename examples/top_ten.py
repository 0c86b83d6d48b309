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

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Annotated

from kafka_job import JobOptions, Plan, aggregate, batch_lines, count_values, read_lines, run, tumbling, utc, write_rows

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.window import TimeWindow

TOP = 10


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5


def top(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The TOP most frequent words with their counts, the first one first; equals are in the order of the words."""
    return nsmallest(TOP, counts.items(), key=lambda item: (-item[1], item[0]))


def rank_rows(window: TimeWindow, counts: Mapping[str, int]) -> Iterator[str]:
    start = utc(window.start)
    for rank, (word, count) in enumerate(top(counts), start=1):
        yield f"{start}\t{rank}\t{word}\t{count}"


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, top words, sink."""
    batches = batch_lines(read_lines(environment, options, plan), options.window)
    counts = count_values(batches, shards=1)  # all words of a window are in one shard
    rows = aggregate(counts, tumbling(options.window, shards=1), operator.add, rank_rows)
    write_rows(rows, options.output)


def main() -> None:
    options = Options.parse(f"The {TOP} most frequent words of a Kafka topic per window of event time.")
    run("top_ten", build, options, state=f"counts for the top words per window of {options.window} s")


if __name__ == "__main__":
    main()
