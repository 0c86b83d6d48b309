"""A random walk over one topic: records, starts, stops, kills, outages, in an order that nobody has thought of.

    pytest -m chaos tests/test_walk.py                  # a walk of 20 steps; prints its seed, and each step
    WALK_STEPS=60 CHAOS_SEED=7 pytest -m chaos -s tests/test_walk.py

model.py says what must hold after each step. A run that was not killed exits with 0, and says nothing unknown.

Three kinds of time. "held": partitions hold windows back for ever (--idle-timeout 0), and time goes on; nothing is
late, and windows close while the job runs. "delayed": records are out of order, by less than --max-delay. "late": by
more. The same seed makes the same choices, but not at the same moments of the job.
"""

import os
import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from broker import Broker
from conftest import CHAOS_SEED, Job, Topic
from model import INVALID, LATE, NULLS, Kind, Model
from support import SCRIPT, SQL, START, TOTALS, Record, expected_counts, slow_script, wait_for

pytestmark = pytest.mark.chaos
STEPS = int(os.environ.get("WALK_STEPS", "20"))
TIMEOUT = 150  # seconds for what takes a few on a machine that has nothing else to do

GOOD = ("Going on from ", "The last run with ", "Flink's web UI is on ", "Still stopping: ", "Stopped: ")
GOOD += (LATE, NULLS, INVALID)
UNCOMMITTED = "All rows are written, but their offsets could not be committed"
LOST = "Flink's JVM has ended"


def random_kind(chaos: random.Random) -> Kind:
    when = chaos.choice(["held", "delayed", "late"])
    max_delay = {"held": 0, "delayed": 100_000, "late": chaos.choice([0, 5])}[when]
    idle_timeout = 0 if when == "held" else chaos.choice([0, 1, 5])
    script = chaos.choice([SCRIPT, SCRIPT, SQL, TOTALS])
    return Kind(script, when, max_delay, idle_timeout, chaos.random() < 0.5, chaos.randint(1, 3))


class Walk:
    """The steps, and what they need to know of the job that runs."""

    def __init__(
        self, kind: Kind, chaos: random.Random, broker: Broker, start_process: Callable[..., Job], folder: Path
    ) -> None:
        self.kind, self.chaos, self.broker, self.start_process, self.folder = kind, chaos, broker, start_process, folder
        self.script = slow_script(folder).with_name(kind.script.name) if kind.slow else kind.script
        self.checkpoints = folder / "checkpoints"
        self.topic = Topic(broker.bootstrap_servers, kind.partitions)
        self.model = Model(kind, folder / "out")
        self.clock = START
        self.job: Job | None = None
        self.bounded = False
        self.known = 0  # partitions that were there when the job started
        self.goal: list[int] = []  # the ends of the partitions when the job started
        self.runs = 0
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f}  {text}", flush=True)

    def step(self) -> None:
        steps: dict[Callable[[], None], int] = {self.restart_broker: 1}
        if self.job is None:
            steps |= {self.start: 6, self.start_bounded: 3, self.produce: 5, self.add_partition: 1}
        elif self.bounded:
            steps |= {self.finish: 4, self.stop: 1, self.stop_and_kill: 1, self.kill: 4}
            del steps[self.restart_broker]  # it would have to end with an error
        else:
            steps |= {self.stop: 4, self.stop_and_kill: 2, self.kill: 4, self.wait_until_read: 3, self.produce: 7}
            steps |= {self.add_partition: 1, self.stop_in_an_outage: 1}
        self.chaos.choices(list(steps), list(steps.values()))[0]()
        self.model.check()

    # --- What comes in ---

    def produce(self) -> None:
        """A few records, or many; from time to time their time leaps."""
        number = self.chaos.choice([1, 5, 50, 3_000])
        self.clock += self.chaos.choice([0, 0, 20_000])
        # Those of a partition that is not yet found are late for partitions that hold windows back.
        partitions = self.known if self.job and self.kind.time == "held" else len(self.model.records)
        chosen = self.chaos.sample(range(partitions), self.chaos.randint(1, partitions))
        behind = 0 if self.kind.time == "held" else self.chaos.choice([0, 0.3, 1, 1])
        self.say(f"produce {number} records into {chosen} from {self.clock - START} ms on, {behind:.0%} behind")
        pace = 20 if number > 50 else 1_000
        self.send([self.record(self.chaos.choice(chosen), pace, self.chaos.random() < behind) for _ in range(number)])

    def record(self, partition: int, pace: int, is_behind: bool) -> Record:
        self.clock += self.chaos.randint(0, pace)
        behind = self.chaos.randint(0, 60_000) if is_behind else 0
        line = " ".join(f"word{self.chaos.randrange(20)}" for _ in range(self.chaos.randint(0, 5))).encode()
        value = self.chaos.choices([line, None, b"broken \xff\xc3 line"], [30, 1, 1])[0]
        return Record(value, self.clock - behind, partition, key=b"key")  # a null value needs one

    def send(self, records: list[Record]) -> None:
        self.topic.produce(records)
        for record in records:
            self.model.records[record.partition].append(record)

    def add_partition(self) -> None:
        number = len(self.model.records)
        if number == 5:
            return
        self.say(f"add partition {number}")
        with KafkaAdminClient(bootstrap_servers=self.topic.bootstrap_servers) as admin:
            admin.create_partitions({self.topic.name: number + 1})
            wait_for(lambda: len(admin.describe_topics([self.topic.name])[0]["partitions"]) > number, "the partition")
        self.model.records.append([])
        self.model.skipped.append(0)

    # --- Runs ---

    def start(self, *more: str) -> None:
        flags = [*more, "--start", self.chaos.choice(["committed", "earliest", "latest"])]
        if self.chaos.random() < 0.5:
            flags.append("--no-drain")
        self.say(f"start {' '.join(flags)}")
        flags += ["--max-delay", str(self.kind.max_delay), "--idle-timeout", str(self.kind.idle_timeout)]
        folders = ["--output", str(self.model.output), "--checkpoint-dir", str(self.checkpoints)]
        self.runs += 1
        logs = self.folder / f"log-{self.runs}"
        logs.mkdir()
        noted = self.checkpoints / "start.json"
        decides = not noted.exists()  # else a former run has begun, and this one goes on
        arguments = [*self.topic.arguments(), *folders, *flags]
        self.job = self.start_process(*arguments, script=self.script, FLINK_LOG_DIR=str(logs))
        self.bounded = "--bounded" in flags
        self.goal = [len(records) for records in self.model.records]
        self.known = len(self.goal)
        if decides and "latest" in flags:  # only now it is known what that means
            self.job.until(noted.exists, "its start", TIMEOUT)
            self.model.skipped = list(self.goal)

    def start_bounded(self) -> None:
        self.start("--bounded")

    def wait_until_read(self) -> None:
        """Then time may leap: no older record is still on its way."""
        every = len(self.model.records)
        tick = self.clock = (self.clock // 1000 + 2) * 1000
        self.say(f"a tick at {tick - START} ms; wait until all is read, and windows that it closes are written")
        ready = self.known if self.kind.time == "held" else every
        self.send([Record(b"tick", tick, partition) for partition in range(ready)])
        ends = [len(records) for records in self.model.records]
        self.job.until(lambda: self.committed() == ends, f"offsets {ends}", TIMEOUT)
        if self.kind.time != "late" and self.known == every:
            closed = (tick // 1000 - self.kind.max_delay) // self.kind.window * self.kind.window * 1000
            records = [record for record in self.model.read(ends) if record.timestamp < closed]
            self.job.until(lambda: self.has(records), "the rows of closed windows", TIMEOUT)
        self.clock += self.chaos.choice([0, 3 * self.kind.max_delay * 1000])

    def has(self, records: list[Record]) -> bool:
        self.model.look()
        counts = self.model.counts()
        return all(counts.get(row, 0) >= count for row, count in expected_counts(records, self.kind.window).items())

    def finish(self) -> None:
        self.say("wait for the end of the bounded run")
        self.job.process.wait(TIMEOUT)
        self.ended()

    def stop(self) -> None:
        self.send_signal(self.chaos.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        self.ended()

    def send_signal(self, number: signal.Signals) -> None:
        """As a terminal does, to all processes; from the moment on when the run knows what to do then."""
        wait_for(lambda: self.job.process.poll() is not None or self.catches(signal.SIGTERM), "its start", TIMEOUT)
        self.moment()
        self.say(f"{number.name} to the group")
        with suppress(ProcessLookupError):
            os.killpg(self.job.process.pid, number)

    def catches(self, number: signal.Signals) -> bool:
        status = Path(f"/proc/{self.job.process.pid}/status").read_text()
        return bool(int(re.search(r"SigCgt:\s+(\w+)", status)[1], 16) >> (number - 1) & 1)

    def moment(self) -> None:
        """The random moment of a fault."""
        time.sleep(self.chaos.choice([0, self.chaos.uniform(0, 4), self.chaos.uniform(4, 12)]))

    def stop_and_kill(self) -> None:
        self.send_signal(signal.SIGINT)
        self.kill(may_drain=True)

    def kill(self, may_drain: bool = False) -> None:
        self.moment()
        part = self.chaos.choice(["Python", "JVM", "both", "both"] + ["second Ctrl-C"] * may_drain)
        self.say(f"kill -9: {part}")
        java = self.java()
        savepoints = set(self.checkpoints.glob("savepoint-*/_metadata"))
        with suppress(ProcessLookupError):
            if part == "both":
                os.killpg(self.job.process.pid, signal.SIGKILL)
            elif part == "JVM":
                os.kill(java or self.job.process.pid, signal.SIGKILL)
            else:
                os.kill(self.job.process.pid, signal.SIGKILL if part == "Python" else signal.SIGINT)
        code = self.job.process.wait(TIMEOUT)
        if code == 0:  # it was over before
            return self.ended()
        assert code in (-9, 130) or self.job.stderr.read_text().splitlines()[-1].startswith(LOST)
        if may_drain or self.bounded:
            wait_for(lambda: not java or not Path(f"/proc/{java}").exists(), "the end of the JVM", TIMEOUT)
            self.killed_in_stop(drained=bool(set(self.checkpoints.glob("savepoint-*/_metadata")) - savepoints))
        self.job = None

    def java(self) -> int | None:
        with suppress(ValueError):
            return self.job.java()
        return None

    def killed_in_stop(self, drained: bool) -> None:
        self.say(f"the stop was {'done' if drained else 'not done'}")
        self.model.drains += drained
        self.model.all_said &= not drained  # what was said may be lost with the process that says it

    def ended(self, outage: bool = False) -> None:
        """Check a run that nobody has killed."""
        ended, self.job = self.job.wait(TIMEOUT), None
        said = ended.stderr.splitlines()
        uncommitted = outage and said[-1].startswith(UNCOMMITTED)
        assert ended.code == (1 if uncommitted else 0), ended.stderr
        assert all(line.startswith(GOOD) for line in said[: len(said) - uncommitted]), ended.stderr
        for line in said:
            sentence, _, number = line.rpartition(": ")
            if sentence in (LATE, NULLS, INVALID):
                self.model.said[sentence] += int(number)
        read = self.committed()
        self.say(f"ended, read {read}, {' | '.join(said[1:])}")
        if self.bounded and "Stopped: " not in ended.stderr:
            assert all(offset >= end for offset, end in zip(read, self.goal, strict=False)), (read, self.goal)
        if uncommitted:  # nobody says then whether it was drained
            self.model.drains += 1
        elif "open windows are in " not in ended.stderr:
            self.model.check_drained(read)

    def committed(self) -> list[int]:
        """The offsets of the group."""

        def ask() -> dict[TopicPartition, OffsetAndMetadata]:
            # A broker that has just started may not know yet who looks after the group.
            with suppress(KafkaError), KafkaAdminClient(bootstrap_servers=self.topic.bootstrap_servers) as admin:
                return admin.list_group_offsets([self.topic.name])[self.topic.name]

        offsets = {one.partition: found.offset for one, found in wait_for(ask, "the group's offsets").items()}
        return [offsets.get(partition, 0) for partition in range(len(self.model.records))]

    def restart_broker(self, stop: bool = False) -> None:
        crash, seconds = self.chaos.random() < 0.5, self.chaos.uniform(0, 6)
        if self.job:  # before, it would end with an error
            self.job.until(lambda: "web UI" in self.job.stderr.read_text(), "its start", TIMEOUT)
        self.say(f"{'kill' if crash else 'stop'} the broker, start it again after {seconds:.1f} s")
        (self.broker.kill if crash else self.broker.stop)()
        if stop:
            self.send_signal(signal.SIGTERM)
        time.sleep(seconds)
        self.broker.start()
        if stop:
            self.ended(outage=True)

    def stop_in_an_outage(self) -> None:
        self.restart_broker(stop=True)


def test_walk(chaos: random.Random, own_broker: Broker, start_process: Callable[..., Job], tmp_path: Path) -> None:
    """In processes of their own, which are killed."""
    kind = random_kind(chaos)
    walk = Walk(kind, chaos, own_broker, start_process, tmp_path)
    walk.say(f"CHAOS_SEED={CHAOS_SEED} {replace(kind, script=kind.script.name)} in {tmp_path}")
    for _ in range(STEPS):
        walk.step()
    if walk.job:
        walk.kill(may_drain=False)
    walk.start("--bounded")
    walk.finish()
    assert walk.committed() == [len(records) for records in walk.model.records]
