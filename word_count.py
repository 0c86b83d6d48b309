"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                              # print the counts until Ctrl-C
    python word_count.py --output out/                # write them to files
    python word_count.py --output out/ --bounded      # stop at the end that the topic has now
    flink run --python word_count.py                  # the same job on a cluster

Every result is a row of three fields, separated by tabs: start of the window (UTC), word, count.

    2026-11-22T14:00:05Z    hello    3

Read it from top to bottom: where lines come from, how words are counted, where the counts go, and the pipeline that
joins the three. examples/literal.py has the same job in its simplest form, which is a thousand times slower.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from zlib import crc32

from kafka_job import JobParser, Plan, batch_lines, line_schema, positive, report, run

from pyflink.common import Duration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder
from pyflink.datastream import DataStream, OutputTag, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows

SETTINGS = {
    "execution.checkpointing.interval": "3 s",  # files become visible, and offsets are committed, at each checkpoint
    "pipeline.object-reuse": "true",  # no copies on the way from operator to operator; none of ours changes its input
    "python.execution-mode": "thread",  # Python functions run inside Flink's JVM, not in processes of their own
}

SHARDS = 128  # what the work is divided by: at most so many subtasks can share it
LATE = OutputTag("late")  # what came after the rows of its window were written

Pair = tuple[int, Counter[str]]  # a shard, and how often each of its words was seen

# --- Where lines come from ------------------------------------------------------------------------------------------


def kafka_source(options: argparse.Namespace, plan: Plan) -> KafkaSource:
    """The records of a topic, from the offsets where this run begins."""
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_topics(options.topic)
        .set_group_id(options.group_id)
        .set_value_only_deserializer(line_schema())  # bytes, or null
        .set_property("partition.discovery.interval.ms", "10000")  # find partitions that are added, by default in 5 min
        # Partitions take turns after so many bytes. With the default, 1 MB, one of many may wait for its turn for
        # longer than --idle-timeout, no longer hold windows back, and find its windows closed.
        .set_property("max.partition.fetch.bytes", "262144")
    )
    return plan.set_offsets(builder).build()


def watermarks(max_delay: int, idle_timeout: int) -> WatermarkStrategy:
    """How far event time has come: the timestamps of the records seen so far, less `max_delay` seconds.

    The slowest partition decides; one without records for `idle_timeout` seconds has no say (0: it always has).
    """
    strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(max_delay))
    return strategy.with_idleness(Duration.of_seconds(idle_timeout)) if idle_timeout else strategy


# --- How words are counted ------------------------------------------------------------------------------------------


def split_lines(batch: Iterable[bytes]) -> list[str]:
    """The words of some lines: what is between white space. Bytes that are not UTF-8 become U+FFFD."""
    return b"\n".join(batch).decode("utf-8", errors="replace").split()


def count_by_shard(words: Iterable[str]) -> Iterable[Pair]:
    """Each word once, with its count, in the shard that it always belongs to."""
    shards: dict[int, Counter[str]] = defaultdict(Counter)
    for word, count in Counter(words).items():
        shards[crc32(word.encode()) % SHARDS][word] = count  # not hash(word): it differs from process to process
    return shards.items()


def shard_of(pair: Pair) -> int:
    return pair[0]


def add_counts(left: Pair, right: Pair) -> Pair:
    return left[0], left[1] + right[1]


def number_of_words(pair: Pair) -> int:
    return pair[1].total()


class WriteRows(ProcessWindowFunction):
    """Turns the reduced counts of a window into rows, since only here the window is known."""

    def process(self, shard: int, context: ProcessWindowFunction.Context, pairs: Iterable[Pair]) -> Iterator[str]:
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(context.window().start // 1000))
        for _, counts in pairs:
            for word, count in counts.items():
                yield f"{start}\t{word}\t{count}"


def count_words(batches: DataStream, window: int) -> DataStream:
    """Count words per window of `window` seconds: lists of lines come in, rows go out.

    The rows of a window come when the watermark passes its end. Words that come after that are reported.
    """
    # Lines come in batches: a call from Flink's JVM to Python costs as much for one line as for 100,000.
    words = batches.map(split_lines)  # ["hello", "hello", "world"]
    words.name("split into words").uid("split-lines")

    # The key is a shard, not a word: what Flink keeps and calls for each key is paid 128 times a window, not a million.
    counts = words.flat_map(count_by_shard, output_type=Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()]))
    counts.name("count in batch").uid("count-by-shard")  # (17, {"hello": 2}), (99, {"world": 1})

    rows = (
        counts.key_by(shard_of, key_type=Types.INT())
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add_counts, WriteRows(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\thello\t3"
    )
    rows.name(f"count per {window} s window").uid(f"count-in-{SHARDS}-shards")

    late_words = rows.get_side_output(LATE).map(number_of_words, output_type=Types.LONG())
    late_words.name("late words").uid("late-words")
    report(late_words, "lateWords", "Words that came after their windows had closed, not counted (--max-delay)")
    return rows


# --- Where the counts go --------------------------------------------------------------------------------------------


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
    rows.print().set_parallelism(1).name("print").uid("print")


# --- The pipeline ---------------------------------------------------------------------------------------------------


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, count, sink; nothing runs until the job is executed."""
    # Partitions that have an end are not idle, they end.
    strategy = watermarks(options.max_delay, options.idle_timeout if plan.end is None else 0)
    lines = environment.from_source(kafka_source(options, plan), strategy, f"Kafka topic {options.topic}")
    lines.uid(plan.source_uid)
    rows = count_words(batch_lines(lines, options.window), options.window)
    if options.output:
        write_files(rows, options.output)
    else:
        print_rows(rows)


def main() -> None:
    parser = JobParser("Count the words of a Kafka topic per window of event time.")
    parser.add_argument(
        "--window", type=positive, default=5, metavar="SECONDS", help="length of the windows in event time"
    )
    options = parser.parse_args()
    state = f"counts per window of {options.window} s in {SHARDS} shards"
    run("word_count", build, options, SETTINGS, state)


if __name__ == "__main__":
    main()
