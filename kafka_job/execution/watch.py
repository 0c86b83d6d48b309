"""What goes wrong while a local run goes on, said as soon as it is seen: Flink itself would only log it."""

import contextlib
import re
import shutil
import sys
import time
from pathlib import Path

from kafka_job.execution.job import Job
from kafka_job.flink import running as flink
from kafka_job.flink.gateway import Jvm, log_file
from kafka_job.flink.output import stdout_is_gone
from kafka_job.flink.snapshots import METADATA
from kafka_job.kafka.checks import check_kafka
from kafka_job.pipeline.sinks import TRANSACTION_TIMEOUT
from kafka_job.pipeline.source import Plan
from kafka_job.resume.folder import record_start, topic_of
from kafka_job.terminal import say, utc

from py4j.protocol import Py4JJavaError
from pyflink.common import JobClient

ASK = 5.0  # seconds between two questions to Flink
ASK_KAFKA = 60.0  # the same, to the broker; each costs some 5 kB of log
LOST = re.compile(r".*\.failedCommittables")  # commits of transactions, since the job has started or begun again
LITTLE = 100 * 2**20  # bytes that are left on a disk


class AnotherTopic(SystemExit):
    """The topic that is read was created again: no checkpoint of the former one is of use."""


class Watch:
    """Looks after one job."""

    def __init__(self, running: JobClient, jvm: Jvm, folder: Path, job: Job, plan: Plan, made: int = 0) -> None:
        """`folder`: of its checkpoints; `made`: when the one was made that it goes on from, in ms since the epoch."""
        self.running, self.jvm, self.folder, self.job, self.plan = running, jvm, folder, job, plan
        files = (job.options.output or "").removeprefix("file://")
        self.folders = [folder, Path(files)] if files and "://" not in files else [folder]
        self.asked = self.asked_kafka = time.monotonic()
        self.wrong_with_kafka = ""
        self.has_checkpoint = self.had_task_manager = False
        self.lost = 0  # transactions
        self.restored = 0  # when the job has last gone on from a checkpoint, in milliseconds since the epoch
        self.made = made  # when the newest checkpoint was made
        self.failed = 0  # when the newest failure was that is known, in milliseconds since the epoch

    def look(self) -> None:
        """Say what is new; exits with one sentence where the run cannot go on."""
        self.check_stdout()
        if time.monotonic() < self.asked + ASK:
            return
        self.asked = time.monotonic()
        for metadata in [] if self.has_checkpoint else self.folder.glob(f"*/chk-*/{METADATA}"):
            self.note(str(metadata.parent))
        with contextlib.suppress(OSError, LookupError, Py4JJavaError):  # it starts, or has ended
            has_task_manager = flink.has_task_manager(self.running)
            if self.had_task_manager and not has_task_manager and not flink.has_ended(self.running):
                sys.exit(f"The part of Flink that runs the job has ended. All of Flink's log is in {log_file()}")
            self.had_task_manager = has_task_manager
            self.say_failures()
            self.say_lost_rows()
        if self.asked > self.asked_kafka + ASK_KAFKA:
            self.say_what_is_wrong_with_kafka()
            self.asked_kafka = time.monotonic()

    def check_stdout(self) -> None:
        """Exit with one sentence where rows could not be printed."""
        if self.rows_are_lost():
            rest = "rows since the last checkpoint come again, older ones that nobody has read do not"
            sys.exit(stdout_is_gone(self.jvm.stdout.failure, rest))

    def rows_are_lost(self) -> bool:
        """Whether rows could not be printed; what a function prints is no row."""
        return bool(self.jvm.stdout.failure and not self.job.options.rows_go_to())

    def note(self, checkpoint: str) -> None:
        """Note that there was a checkpoint: a next run that finds none must not begin anew."""
        with contextlib.suppress(OSError):  # a full disk; then Flink cannot go on for long either
            record_start(self.folder, self.plan.start, checkpoint)
            self.has_checkpoint = True

    def say_what_is_wrong_with_kafka(self) -> None:
        """Say, once, that the broker or a topic is gone, for which the job's Kafka clients wait; or is there again.

        Exits with one sentence where the topic that is read is another one by now.
        """
        topic, sentence, what, ids = self.job.options.topic, "", "", {}
        try:
            ids = check_kafka(self.job.broker, self.job.rights)
        except SystemExit as error:
            sentence = str(error)
            what = re.split(r" \(|;", sentence)[0]  # behind it are other topics, which come and go
        if what != self.wrong_with_kafka:
            say(f"The job waits: {sentence}" if what else "The job waits for the broker no more.")
        self.wrong_with_kafka = what
        if topic in ids and str(ids[topic]) != topic_of(self.folder):
            mend = "begin anew: --start earliest (and another --checkpoint-dir)"
            raise AnotherTopic(f"The topic {topic} was deleted and created again; {mend}")

    def say_failures(self) -> None:
        """Say why a checkpoint has failed, or the job, which goes on from its last checkpoint."""
        url = flink.job_url(self.running)
        latest = flink.get_json(f"{url}/checkpoints")["latest"]
        failures = flink.get_json(f"{url}/exceptions?maxExceptions=1")["exceptionHistory"]["entries"]
        found = {one["timestamp"]: flink.why_it_failed(one["stacktrace"]) for one in failures}
        if latest["failed"] and not flink.NO_NEWS.search(latest["failed"]["failure_message"]):
            found[latest["failed"]["failure_timestamp"]] = latest["failed"]["failure_message"]
        last = latest["completed"]
        good = f"of {utc(last['trigger_timestamp'])}" if last else "none yet"
        new = [timestamp for timestamp in found if timestamp > self.failed]
        if new:  # the first one is the cause of the others
            why = found[min(new)].partition("\n\tat ")[0] + "".join(map(state_of, self.folders))
            say(f"Flink tries again (newest checkpoint: {good}): {why}")
            self.failed = max(new)

    def say_lost_rows(self) -> None:
        """Say that a broker has aborted what should be committed. Flink only logs it.

        Where a job goes on from a checkpoint, it commits once more what is in there. What was committed before a broker
        of Kafka 4 refuses, as what it has aborted. It aborts only what is open for longer than TRANSACTION_TIMEOUT.
        """
        topics = [topic for topic, right in self.job.rights.items() if right == "WRITE"]
        if not topics:
            return
        try:
            url = flink.job_url(self.running)
            lost = sum(int(metric["sum"]) for metric in flink.metrics_of(url, LOST))
            latest = flink.get_json(f"{url}/checkpoints")["latest"]
            interval = flink.get_json(f"{url}/checkpoints/config")["interval"]
        except (OSError, LookupError, Py4JJavaError):  # as in `look`
            return
        restored = latest["restored"]["restore_timestamp"] if latest["restored"] else 0
        made = latest["completed"]["trigger_timestamp"] if latest["completed"] else 0
        to_topics, within = f"the topic {' or '.join(topics)}", f"within {TRANSACTION_TIMEOUT // 60_000} minutes"
        goes_on = restored > self.restored
        new = lost - (0 if goes_on else self.lost)  # Flink counts anew
        was_open = restored - self.made + interval  # for so long at most
        if new > 0 and not goes_on and made >= restored:
            why = f"not committed {within}, or aborted by another job or hand"
            say(f"Rows are missing in {to_topics}: transactions were {why} ({new}).")
        elif new > 0 and self.made and was_open > TRANSACTION_TIMEOUT:
            why = f"the checkpoint of {utc(self.made)} was not gone on from {within}"
            say(f"Rows may be missing in {to_topics}: {why}, and transactions in it cannot be committed ({lost}).")
        self.lost, self.restored = lost, restored
        if made > restored:
            self.made = made


def state_of(folder: Path) -> str:
    """In words, what is wrong with a folder that Flink writes to: nothing, most often."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f" ({folder}: {error.strerror})"
    return f" (disk of {folder}: {free // 1024:,} kB are left)" if free < LITTLE else ""
