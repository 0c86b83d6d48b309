"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                              # print the counts until Ctrl-C
    python word_count.py --output out/                # write them to files
    python word_count.py --output out/ --bounded      # stop at the end that the topic has now
    python word_count.py --running-totals             # totals for all time, in place of windows
    python word_count.py --api sql                    # the same windows in Flink SQL, without Python functions
    flink run --python word_count.py                  # the same job on a cluster

Every result is a row of three fields, separated by tabs: start of the window (UTC), word, count; or, for running
totals, when the total has changed (UTC), word, total.

    2026-11-22T14:00:05Z    hello    3

Read it from top to bottom: settings, source, the count, sinks, and the pipeline that joins them. How the set-up is
checked, and how a local run starts, stops and resumes, is in runner.py; operators/ hands lines to Python in batches.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

if not (3, 10) <= sys.version_info[:2] <= (3, 12) or not find_spec("pyflink"):
    sys.exit(f"No PyFlink in {sys.executable}; it needs Python 3.10 to 3.12: make test, then source .venv/bin/activate")

from pyflink.common import Configuration, Duration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder
from pyflink.datastream import (
    DataStream,
    DataStreamSink,
    KeyedProcessFunction,
    KeyedStream,
    OutputTag,
    ProcessWindowFunction,
    RuntimeContext,
    StreamExecutionEnvironment,
)
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource, KafkaTopicPartition
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor
from pyflink.datastream.window import TumblingEventTimeWindows
from pyflink.table import DataTypes, Schema, StreamTableEnvironment
from pyflink.table.types import _to_java_data_type

import runner
from operators import java_operator, line_schema, row_type

# --- Settings -------------------------------------------------------------------------------------------------------

BROKERS = "localhost:19092"
JOB_NAME = "word_count"

SETTINGS = {
    "execution.checkpointing.interval": "3 s",  # files become visible, and offsets are committed, at each checkpoint
    "pipeline.object-reuse": "true",  # no copies on the way from operator to operator; none of ours changes its input
    "restart-strategy.type": "exponential-delay",  # after a failure go on from the last checkpoint, ...
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "5",  # ... but do not try for ever
}

PYTHON_SETTINGS = {
    # Python functions run inside Flink's JVM. In processes of their own, the default, every record crosses to another
    # process and back, and checkpoints of Flink 2.2 may miss the newest timers: after a crash, some windows that were
    # open would never be written.
    "python.execution-mode": "thread",
}

REPORTS = {  # metric, and what is said at the end of a run
    "lateWords": "Words that came after their windows had closed, not counted (--max-delay)",
    "nullValues": "Records with a null value (tombstones), not counted",
    "invalidLines": "Lines with bytes that are not UTF-8, counted with U+FFFD in their place",
}
END_OF_TIME = 2**62  # milliseconds; only the watermark of the end of a stream is later

MAX_DELAY_HELP = "how much older than a record before it a record may be and still count; 0: timestamps never go back"
IDLE_TIMEOUT_HELP = "when a partition without records no longer holds windows back; 0: never"
START_HELP = "offsets to start from; committed: those of the group, earliest where it has none"
TOTALS_HELP = "each word's total since the job's first record, in place of windows"
API_HELP = "count in Python functions (DataStream API), or in Flink SQL"
TTL_HELP = "forget a word that was not seen for so long, by the clock on the wall; None: the state grows for ever"
CHECKPOINT_HELP = "keep checkpoints here, and go on from the newest one; None: a crash loses open windows"
NO_DRAIN_HELP = "on Ctrl-C leave open windows to the next run with this --checkpoint-dir, instead of writing them"
BOUNDED_HELP = "stop at the offsets that are the end when the job starts, and close all windows"


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if int(text) <= 0:
        raise ValueError
    return int(text)


def broker_list(text: str) -> str:
    """One or more addresses HOST:PORT, separated by commas, for argparse."""
    if not all(host and 0 < port < 65536 for host, port in map(runner.host_and_port, text.split(","))):
        raise ValueError
    return text


def not_negative(text: str) -> int:
    """A whole number, zero or above, for argparse."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def folder(text: str) -> str:
    """A folder as an absolute path, for argparse: a cluster's processes do not share our working directory."""
    path = Path(text).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, not a folder")
    return str(path)


def folder_or_uri(text: str) -> str:
    """A folder, or s3://, hdfs:// and the like, which are the cluster's business, for argparse."""
    return text if "://" in text else folder(text)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as values; bad input ends the program with a usage message and exit code 2."""
    parser = argparse.ArgumentParser(
        description="Count the words of a Kafka topic per window of event time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,  # adds each default to the help
    )
    option = parser.add_argument
    option("--output", type=folder_or_uri, metavar="PATH", help="folder for result files; None: print to stdout")
    option("--topic", default="input", help="topic to read lines from")
    option(
        "--bootstrap-servers", type=broker_list, default=BROKERS, metavar="HOST:PORT[,...]", help="Kafka or Redpanda"
    )
    option("--group-id", default="test_group", help="consumer group to commit offsets to")
    one_of = parser.add_mutually_exclusive_group().add_argument
    # A default that is text never equals a value that was given: '--running-totals --window 5' is an error, too.
    one_of("--window", type=positive, default="5", metavar="SECONDS", help="length of the windows in event time")
    one_of("--running-totals", action="store_true", help=TOTALS_HELP)
    option("--api", choices=["datastream", "sql"], default="datastream", help=API_HELP)
    option("--state-ttl", type=positive, metavar="SECONDS", help=TTL_HELP)
    option("--max-delay", type=not_negative, default=0, metavar="SECONDS", help=MAX_DELAY_HELP)
    option("--idle-timeout", type=not_negative, default=5, metavar="SECONDS", help=IDLE_TIMEOUT_HELP)
    option("--start", choices=["committed", "earliest", "latest"], default="committed", help=START_HELP)
    option("--bounded", action="store_true", help=BOUNDED_HELP)
    option("--checkpoint-dir", type=folder, metavar="DIR", help=CHECKPOINT_HELP)
    option("--no-drain", action="store_true", help=NO_DRAIN_HELP)
    values = parser.parse_args(arguments)
    if values.no_drain and not values.checkpoint_dir:
        parser.error("--no-drain needs a --checkpoint-dir, where the next run finds the open windows")
    if values.running_totals and values.api == "sql":
        parser.error("--running-totals needs --api datastream: the SQL counts per window")
    if values.state_ttl and not values.running_totals:
        parser.error("--state-ttl needs --running-totals: windows forget their words when they close")
    return values


# --- Source ---------------------------------------------------------------------------------------------------------


def kafka_source(topic: str, bootstrap_servers: str, group_id: str, plan: runner.Plan) -> KafkaSource:
    """The lines of a topic, between the offsets of the plan."""

    def offsets(by_partition: dict[int, int]) -> KafkaOffsetsInitializer:
        return KafkaOffsetsInitializer.offsets(
            {KafkaTopicPartition(topic, partition): offset for partition, offset in by_partition.items()}
        )

    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(bootstrap_servers)
        .set_topics(topic)
        .set_group_id(group_id)
        .set_starting_offsets(offsets(plan.start))
        .set_value_only_deserializer(line_schema())
        .set_property("partition.discovery.interval.ms", "10000")  # find partitions that are added, by default in 5 min
        # Partitions take turns after so many bytes. With the default, 1 MB, one of many may wait for its turn for
        # longer than --idle-timeout, no longer hold windows back, and find its windows closed.
        .set_property("max.partition.fetch.bytes", "262144")
    )
    if plan.end is not None:
        builder = builder.set_bounded(offsets(plan.end)) if plan.bounded else builder.set_unbounded(offsets(plan.end))
    return builder.build()


def watermarks(max_delay: int, idle_timeout: int) -> WatermarkStrategy:
    """How far event time has come: the Kafka record timestamps seen so far, less `max_delay` seconds.

    The slowest partition decides; one without records for `idle_timeout` seconds has no say (0: it always has).
    """
    if max_delay:
        strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(max_delay))
    else:
        strategy = WatermarkStrategy.for_monotonous_timestamps()
    return strategy.with_idleness(Duration.of_seconds(idle_timeout)) if idle_timeout else strategy


# --- The count ------------------------------------------------------------------------------------------------------

LATE = OutputTag("late")  # pairs that came after the row of their window
BATCH_BYTES = 8_000_000  # of lines wait for the end of their window, or for a checkpoint, at most


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in lists, since one call of a Python function for 100,000 lines costs little more than one for a line.

    Args:
        lines: stream of rows of `line_schema`, with event-time timestamps and watermarks.
        window: seconds; the lines of a list are of one window.

    Returns:
        stream of lists of bytes, None for a null value; the timestamp is the last millisecond of the window.
    """
    batch = Types.OBJECT_ARRAY(Types.PRIMITIVE_ARRAY(Types.BYTE()))
    return java_operator("BatchLines", lines, "batch-lines", batch, window * 1000, BATCH_BYTES)


def split_line(line: bytes | None) -> list[str]:
    """The words of a line: maximal runs of non-whitespace. Bytes that are not UTF-8 become U+FFFD.

    A byte-order mark, U+FEFF, is white space, and so is its mirror image, U+FFFE: in thread mode a string that begins
    with one of them would lose it, or be read in the wrong byte order.
    """
    if line is None:
        return []
    return line.decode("utf-8", errors="replace").replace("\ufeff", " ").replace("\ufffe", " ").split()


def split_lines(batch: Iterable[bytes | None]) -> list[str]:
    return [word for line in batch for word in split_line(line)]


def count_each(words: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Each word once, with its count: a batch of 100,000 lines goes on as a few thousand pairs."""
    return Counter(words).items()


def word_of(pair: tuple[str, int]) -> str:
    return pair[0]


def add_counts(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
    return left[0], left[1] + right[1]


def format_row(time_of_row: int, word: str, count: int) -> str:
    """One result row: a time (from milliseconds since the epoch), word and count, separated by tabs."""
    formatted = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_of_row // 1000))
    return f"{formatted}\t{word}\t{count}"


class FormatRows(ProcessWindowFunction):
    """Turns the one reduced pair of a word's window into a result row, since only here the window is known."""

    def process(
        self, word: str, context: ProcessWindowFunction.Context, pairs: Iterable[tuple[str, int]]
    ) -> Iterator[str]:
        for _, count in pairs:
            yield format_row(context.window().start, word, count)


def words_by_key(batches: DataStream) -> KeyedStream:
    """The words of the batches, each with its count in a batch, the same words in the same place."""
    words = batches.map(split_lines)  # ["hello", "hello", "world"]
    words.name("split into words").uid("split-lines")

    pairs = words.flat_map(count_each, output_type=Types.TUPLE([Types.STRING(), Types.LONG()]))  # ("hello", 2)
    pairs.name("count in batch").uid("count-each")

    return pairs.key_by(word_of, key_type=Types.STRING())


def count_words_per_window(batches: DataStream, window: int) -> DataStream:
    """Count words per tumbling window: a pure function of a stream, the same in tests and in production.

    Args:
        batches: stream of lists of bytes or None, as of `batch_lines`.
        window: seconds.

    Returns:
        stream of str, the result rows; a window's rows come when the watermark passes its end. Words that come after
        that are in its side output LATE.
    """
    counts = (
        words_by_key(batches)
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add_counts, FormatRows(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\thello\t3"
    )
    return counts.name(f"count per {window} s window").uid("count-per-window")


class Total(KeyedProcessFunction):
    """A word's total, written once for each second of event time in which it has changed.

    Event time, and not the clock on the wall: when records are read again, after a crash or next year, the rows are the
    same.
    """

    def __init__(self, state_ttl: int | None) -> None:
        self.state_ttl = state_ttl

    def open(self, runtime_context: RuntimeContext) -> None:
        total = ValueStateDescriptor("total", Types.TUPLE([Types.LONG(), Types.LONG()]))  # (changed at, total)
        if self.state_ttl:
            # Flink's TTL knows only the clock on the wall (processing time).
            total.enable_time_to_live(StateTtlConfig.new_builder(Time.seconds(self.state_ttl)).build())
        self.total = runtime_context.get_state(total)
        # second -> the row that is written when the watermark passes it; no TTL, so none is lost
        self.rows = runtime_context.get_map_state(MapStateDescriptor("rows", Types.LONG(), Types.STRING()))

    def process_element(self, pair: tuple[str, int], context: KeyedProcessFunction.Context) -> None:
        word, count = pair
        changed_at, total = self.total.value() or (context.timestamp(), 0)
        # A record that is older than one before it changes the newest total: the last row of a word has the last total.
        changed_at, total = max(changed_at, context.timestamp()), total + count
        self.total.update((changed_at, total))
        timers = context.timer_service()
        second = max(changed_at, timers.current_watermark() + 1) // 1000
        self.rows.put(second, format_row(changed_at, word, total))
        timers.register_event_time_timer(second * 1000 + 999)

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        yield self.rows.get(timestamp // 1000)
        self.rows.remove(timestamp // 1000)


def total_words(batches: DataStream, state_ttl: int | None) -> DataStream:
    """Count words for all time.

    Args:
        batches: as for `count_words_per_window`, of windows of 1 second.
        state_ttl: seconds after which a word that was not seen is forgotten; None: never, the state grows for ever.

    Returns:
        stream of str, the result rows; the last one of a word has its total.
    """
    totals = words_by_key(batches).process(
        Total(state_ttl), output_type=Types.STRING()
    )  # "2026-11-22T14:00:05Z\thello\t9"
    return totals.name("total").uid("total")


# --- What was not counted -------------------------------------------------------------------------------------------


def not_counted(batch: Iterable[bytes | None]) -> Iterable[tuple[str, int]]:
    """What is to be reported of lines: names of REPORTS, and how often."""
    names: Counter[str] = Counter()
    for line in batch:
        if line is None:
            names["nullValues"] += 1
        else:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                names["invalidLines"] += 1
    return names.items()


class Report(KeyedProcessFunction):
    """Counts names of REPORTS: as metrics while the job runs, as one line each when it ends.

    The sums are state, as exact after a crash as the words are.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum", Types.LONG()))
        self.counters = {name: runtime_context.get_metrics_group().counter(name) for name in REPORTS}

    def process_element(self, pair: tuple[str, int], context: KeyedProcessFunction.Context) -> None:
        name, number = pair
        self.sum.update((self.sum.value() or 0) + number)
        self.counters[name].inc(number)
        context.timer_service().register_event_time_timer(END_OF_TIME)

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        yield f"{REPORTS[context.get_current_key()]}: {self.sum.value()}"
        self.sum.clear()


def report_what_was_not_counted(batches: DataStream, rows: DataStream) -> DataStream:
    """What `count_words_per_window` has left out of its rows, or has changed, as sentences at the end of the job."""
    pairs = Types.TUPLE([Types.STRING(), Types.LONG()])
    odd = batches.flat_map(not_counted, output_type=pairs)  # ("nullValues", 1)
    odd.name("find odd lines").uid("find-odd-lines")

    late = rows.get_side_output(LATE).map(lambda pair: ("lateWords", pair[1]), output_type=pairs)
    late.name("late words").uid("late-words")

    report = odd.union(late).key_by(lambda pair: pair[0], key_type=Types.STRING()).process(Report(), Types.STRING())
    return report.name("report").uid("report")


# --- The same count in SQL ------------------------------------------------------------------------------------------

WORDS = DataTypes.ROW(  # a word and its count so far, or the name of a report and its count
    [
        DataTypes.FIELD("report", DataTypes.STRING()),
        DataTypes.FIELD("word", DataTypes.STRING()),
        DataTypes.FIELD("n", DataTypes.BIGINT()),
    ]
)
MAX_WAITING_WORDS = 200_000  # different words that wait for the end of their window, or for a checkpoint

COUNTS_IN_SQL = r"""
    SELECT DATE_FORMAT(window_start, 'yyyy-MM-dd''T''HH:mm:ss''Z''')
        || U&'\0009' || word || U&'\0009' || CAST(SUM(n) AS STRING)
    FROM TABLE(TUMBLE(TABLE words, DESCRIPTOR(event_time), INTERVAL '{window}' SECOND(9)))
    WHERE word IS NOT NULL
    GROUP BY window_start, window_end, word
"""
# One window for all time: its rows come at the end of the job.
REPORT_IN_SQL = """
    SELECT CASE report {sentences} END || ': ' || CAST(SUM(n) AS STRING)
    FROM TABLE(TUMBLE(TABLE words, DESCRIPTOR(event_time), INTERVAL '36500' DAY(5)))
    WHERE report IS NOT NULL
    GROUP BY window_start, window_end, report
"""


def count_words_in_sql(
    environment: StreamExecutionEnvironment, lines: DataStream, window: int
) -> tuple[DataStream, DataStream]:
    """Count words per tumbling window without a Python function.

    Lines are split by CountWords.java: SQL's own SPLIT knows one separator, not all kinds of white space, and counting
    single words in SQL is half as fast as in Java.

    Args:
        lines: stream of rows of `line_schema`, with event-time timestamps and watermarks.
        window: seconds.

    Returns:
        streams of str: the result rows, and the sentences of `report_what_was_not_counted`.
    """
    words = java_operator("CountWords", lines, "count-words", row_type(WORDS), window * 1000, MAX_WAITING_WORDS)
    tables = StreamTableEnvironment.create(environment)
    tables.get_config().set("table.local-time-zone", "UTC")  # of window_start
    schema = Schema.new_builder().from_row_data_type(WORDS)
    schema = schema.column_by_metadata("event_time", DataTypes.TIMESTAMP_LTZ(3), "rowtime")
    tables.create_temporary_view(
        "words", tables.from_data_stream(words, schema.watermark("event_time", "SOURCE_WATERMARK()").build())
    )

    def strings(query: str, uid: str) -> DataStream:
        text = _to_java_data_type(DataTypes.STRING())
        stream = tables._j_tenv.toDataStream(tables.sql_query(query)._j_table, text)
        # A uid is what lets a checkpoint survive; those that SQL would make change from run to run.
        for number, transformation in enumerate(stream.getTransformation().getTransitivePredecessors()):
            if not transformation.getUid():
                transformation.setUid(f"{uid}-{number}")
        return DataStream(stream)

    sentences = " ".join(f"WHEN '{name}' THEN '{sentence}'" for name, sentence in REPORTS.items())
    rows = strings(COUNTS_IN_SQL.format(window=window), "counts-in-sql")
    return rows, strings(REPORT_IN_SQL.format(sentences=sentences), "report-in-sql")


# --- Sinks ----------------------------------------------------------------------------------------------------------


def write_files(rows: DataStream, folder: str) -> None:
    """Write rows to `folder`/DAY/counts-….tsv; a file that is visible is complete: a checkpoint has committed it."""
    sink = (
        FileSink.for_row_format(folder, Encoder.simple_string_encoder("UTF-8"))
        .with_bucket_assigner(BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd", "UTC"))  # no folder grows for ever
        .with_output_file_config(OutputFileConfig.builder().with_part_prefix("counts").with_part_suffix(".tsv").build())
        # The default policy keeps a part hidden and in progress for 60 s or 128 MB.
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    rows.sink_to(sink).name("write files").uid("write-files")


def print_rows(rows: DataStream) -> None:
    """Print rows to stdout; on a cluster that is the .out file of a TaskManager."""
    print("Printing result to stdout. Use --output to specify output path.", flush=True)
    # With one subtask Flink does not put the subtask's number before each row.
    DataStreamSink(rows._j_data_stream.print()).set_parallelism(1).name("print").uid("print")


def print_report(sentences: DataStream) -> None:
    """Print what is to be reported to stderr; on a cluster that is the .err file of a TaskManager."""
    DataStreamSink(sentences._j_data_stream.printToErr()).set_parallelism(1).name("print report").uid("print-report")


# --- The pipeline ---------------------------------------------------------------------------------------------------


def create_environment(settings: dict[str, str]) -> StreamExecutionEnvironment:
    """Flink's entry point: the cluster of 'flink run', else one of our own in this process's JVM."""
    configuration = Configuration()  # this starts the JVM
    for key, value in settings.items():
        configuration.set_string(key, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def build_job(arguments: argparse.Namespace, plan: runner.Plan) -> StreamExecutionEnvironment:
    """The whole pipeline, ready to be executed: source, count, sink."""
    environment = create_environment(plan.settings)
    # Not 'pipeline.jars', which replaces Flink's own jars under 'flink run'.
    environment.add_jars(runner.find_connector().as_uri())

    source = kafka_source(arguments.topic, arguments.bootstrap_servers, arguments.group_id, plan)
    # Partitions that have an end are not idle, they end.
    strategy = watermarks(arguments.max_delay, arguments.idle_timeout if plan.end is None else 0)
    lines = environment.from_source(source, strategy, f"Kafka topic {arguments.topic}").uid(plan.source_uid)
    if arguments.api == "sql":
        rows, report = count_words_in_sql(environment, lines, arguments.window)
    elif arguments.running_totals:
        batches = batch_lines(lines, 1)
        rows = total_words(batches, arguments.state_ttl)
        report = report_what_was_not_counted(batches, rows)
    else:
        batches = batch_lines(lines, arguments.window)
        rows = count_words_per_window(batches, arguments.window)
        report = report_what_was_not_counted(batches, rows)
    print_report(report)
    if arguments.output:
        write_files(rows, arguments.output)
    else:
        print_rows(rows)
    return environment


def main() -> None:
    arguments = parse_arguments()
    windows = f"counts per window of {arguments.window} s, {arguments.api}"
    state_of = f"running totals, TTL {arguments.state_ttl}" if arguments.running_totals else windows
    settings = SETTINGS | (PYTHON_SETTINGS if arguments.api == "datastream" else {})
    runner.run(JOB_NAME, lambda plan: build_job(arguments, plan), arguments, settings, state_of)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before the job runs
        sys.exit(130)
