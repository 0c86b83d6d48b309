"""Join the stream with a small table: words counted per category, where a file says which word has which.

    python examples/enrich.py --table docs/samples/categories.tsv
    python examples/enrich.py --table docs/samples/categories.tsv --output out/
    flink run --python examples/enrich.py --table docs/samples/categories.tsv

Each line of the table is a word and its category with a tab between them. Words that are not in the table have the
category `other`, so no word is left out. A row is the start of a window (UTC), a category, and the number of its words.

    2026-11-22T14:00:00Z    fruit    3
    2026-11-22T14:00:00Z    other    12
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kafka_job import JobParser, Plan, batch_lines, keep_watermark, positive, report, run

from pyflink.common import Time, Types
from pyflink.datastream import DataStream, FlatMapFunction, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingEventTimeWindows

from word_count import LATE, SETTINGS, read_lines, split_lines, utc, write_rows

OTHER = "other"  # the category of words that are not in the table

Pair = tuple[str, int]  # a category, and how many words of it there were


def read_table(path: str) -> dict[str, str]:
    """The categories of words, for argparse; raises ArgumentTypeError where the file is not such a table."""
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        word, _, category = line.partition("\t")
        if word.split() != [word] or not category or "\t" in category:
            raise argparse.ArgumentTypeError(f"line {number} of {path} is not a word, a tab and a category: {line!r}")
        if table.setdefault(word, category) != category:
            raise argparse.ArgumentTypeError(f"line {number} of {path} gives '{word}' a second category: {category}")
    return table


class CountByCategory(FlatMapFunction):
    """Each category of some words once, with the number of its words.

    The table is a part of the function, and travels with it to wherever it runs: no worker has to see the file.
    """

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table

    def flat_map(self, words: Iterable[str]) -> Iterable[Pair]:
        return Counter(self.table.get(word, OTHER) for word in words).items()


def add(left: Pair, right: Pair) -> Pair:
    return left[0], left[1] + right[1]


class MakeRow(ProcessWindowFunction):
    """Adds the start of the window to its result."""

    def process(self, category: str, context: ProcessWindowFunction.Context, pairs: Iterable[Pair]) -> Iterator[str]:
        for _, count in pairs:  # one pair, which reduce has made of all
            yield f"{utc(context.window().start)}\t{category}\t{count}"


def count_categories(batches: DataStream, table: dict[str, str], window: int) -> DataStream:
    """Count categories per window of `window` seconds: batches of lines come in, rows go out when it closes."""
    words = batches.map(split_lines).name("split into words").uid("split-lines")  # ["apple", "pear", "the"]
    pairs = words.flat_map(CountByCategory(table), output_type=Types.TUPLE([Types.STRING(), Types.LONG()]))
    pairs.name("count by category").uid("count-by-category")  # ("fruit", 2), ("other", 1)
    by_category = keep_watermark(pairs.key_by(lambda pair: pair[0], key_type=Types.STRING()))
    rows = (
        by_category.window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add, MakeRow(), output_type=Types.STRING())
        .name(f"count per {window} s window")
        .uid("count-categories")
    )
    late = rows.get_side_output(LATE).name("late").uid("late")
    late_words = late.map(lambda pair: pair[1], output_type=Types.LONG()).name("number of words")
    report(late_words, "lateWords", "Words that came after their windows had closed, not counted (--max-delay)")
    return rows


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, join and count, sink; the first and the last are those of word_count.py."""
    batches = batch_lines(read_lines(environment, options, plan), options.window)
    write_rows(count_categories(batches, options.table, options.window), options.output)


def main() -> None:
    parser = JobParser("Count the words of a Kafka topic per category and window of event time.")
    parser.add_argument("--table", type=read_table, required=True, metavar="FILE", help="words and their categories")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    options = parser.parse_args()
    state = f"counts of categories per window of {options.window} s"
    run("enrich", build, options, SETTINGS, state)


if __name__ == "__main__":
    main()
