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

import operator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    JobOptions,
    Plan,
    aggregate,
    batch_lines,
    count_rows,
    count_values,
    read_lines,
    run,
    sliding,
    write_rows,
)

from pyflink.datastream import StreamExecutionEnvironment


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 10
    slide: Annotated[int, "seconds between their starts"] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window % self.slide:
            raise ValueError(f"--window must be a multiple of --slide, and {self.window} is none of {self.slide}")


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink."""
    lines = read_lines(environment, options, plan)
    # Windows begin and end at multiples of --slide. All words between two of these are in the same windows, so a batch,
    # which has one timestamp, must not reach beyond such a slice: it is made of --slide seconds, not of --window.
    batches = batch_lines(lines, options.slide)
    # Late is what is too late for all of its windows. What is too late for some of them is reported, too.
    counts = aggregate(count_values(batches), sliding(options.window, options.slide), operator.add, count_rows)
    write_rows(counts, options.output)


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time; windows overlap.")
    state = f"counts per window of {options.window} s, one every {options.slide} s"
    run("sliding_windows", build, options, state)


if __name__ == "__main__":
    main()
