"""A local run: a job on a Flink of our own, until all is read, or until it is asked to stop."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from kafka_job.execution.job import RESTARTS, Job, said_in_one_sentence
from kafka_job.execution.watch import AnotherTopic, Watch
from kafka_job.flink import running as flink
from kafka_job.flink.gateway import REFUSE_UPLOADS, SIGNALS, Jvm
from kafka_job.flink.output import stdout_is_gone, to_stdout
from kafka_job.flink.snapshots import METADATA, Unreadable
from kafka_job.kafka.broker import Offsets, Refused, commit_offsets
from kafka_job.pipeline.source import Plan
from kafka_job.resume.folder import made_at, newest_checkpoint, record_start, taken
from kafka_job.resume.plans import checkpoint_offsets, plan_in
from kafka_job.terminal import say

from py4j.protocol import Py4JError, Py4JJavaError
from pyflink.common import JobClient

SETTINGS = {
    "parallelism.default": "1",  # all Python functions share one process; more subtasks do not help
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "2",  # somebody is waiting at the screen
    # What fails a minute after the last time is most often a broker that is away: Kafka's client waits so long. Go on.
    "restart-strategy.exponential-delay.reset-backoff-threshold": "50 s",
    "python.executable": sys.executable,  # else Flink takes whatever 'python' is first on PATH
    # All that Flink listens on is for this machine only.
    "rest.bind-address": "localhost",
    "jobmanager.bind-host": "localhost",  # else its blob server listens on all interfaces
    "rest.bind-port": "8081,0",  # of the web UI; any free port where 8081 is taken
    # The web UI takes no jobs: any page in a browser, and anyone on this machine, can send it requests.
    "web.submit.enable": "false",
    "web.cancel.enable": "false",
    "web.rescale.enable": "false",
    "web.upload.dir": str(REFUSE_UPLOADS),
    "web.access-control-allow-origin": "",  # no page of another origin may read what it shows
    "rest.async.store-duration": "3 s",  # at its end Flink waits so long for whoever has stopped the job through it
    "classloader.check-leaked-classloader": "false",  # else a good run ends with a stack trace of Kafka's AdminClient
    "metrics.fetcher.update-interval": "200",  # milliseconds; by default records_handed_on would see old numbers
    # The savepoint of a stop is the run's last checkpoint: no other one follows it.
    "execution.checkpointing.checkpoints-after-tasks-finish": "false",
    "execution.checkpointing.timeout": "1 d",  # a stop ends with a checkpoint, after all open windows were written
    # All parts of Flink are in one process. One that does not answer was asleep, as a laptop is whose lid was closed.
    "heartbeat.timeout": "7 d",
}


class Stop:
    """Asks a run to stop in good order, as Ctrl-C does."""

    def __init__(self) -> None:
        # No threading.Event: a signal in the middle of the main thread's wait would let it wait for itself, for ever.
        self.requested = False
        self.running: JobClient | None = None  # the job, as soon as it runs
        self.last_words = ""  # what to say where a second signal ends the program

    def request(self) -> None:
        self.requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep; whether a stop is requested."""
        time.sleep(seconds)
        return self.requested

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let the first of SIGNALS ask for the stop of the `with` block; the second ends the program, exit code 130."""
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
            yield
            return
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # Not print: it may have been interrupted by this very signal.
            with contextlib.suppress(OSError):
                os.write(2, self.last_words.encode())
            os._exit(130)
        self.requested = True


def run_locally(job: Job, jvm: Jvm, live: bool, stop: Stop) -> None:
    """Run a job until all is read that it should read, or until Ctrl-C, SIGTERM or SIGHUP, or until `stop` asks for it.

    Either way it is stopped with a savepoint, which has state and offsets. `live`: whether rows are shown as a table.
    """
    options = job.options
    settings = {**RESTARTS, **SETTINGS, **job.settings}
    table = None
    if live:
        from kafka_job.execution.live import LiveTable  # only here: other runs do without the time that it takes

        table = LiveTable(jvm)
    # Another job may have been here before.
    jvm.stdout.hand_on, jvm.stdout.failure = table.read if table else to_stdout, None
    kept = checkpoint_folder(options.checkpoint_dir, stop)
    with stop.on_signals(), kept as folder, said_in_one_sentence(folder), taken(folder):
        plan, recovery = plan_in(folder, options, job.broker, job.state, on_cluster=False)
        environment = job.pipeline(plan, settings, recovery)
        record_start(folder, plan.start, recovery.checkpoint)
        made = made_at(Path(recovery.checkpoint)) if recovery.checkpoint else 0
        stop.running = running = environment.execute_async(job.name)
        watch = Watch(running, jvm, folder, job, plan, made)
        with contextlib.suppress(Py4JJavaError):  # it has ended already
            say(f"Flink's web UI is on {flink.rest_address(running)} while the job runs.")
        try:
            with flink.failure_of(running), table.shown(flink.job_url(running)) if table else contextlib.nullcontext():
                all_read = wait_for_end(running, plan, stop, watch)
                watch.say_lost_rows()  # a short run ends before the first look
                leave_open = options.no_drain and not all_read
                keys = "Ctrl-C, pressed twice," if all_read else "a second Ctrl-C"
                savepoint = flink.stop_with_savepoint(running, folder, not leave_open, watch.look, keys)
                watch.note(savepoint)
                if not options.rows_go_to():  # some may wait for who reads them, and are in the savepoint all the same
                    rest = "count as written" if options.checkpoint_dir else "come again in the next run"
                    stop.last_words = f"Not all rows are printed; those that are not {rest}.\n"
        finally:
            for end in (lambda: flink.crash(running), jvm.wait_for_output):
                with contextlib.suppress(Py4JError, OSError):  # the JVM has ended, or Flink takes too long to end
                    end()
        if watch.rows_are_lost() and not recovery.checkpoint:  # all is over, and not all is printed: begin anew
            shutil.rmtree(savepoint.removeprefix("file:"))
            record_start(folder, plan.start, None)
            commit(job, plan.start)
            sys.exit(stdout_is_gone(jvm.stdout.failure))
        watch.check_stdout()
        commit(job, plan.start | checkpoint_offsets(savepoint, plan.topic))
        if not all_read:
            windows = f"in {savepoint.removeprefix('file:')}" if leave_open else "written"
            say(f"Stopped: open windows are {windows}, files and offsets are committed.")


@contextlib.contextmanager
def checkpoint_folder(name: str | None, stop: Stop) -> Iterator[Path]:
    """A folder for checkpoints; without a name one that goes with a good run, and that a bad one names at its end."""
    if name:
        yield Path(name).resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    go_on = f"Nothing of what was read is lost: the same command goes on with --checkpoint-dir {folder}"
    stop.last_words = f"{go_on}\n"
    try:
        yield folder
    except SystemExit as error:
        if isinstance(error.code, str) and not isinstance(error, AnotherTopic) and newest_checkpoint(folder):
            raise SystemExit(f"{error.code}\n{go_on}") from None
        stop.last_words = ""
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stop.last_words = ""  # all is written: from a folder that is half deleted, it would be written again
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_end(running: JobClient, plan: Plan, stop: Stop, watch: Watch) -> bool:
    """Wait until a plan with an end has read all, or until a stop is requested; whether it has read all.

    Where Flink ends a bounded job by itself, it leaves no state to go on from. So for Flink no source has an end, and
    here checkpoints are made, when nothing more seems to come, until one of them has read up to the end of the plan.
    """
    start = next_look = time.monotonic()
    checkpoint, handed_on = None, 0
    while not stop.wait(0.05):
        if flink.has_ended(running):
            sys.exit(flink.STOPPED_BY_OTHERS)
        watch.look()
        now = time.monotonic()
        if plan.end is None or now < next_look:
            continue
        if checkpoint is None:
            before, handed_on = handed_on, flink.records_handed_on(running)
            if handed_on == before or now - start < 1:
                checkpoint = flink.trigger_checkpoint(running)
            else:
                next_look = now + 0.5  # a checkpoint costs something: none is made for this while there is more to read
        elif checkpoint.isDone():
            if not checkpoint.isCompletedExceptionally() and has_read_all(plan, checkpoint.get()):
                return True
            checkpoint = None
            next_look = now + min(3.0, 0.1 + (now - start) / 4)
    return False


def has_read_all(plan: Plan, checkpoint: str) -> bool:
    """Whether a plan's end was reached in a checkpoint, by its URI."""
    try:
        read = plan.start | checkpoint_offsets(checkpoint, plan.topic)
    except Unreadable:
        if Path(checkpoint.removeprefix("file:"), METADATA).exists():
            raise
        return False  # Flink deletes it, and has begun with that file, since it has a newer one
    return all(read[partition] >= offset for partition, offset in plan.end.items())


def commit(job: Job, offsets: Offsets) -> None:
    """Commit what was read, since the rows are written; exits with one sentence where that cannot be done."""
    options = job.options
    try:
        commit_offsets(job.broker, options.topic, options.group_id, offsets)
    except Refused as error:
        again = "the same command goes on rightly" if options.checkpoint_dir else "the next run writes them again"
        sys.exit(f"All rows are written, but their offsets could not be committed ({error}): {again}")
