"""How old is a record when its window's row is in a visible file? word_count.py beside Flink's Java job.

    python benchmarks/latency.py                 # 1,000 and 100,000 records a second, a minute each; five minutes

Both make a checkpoint every 3 s, with which files become visible. The rows of each window are compared with what was
sent. Writes benchmarks/results/latency.md. Linux only; needs a Java compiler.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles

from bench import RESULTS, SCRIPT, Command, compile_java, java_command, java_job, machine, rows_in, say
from soak import WINDOW, watch

from broker import create_topic, embedded_broker
from support import wait_for

RATES = (1_000, 100_000)  # records a second
BEFORE = 3  # windows that are left out: what came while the job started, and while Java compiled


def follow_topic(servers: str, topic: str, output: Path) -> list[str | Path]:
    """The command of word_count.py, without an end."""
    return [sys.executable, SCRIPT, "--bootstrap-servers", servers, "--topic", topic, "--output", output]


def counted(output: Path) -> Counter[str]:
    """How many words of each window are in visible files, by the window's start."""
    words: Counter[str] = Counter()
    for row in rows_in(output).elements():
        window, _, count = row.split("\t")
        words[window] += int(count)
    return words


def ages(command: Command, pace: list[str | Path], servers: str, topic: str) -> list[float]:
    """Let a job follow a topic while lines are sent; the ages of their records, in seconds.

    Lines come evenly, so each window has a record for each tenth of a second of it.
    """
    create_topic(servers, topic)
    visible: dict[str, float] = {}
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="latency-", ignore_cleanup_errors=True) as temporary:
        output = Path(temporary, "out")
        watcher = threading.Thread(target=watch, args=(output, visible, stop))
        job = subprocess.Popen(command(servers, topic, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            watcher.start()
            sent = subprocess.run([*pace, servers, topic], capture_output=True, text=True, check=True).stdout
            windows = {}
            for line in re.findall(r"^\d+\t\d+$", sent, re.MULTILINE):  # Kafka's client logs to stdout
                start, lines = map(int, line.split("\t"))
                windows[time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start // 1000))] = (start / 1000, lines)
            full = [*windows][BEFORE:-1]  # the last one stays open
            wait_for(lambda: visible.keys() >= {*full}, "the rows", 60)
            found = counted(output)
            if wrong := [start for start in full if found[start] != 10 * windows[start][1]]:
                sys.exit(f"The counts of {wrong} are wrong.")
        finally:
            stop.set()
            job.kill()
            job.wait()
            watcher.join()
    return [visible[start] - windows[start][0] - tenth / 10 for start in full for tenth in range(WINDOW * 10)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure from a record to its row.")
    parser.add_argument("--seconds", type=int, default=60, help="how long each job runs (default: %(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="bench-classes-") as folder, embedded_broker() as broker:
        classes = Path(folder)
        if not compile_java(classes):
            sys.exit("No javac on PATH; install a JDK, 11 or newer")
        jobs = {SCRIPT.name: follow_topic, "Java DataStream": java_job(classes, "follow")}
        lines = [
            f"`python benchmarks/latency.py --seconds {seconds}` on {machine()}; lines of ten words, windows of 5 s,",
            "checkpoints every 3 s; from a record's timestamp to its window's row in a visible file. All counts were",
            "right.",
            "",
            "| records a second | job | p50, s | p99, s |",
            "|---|---|---|---|",
        ]
        for rate in RATES:
            for number, (name, command) in enumerate(jobs.items()):
                pace = [*java_command(classes), "Pace", str(rate), str(seconds)]
                percent = quantiles(ages(command, pace, broker.bootstrap_servers, f"{rate}-{number}"), n=100)
                lines.append(f"| {rate:,} | {name} | {percent[49]:.1f} | {percent[98]:.1f} |")
                say(lines[-1])
    print("\n".join(lines))
    (RESULTS / "latency.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
