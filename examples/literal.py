"""Chapter one: the word count in its simplest form, one word at a time.

    python examples/literal.py                        # print the counts until Ctrl-C
    python examples/literal.py --output out/
    flink run --python examples/literal.py

A stream job is a picture with arrows: where records come from, what is done to each of them, and where the results go.
`build` draws that picture. Nothing is read while it is drawn; then Flink runs it, for as long as there are records.

This is the classic tutorial's pipeline, with PyFlink's default settings. It is right, and slow: every word crosses
several times from Flink, which is Java, to Python and back. word_count.py counts the same words a thousand times as
fast, survives a null value, and says how many words came too late; here a null value stops the job, and late words are
left out in silence.
"""

import argparse
from collections.abc import Iterable, Iterator

from kafka_job import JobParser, Plan, keep_watermark, positive, run

from pyflink.common import Time, Types
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows

from word_count import utc, watermarks, write_rows  # a time as text, how far event time has come, and the sink

SETTINGS = {"execution.checkpointing.interval": "3 s"}  # without checkpoints no file would ever be visible


def split(line: str) -> list[str]:
    return line.split()


def with_one(word: str) -> tuple[str, int]:
    return word, 1


def word_of(pair: tuple[str, int]) -> str:
    return pair[0]


def add(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
    return left[0], left[1] + right[1]


class MakeRow(ProcessWindowFunction):
    """Adds the window to its result: reduce alone would give ("hello", 3), and nobody could tell of which 5 seconds."""

    def process(
        self, word: str, context: ProcessWindowFunction.Context, pairs: Iterable[tuple[str, int]]
    ) -> Iterator[str]:
        for _, count in pairs:  # one pair, which reduce has made of all
            yield f"{utc(context.window().start)}\t{word}\t{count}"


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """The picture: source, count, sink."""
    # The source: each record of the topic is a line of text.
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(options.bootstrap_servers)
        .set_topics(options.topic)
        .set_group_id(options.group_id)
        .set_value_only_deserializer(SimpleStringSchema())
    )
    source = plan.configure(builder).build()  # from where to where this run reads

    # Event time is the time that a record carries, not the time at which it is read. The watermark says how far event
    # time has come; it is what closes a window.
    strategy = watermarks(options.max_delay, plan.idle_timeout)
    lines = environment.from_source(source, strategy, f"Kafka topic {options.topic}").uid(plan.source_uid)

    # flat_map makes none, one or many records of each; map makes exactly one. The output type says how a record is
    # written down on its way to another process; without one, Python's pickle is used.
    words = lines.flat_map(split, output_type=Types.STRING()).name("split").uid("split")
    ones = words.map(with_one, output_type=Types.TUPLE([Types.STRING(), Types.LONG()])).name("with one").uid("with-one")

    # key_by sends all pairs of a word to the same worker, so that one place sees all of them. That is a shuffle.
    # keep_watermark is ours: after a restart Flink would have forgotten how far event time had come.
    by_word = keep_watermark(ones.key_by(word_of, key_type=Types.STRING()))

    # A window collects the pairs of 5 seconds of event time; reduce adds up two of them until one is left.
    rows = (
        by_word.window(TumblingEventTimeWindows.of(Time.seconds(options.window)))
        .reduce(add, MakeRow(), output_type=Types.STRING())
        .name(f"count per {options.window} s window")
        .uid("count")
    )

    # The sink: files, or the screen.
    write_rows(rows, options.output)


def main() -> None:
    parser = JobParser("Count the words of a Kafka topic per window of event time, one word at a time.")
    parser.add_argument("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows")
    options = parser.parse_args()
    run("literal", build, options, SETTINGS, state=f"literal counts per window of {options.window} s")


if __name__ == "__main__":
    main()
