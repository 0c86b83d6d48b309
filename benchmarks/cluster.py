"""What does a second TaskManager on the same machine bring? One of one slot, and two, side by side.

    python benchmarks/cluster.py                 # eight minutes

Each has a Python process of its own. Words a second are those of the input, divided by the seconds that the job took
longer than for ten lines, by Flink's clock, so without the client. The rows of every run are compared with a count made
while the input was generated. Writes benchmarks/results/cluster.md. Linux only.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import RESULTS, SCRIPT, Input, generate, machine, rows_in, said, say

from broker import embedded_broker
from conftest import Cluster

TASK_MANAGERS = (1, 2)
INPUTS = {1_000: 3_000_000, 100_000: 1_000_000}  # number of different words -> lines of ten words
INTERVAL = "execution.checkpointing.interval"


@contextlib.contextmanager
def running(task_managers: int) -> Iterator[Cluster]:
    """A cluster of so many TaskManagers with one slot each."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        cluster = Cluster(Path(folder), task_managers, slots=1, settings={INTERVAL: "3 s"})
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def seconds_of(cluster: Cluster, servers: str, given: Input) -> float:
    """How long Flink runs the job for some input; exits where its rows are wrong."""
    with tempfile.TemporaryDirectory(prefix="bench-") as output:
        where = ["--bootstrap-servers", servers, "--topic", given.topic, "--output", output]
        run = ["-p", str(cluster.task_managers), "--python", SCRIPT, "--bounded", "--start", "earliest", *where]
        ended = cluster.flink("run", *run)
        if rows_in(Path(output)) != given.rows:
            sys.exit(f"The rows for {given.topic} are wrong: {ended.stdout}{ended.stderr}")
        job = ended.stdout.partition("Job has been submitted with JobID ")[2].split()[0]
        return cluster.rest(f"/jobs/{job}")["duration"] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one TaskManager and two, side by side.")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each (default: %(default)s)")
    rounds = parser.parse_args().rounds
    os.environ["JVM_ARGS"] = ""  # those of the tests are for short runs
    lines = [
        f"`python benchmarks/cluster.py --rounds {rounds}` on {machine()}; TaskManagers of one slot on this",
        "machine, with as many subtasks; two partitions; the best of all runs. All rows were right.",
        "",
        "| different words | TaskManagers | words/s | x one |",
        "|---|---|---|---|",
    ]
    with embedded_broker() as broker:
        best: dict[tuple[int, int], float] = {}
        for _ in range(rounds):
            for task_managers in TASK_MANAGERS:
                with running(task_managers) as cluster:
                    for words, size in INPUTS.items():
                        ten, all_lines = (
                            generate(broker.bootstrap_servers, number, vocabulary=words, partitions=2)
                            for number in (10, size)
                        )
                        seconds_of(cluster, broker.bootstrap_servers, ten)  # the first job of a cluster takes longer
                        start = seconds_of(cluster, broker.bootstrap_servers, ten)
                        took = seconds_of(cluster, broker.bootstrap_servers, all_lines) - start
                        key = words, task_managers
                        best[key] = max(best.get(key, 0), all_lines.words / took)
                        say(f"{task_managers} TaskManagers, {words:,} different words: {said(best[key])}")
    for (words, task_managers), rate in sorted(best.items()):
        ratio = rate / best[words, 1]
        lines.append(f"| {words:,} | {task_managers} | {said(rate)} | {ratio:.2f} |")
    print("\n".join(lines))
    (RESULTS / "cluster.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
