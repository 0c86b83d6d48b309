"""Join the stream with a small table: words counted per category, where a file says which word has which.

    python examples/enrich.py --table docs/samples/categories.tsv
    python examples/enrich.py --table docs/samples/categories.tsv --output out/
    flink run --python examples/enrich.py --table docs/samples/categories.tsv

Each line of the table is a word and its category with a tab between them. Words that are not in the table have the
category `other`, so no word is left out. A row is the start of a window (UTC), a category, and the number of its words.

    2026-11-22T14:00:00Z    fruit    3
    2026-11-22T14:00:00Z    other    12
"""

import operator
import sys
from dataclasses import dataclass
from pathlib import Path
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
    split,
    tumbling,
    write_rows,
)

from pyflink.datastream import StreamExecutionEnvironment

OTHER = "other"  # the category of words that are not in the table


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    table: Annotated[str, "file of words and their categories", str, "FILE"]
    window: Annotated[int, "length of the windows in seconds"] = 5


def read_table(path: str) -> dict[str, str]:
    """The categories of words; exits with one sentence where the file is not such a table."""
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except OSError as error:
        sys.exit(f"--table {path} cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        sys.exit(f"--table {path} is not UTF-8: {error.reason} at byte {error.start}")
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        word, _, category = line.partition("\t")
        if word.split() != [word] or not category or "\t" in category:
            sys.exit(f"Line {number} of --table {path} is not a word, a tab and a category: {line!r}")
        if table.setdefault(word, category) != category:
            sys.exit(f"Line {number} of --table {path} gives '{word}' a second category: {category}")
    return table


class FindCategories:
    """The categories of the words in some lines.

    The table is a part of the function, and travels with it to wherever it runs: no worker has to see the file.
    """

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table

    def __call__(self, lines: bytes) -> list[str]:
        return [self.table.get(word, OTHER) for word in split(lines)]  # ["fruit", "fruit", "other"]


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, join and count, sink."""
    batches = batch_lines(read_lines(environment, options, plan), options.window)
    categories = count_values(batches, FindCategories(read_table(options.table)))
    write_rows(aggregate(categories, tumbling(options.window), operator.add, count_rows), options.output)


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per category and window of event time.")
    run("enrich", build, options, state=f"counts of categories per window of {options.window} s")


if __name__ == "__main__":
    main()
