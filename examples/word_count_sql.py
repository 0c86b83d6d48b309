"""The word count of word_count.py in Flink SQL: two views, a query over them, and no function of our own.

    python examples/word_count_sql.py                              # print the counts until Ctrl-C
    python examples/word_count_sql.py --output out/ --bounded      # write them to files, stop at the topic's end
    flink run --python examples/word_count_sql.py                  # the same job on a cluster

It has the flags of word_count.py, and writes the same rows:

    2026-11-22T14:00:05Z    hello    3

A query over a stream never ends: its results come as the stream goes on. Event time is when a record was made, by its
timestamp in Kafka. TUMBLE cuts event time into windows of equal length, side by side. A watermark says how far event
time has come; when it passes the end of a window, the counts of that window are complete, and come out as rows.

A word that comes after that is not counted. Flink's metric numLateRecordsDropped of the operator WindowAggregate has
the number of such words since the job was last started. That is all: no line at the end of the run tells of them.
"""

from dataclasses import dataclass
from typing import Annotated

from kafka_job import JobOptions, Plan, query, read_lines, report, run, tables_with_lines, write_rows

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import DataTypes

SETTINGS = {
    "table.local-time-zone": "UTC",  # of window_start
    "table.exec.uid.generation": "ALWAYS",  # names for what keeps state, by which a checkpoint finds it again
    # Each word goes at once to where it is counted. TWO_PHASE needs less CPU: it adds up words before they are sent.
    # But words that wait for that when their partition turns idle may find their window closed, and are lost.
    "table.optimizer.agg-phase-strategy": "ONE_PHASE",
}

# `tables_with_lines` makes the view lines: line BYTES, event_time TIMESTAMP_LTZ(3).

# A word is what stands between white space, as in Python's str.split(): \s with (?U) is Unicode's white space, and \x1C
# to \x1F are Python's own. The 0 is the whole match. DECODE puts U+FFFD where bytes are not UTF-8, at times fewer of
# them than Python.
WORDS = r"""
    CREATE TEMPORARY VIEW words AS
    SELECT event_time, word
    FROM lines
    CROSS JOIN UNNEST(REGEXP_EXTRACT_ALL(DECODE(line, 'UTF-8'), '(?U)[^\s\x1C-\x1F]+', 0)) AS found (word)
"""
# SECOND(9) lets the length of a window have nine digits; by default it is two.
COUNTS = """
    CREATE TEMPORARY VIEW counts AS
    SELECT window_start, word, COUNT(*) AS n
    FROM TUMBLE(TABLE words, DESCRIPTOR(event_time), INTERVAL '{window}' SECOND(9))
    GROUP BY window_start, window_end, word
"""
# U&'\0009' is a tab.
ROWS = r"""
    SELECT CONCAT_WS(U&'\0009', DATE_FORMAT(window_start, 'yyyy-MM-dd''T''HH:mm:ss''Z'''), word, CAST(n AS STRING))
    FROM counts
"""
# A 1 for each null value, which `report` adds up.
NULL_VALUES = "SELECT CAST(1 AS BIGINT) FROM lines WHERE line IS NULL"


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    window: Annotated[int, "length of the windows in seconds"] = 5


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, count, sink: lines come in, rows go out when their window closes."""
    tables = tables_with_lines(environment, read_lines(environment, options, plan))
    tables.execute_sql(WORDS)  # defines the view: nothing runs yet
    tables.execute_sql(COUNTS.format(window=options.window))
    nulls = query(tables, NULL_VALUES, DataTypes.BIGINT())
    report(nulls, "nullValues", "Records with a null value (tombstones), not counted")
    write_rows(query(tables, ROWS, DataTypes.STRING()), options.output)


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time, in SQL.")
    run("word_count_sql", build, options, state=f"SQL counts per window of {options.window} s", settings=SETTINGS)


if __name__ == "__main__":
    main()
