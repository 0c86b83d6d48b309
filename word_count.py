"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                                         # print the counts until Ctrl-C
    python word_count.py --output out/                           # write them to files
    python word_count.py --output out/ --bounded                 # stop at the end that the topic has now
    python word_count.py --output out/ --checkpoint-dir kept/    # the same command goes on after a crash
    flink run --python word_count.py                             # the same job on a cluster

A result is a row of three fields with tabs between them: start of the window (UTC), word, count.

    2026-11-22T14:00:05Z    hello    3

Read it from top to bottom: where lines come from, how their words are counted, where the counts go, and the pipeline
that joins the three. If streams are new to you, begin with docs/tutorial.md, which says what event time, a watermark, a
window and a key are. Its first chapter is examples/literal.py, the same job in its simplest form.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from zlib import crc32

from kafka_job import JobParser, Plan, batch_lines, keep_watermark, line_schema, positive, report, run

from pyflink.common import Duration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows

SETTINGS = {  # Flink's configuration
    "execution.checkpointing.interval": "3 s",  # files become visible, and offsets are committed, at each checkpoint
    "pipeline.object-reuse": "true",  # no copies on the way from step to step; none of ours changes what it is given
    "python.execution-mode": "thread",  # Python functions run inside Flink's JVM, not in processes of their own
}
SHARDS = 128  # groups of words; no more workers than this can share the count
LATE = OutputTag("late")  # marks pairs that came after their window had closed

Pair = tuple[int, Counter[str]]  # a shard, and how often each of its words was seen: (6, {"hello": 2})


def watermarks(max_delay: int, idle_timeout: int) -> WatermarkStrategy:
    """How far event time has come: the latest timestamp that was seen, less `max_delay` seconds.

    With 0 that is `for_monotonous_timestamps`. The slowest partition decides; one without records for `idle_timeout`
    seconds has no say (0: it always has one).
    """
    strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(max_delay))
    return strategy.with_idleness(Duration.of_seconds(idle_timeout)) if idle_timeout else strategy


def read_lines(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> DataStream:
    """The topic's lines, with the timestamps of their records, and watermarks between them."""
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_topics(options.topic)
        .set_group_id(options.group_id)
        .set_value_only_deserializer(line_schema())  # SimpleStringSchema would fail on a null value
    )
    source = plan.configure(builder).build()  # the plan says where this run begins to read, and where it ends
    strategy = watermarks(options.max_delay, plan.idle_timeout)  # in a bounded run no partition turns idle
    lines = environment.from_source(source, strategy, f"Kafka topic {options.topic}")
    return lines.uid(plan.source_uid)  # a uid is the name by which a checkpoint finds the state of a step again


# Now the classic steps: flat_map, map, key_by, window, reduce. In the classic job a record is one word, its own key.
# Here a record is a batch of lines, since a call from Flink's JVM to Python costs as much for one line as for 100,000.
# And the key is a shard of the words, since Flink has work to do for each key of each window.


def split_lines(lines: bytes) -> list[str]:
    """The words of a batch of lines: what is between white space. Bytes that are not UTF-8 become U+FFFD."""
    return lines.decode("utf-8", errors="replace").split()


def count_by_shard(words: Iterable[str]) -> Iterable[Pair]:
    """Each word once, with its count, in the shard that it always belongs to."""
    shards: dict[int, Counter[str]] = defaultdict(Counter)
    for word, count in Counter(words).items():
        shards[crc32(word.encode()) % SHARDS][word] = count  # not hash(word): it differs from process to process
    return shards.items()


def key_by_shard(batches: DataStream) -> KeyedStream:
    """Split and count the words of each batch, then bring all counts of a shard to one place."""
    # b"hello hello\nworld\n" -> ["hello", "hello", "world"]
    words = batches.map(split_lines).name("split into words").uid("split-lines")
    # -> (6, {"hello": 2}), (67, {"world": 1}); Flink has no type for a Counter, so Python's pickle writes it down
    pairs = words.flat_map(count_by_shard, output_type=Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()]))
    pairs.name("count in batch").uid("count-by-shard")
    # Flink forgets in a restart how far event time had come; a late word would open its closed window again.
    return keep_watermark(pairs.key_by(lambda pair: pair[0], key_type=Types.INT()))


def add_counts(left: Pair, right: Pair) -> Pair:
    counts = left[1].copy()  # what reduce is given may be Flink's own, so it is not changed
    counts.update(right[1])
    return left[0], counts


def utc(milliseconds: int) -> str:
    """A time since the epoch as text: 2026-11-22T14:00:05Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds // 1000))


class MakeRows(ProcessWindowFunction):
    """Adds to each count the start of its window, which reduce does not know.

    The rows of a shard are one text: each record that goes back to the JVM costs more than what is in it.
    """

    def process(self, shard: int, context: ProcessWindowFunction.Context, pairs: Iterable[Pair]) -> Iterator[str]:
        start = utc(context.window().start)
        for _, counts in pairs:  # one pair, which reduce has made of all
            yield "\n".join([f"{start}\t{word}\t{count}" for word, count in counts.items()])


def count_words(batches: DataStream, window: int) -> DataStream:
    """Count words per window of `window` seconds: batches of lines come in, rows go out when their window closes."""
    rows = (
        key_by_shard(batches)
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .side_output_late_data(LATE)
        .reduce(add_counts, MakeRows(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\thello\t3"
        .name(f"count per {window} s window")
        .uid(f"count-in-{SHARDS}-shards")  # with another number of shards it is another state
    )

    late = rows.get_side_output(LATE).name("late").uid("late")
    late_words = late.map(lambda pair: pair[1].total(), output_type=Types.LONG()).name("number of words")
    report(late_words, "lateWords", "Words that came after their windows had closed, not counted (--max-delay)")
    return rows


def write_rows(rows: DataStream, folder: str | None) -> None:
    """Write rows to `folder`/DAY/counts-….tsv, or print them where no folder is given.

    A file that is visible is complete: a checkpoint has committed it.
    """
    if not folder:
        # With one subtask Flink does not put the subtask's number before each row.
        rows.print().set_parallelism(1).name("print").uid("print")
        return
    sink = (
        FileSink.for_row_format(folder, Encoder.simple_string_encoder("UTF-8"))
        .with_bucket_assigner(BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd", "UTC"))  # no folder grows for ever
        .with_output_file_config(OutputFileConfig.builder().with_part_prefix("counts").with_part_suffix(".tsv").build())
        # A file is complete at each checkpoint; by default it would stay hidden until it is 60 s old or has 128 MB.
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    rows.sink_to(sink).name("write files").uid("write-files")


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, count, sink. This only draws the pipeline; `run` lets Flink execute it."""
    lines = read_lines(environment, options, plan)
    batches = batch_lines(lines, options.window)
    rows = count_words(batches, options.window)
    write_rows(rows, options.output)


def main() -> None:
    parser = JobParser("Count the words of a Kafka topic per window of event time.")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    options = parser.parse_args()
    # By this text a checkpoint is known again: a run with other windows or shards does not go on from it.
    state = f"counts per window of {options.window} s in {SHARDS} shards"
    run("word_count", build, options, SETTINGS, state)


if __name__ == "__main__":
    main()
