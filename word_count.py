"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                                         # print the counts until Ctrl-C
    python word_count.py --output out/                           # write them to files
    python word_count.py --output out/ --bounded                 # stop at the topic's present end
    python word_count.py --output out/ --checkpoint-dir kept/    # the same command goes on after a crash
    flink run --python word_count.py                             # the same job on a cluster

A row has the start of its window (UTC), a word, and its count, with tabs between them:

    2026-11-22T14:00:05Z    hello    3

Two things make it fast. Lines go to Python in batches, since a call from Flink, which is Java, costs 30 microseconds;
a batch is of one window, and waits at most until that closes or a checkpoint begins. And the key, by which Flink
groups, is not a word but a shard of words, since each key is work for Flink. (What is new to you: docs/tutorial.md.)
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated
from zlib import crc32

from kafka_job import JobOptions, Plan, batch_lines, keep_watermark, report_late, run

from pyflink.common import Duration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows

SETTINGS = {  # Flink's configuration; run() has the same by default, they stand here to be seen
    "execution.checkpointing.interval": "3 s",  # each hands on lines that wait, shows files, commits offsets
    "pipeline.object-reuse": "true",  # no copies between steps; so no step may change what it is given
    "python.execution-mode": "thread",  # Python functions run inside Flink's JVM, not in processes of their own
}


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The command line: a field is a flag. JobOptions has those that every job has: --topic, --output and so on."""

    window: Annotated[int, "length of the windows in seconds"] = 5


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Put the steps together; nothing runs yet. It is run() that makes both environment and plan, and then executes."""
    lines = read_lines(environment, options, plan)  # Row(b"hello hello"), Row(b"world")
    batches = batch_lines(lines, options.window)  # [b"hello hello\nworld\n"] at 14:00:09.999, where their window ends
    shards = count_batches(batches)  # (6, {"hello": 2}), (67, {"world": 1})
    rows = count_windows(shards, options.window)  # "2026-11-22T14:00:05Z\thello\t2\n...": all rows of a shard, one text
    write_rows(rows, options.output)


def read_lines(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> DataStream:
    """The topic's values, as Rows of one field: bytes, or null. Event time is the timestamp that Kafka has of each."""
    source = KafkaSource.builder().set_bootstrap_servers(options.bootstrap_servers)
    source.set_topics(options.topic).set_group_id(options.group_id)
    # The watermark is how far event time has come: the newest time less --max-delay, in the slowest partition.
    watermarks = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(options.max_delay))
    # Only the plan knows where to begin and where to end. Its read() adds both, a deserializer, a uid and an idle
    # timeout, and leaves out records whose time is too far ahead (--max-ahead).
    return plan.read(environment, source, watermarks)  # in it: environment.from_source(source.build(), watermarks, ...)


Counts = tuple[int, Counter[str]]  # a shard, and how often each of its words was seen
COUNTS = Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()])  # in Flink's types; by default all is pickled
SHARDS = 128  # no more workers than this can share the count


def count_batches(batches: DataStream) -> KeyedStream:
    """Count the words of each batch, then bring the counts of a shard to one place."""
    # A name() is for Flink's web UI; by its uid() a checkpoint finds the state of a step again.
    words = batches.map(count_words).name("count words").uid("count-words")  # {"hello": 2, "world": 1}
    counts = words.flat_map(in_shards, output_type=COUNTS).name("in shards").uid("in-shards")
    shards = counts.key_by(lambda pair: pair[0], key_type=Types.INT())
    # Flink's checkpoints leave the watermark out, so after a restart late words would open closed windows again.
    return keep_watermark(shards)  # same pairs, same keys; but now the watermark is in the checkpoints, too


def count_words(batch: list[bytes]) -> Counter[str]:
    """How often each word is in a batch, which comes in pieces of 200 kB or so: these fit the processor's cache."""
    return Counter(chain.from_iterable(map(split, batch)))


def split(lines: bytes) -> list[str]:
    """The words: what is between white space. Bytes that are not UTF-8 become U+FFFD."""
    return lines.decode("utf-8", errors="replace").split()


def in_shards(words: Counter[str]) -> Iterable[Counts]:
    """Each word once, with its count, in the shard that it always belongs to."""
    shards: dict[int, Counter[str]] = defaultdict(Counter)
    for word, count in words.items():
        shards[crc32(word.encode()) % SHARDS][word] = count  # not hash(word): it differs from process to process
    return shards.items()


def count_windows(shards: KeyedStream, window: int) -> DataStream:
    """Add up the counts of a shard in each window of event time; rows come out when the watermark closes it."""
    late = OutputTag("late")  # marks counts whose window has closed
    windows = shards.window(TumblingEventTimeWindows.of(Time.seconds(window))).side_output_late_data(late)
    # Flink calls add as counts come, and MakeRows when the window closes.
    rows = windows.reduce(add, MakeRows(), output_type=Types.STRING()).name(f"count per {window} s window")
    rows.uid(f"count-in-{SHARDS}-shards")  # with another number, old state would have words in the wrong shards
    report_late(rows, late, lambda pair: pair[1].total())  # how many words is said on stderr at the end
    return rows


def add(left: Counts, right: Counts) -> Counts:
    """The counts of two batches, as one."""
    counts = left[1].copy()  # since a reduce function must not change what it is given
    counts.update(right[1])  # this adds, since it is a Counter; a dict would replace
    return left[0], counts


class MakeRows(ProcessWindowFunction):
    """Makes rows, as one text, when a window closes: Flink says which, and has in `added` one pair, all added up."""

    def process(self, shard: int, context: ProcessWindowFunction.Context, added: Iterable[Counts]) -> Iterator[str]:
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(context.window().start // 1000))
        for _, counts in added:
            yield "\n".join(f"{start}\t{word}\t{count}" for word, count in counts.items())


def write_rows(rows: DataStream, folder: str | None) -> None:
    """Write rows to `folder`/DAY/counts-….tsv, or print them where no folder is given."""
    if not folder:
        rows.print().set_parallelism(1).name("print").uid("print")  # else a number stands before each text
        return
    sink = FileSink.for_row_format(folder, Encoder.simple_string_encoder("UTF-8"))
    sink.with_bucket_assigner(BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd", "UTC"))  # the day of writing
    names = OutputFileConfig.builder().with_part_prefix("counts").with_part_suffix(".tsv").build()
    # Files become visible at each checkpoint; by default they stay hidden for a minute.
    sink.with_output_file_config(names).with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
    rows.sink_to(sink.build()).name("write files").uid("write-files")


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic per window of event time.")
    # With checkpoints the text of state= is kept: a run with another one, as for other windows, does not take them.
    run("word_count", build, options, state=f"counts per window of {options.window} s", settings=SETTINGS)


if __name__ == "__main__":
    main()
