"""Run the job for some minutes at a steady rate: does its memory grow, and how old is a record when its row is visible?

    make soak                                        # 10 minutes
    python benchmarks/soak.py --minutes 1 --rate 50

Writes benchmarks/results/soak.md. Wrong counts are an error.
"""

import argparse
import calendar
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from kafka import KafkaProducer

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tools"), str(ROOT / "tests")]

from broker import create_topic, embedded_broker  # noqa: E402
from support import Record, expected_counts, read_files  # noqa: E402

WINDOW = 5  # seconds, the job's default
WORDS = [f"word{number}" for number in range(1000)]


def resident(pid: int) -> float:
    """The memory that a process has, in MB (Linux only)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def child(pid: int) -> int:
    """The id of the only child of a process: the JVM of the job."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def produce(bootstrap_servers: str, topic: str, rate: int, until: float) -> Iterator[Record]:
    """Send `rate` lines of ten words a second, evenly; what was sent."""
    shuffle = random.Random(1)
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    start, number = time.time(), 0
    while time.time() < until:
        timestamp = int(time.time() * 1000)
        value = " ".join(shuffle.choices(WORDS, k=10)).encode()
        producer.send(topic, value, timestamp_ms=timestamp)
        yield Record(value, timestamp)
        number += 1
        time.sleep(max(0.0, start + number / rate - time.time()))
    producer.close()


def watch(output: Path, visible: dict[str, float], stop: threading.Event) -> None:
    """Note when each window's first row is visible."""
    seen: set[Path] = set()
    while not stop.wait(0.1):
        for file in set(output.rglob("[!.]*")) - seen:
            if file.is_dir():
                continue
            seen.add(file)
            for line in file.read_text().splitlines():
                visible.setdefault(line.partition("\t")[0], time.time())


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the job for some minutes at a steady rate.")
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="lines of ten words a second (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary, embedded_broker() as broker:
        output, topic = Path(temporary, "out"), "soak"
        create_topic(broker.bootstrap_servers, topic)
        command = [sys.executable, ROOT / "word_count.py", "--topic", topic, "--output", output]
        command += ["--bootstrap-servers", broker.bootstrap_servers, "--checkpoint-dir", Path(temporary, "checkpoints")]
        job = subprocess.Popen(command)
        visible: dict[str, float] = {}
        stop = threading.Event()
        watcher = threading.Thread(target=watch, args=(output, visible, stop))
        watcher.start()
        records, samples, begin = [], [], time.time()
        for record in produce(broker.bootstrap_servers, topic, arguments.rate, begin + arguments.minutes * 60):
            records.append(record)
            if time.time() - begin >= 30 * (len(samples) + 1):
                samples.append((time.time() - begin, resident(child(job.pid)), resident(job.pid)))
                print(
                    f"{samples[-1][0]:5.0f} s: JVM {samples[-1][1]:.0f} MB, Python {samples[-1][2]:.0f} MB", flush=True
                )
        time.sleep(WINDOW + 5)  # rows that are visible before the stop are those of a job that goes on
        stop.set()
        watcher.join()
        job.terminate()
        if job.wait(60) or read_files(output) != expected_counts(records):
            sys.exit("The counts are wrong.")
    starts = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(r.timestamp // 1000 // WINDOW * WINDOW)) for r in records]
    up = min(visible.values())  # what came before the first row waited for the start of the job
    ages = [
        visible[start] - record.timestamp / 1000
        for start, record in zip(starts, records, strict=True)
        if start in visible and record.timestamp / 1000 > up
    ]
    percent = quantiles(ages, n=100)
    ends = {start: calendar.timegm(time.strptime(start, "%Y-%m-%dT%H:%M:%SZ")) + WINDOW for start in set(starts)}
    delays = sorted(visible[start] - end for start, end in ends.items() if start in visible and end > up)
    lines = [
        f"`python benchmarks/soak.py --minutes {arguments.minutes:g} --rate {arguments.rate}`: {len(records)} lines of"
        " ten words, checkpoints every 3 s, all counts right.",
        "",
        f"From a record's timestamp to its window's row in a visible file: p50 {percent[49]:.1f} s, p99"
        f" {percent[98]:.1f} s (the window itself is {WINDOW} s). From a window's end to its row in a visible file:"
        f" median {delays[len(delays) // 2]:.1f} s, at most {delays[-1]:.1f} s.",
        "",
        "| seconds | JVM, MB | Python, MB |",
        "|---|---|---|",
        *(f"| {seconds:.0f} | {java:.0f} | {python:.0f} |" for seconds, java, python in samples),
    ]
    print("\n".join(lines))
    (ROOT / "benchmarks" / "results").mkdir(exist_ok=True)
    (ROOT / "benchmarks" / "results" / "soak.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
