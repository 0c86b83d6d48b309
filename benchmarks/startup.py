"""Where the seconds of a short run go: `python word_count.py --bounded --output out/` on a topic of ten lines.

    python benchmarks/startup.py             # three runs of each job

Reads the times from Flink's own log, prints the medians, and writes benchmarks/results/startup.md.
"""

import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tools"))

from bench import Command, all_jobs, generate, machine, say  # noqa: E402

from broker import embedded_broker  # noqa: E402

RUNS = 3
PHASES = (  # what ends with the first line of the log that holds this text
    ("start: Python's imports, the JVM", ""),
    ("ask the broker, build the job", "Starting Flink Mini Cluster"),
    ("Flink's mini cluster", "Received job submission"),
    ("deploy the job", "Received task "),
    ("tasks: start Python, compile, connect, read, count, last checkpoint", "switched from state RUNNING to FINISHED"),
)
NAMES = (*(name for name, _ in PHASES), "end: Flink and the JVM stop", "**all**", "until the first visible row")


def seconds_of(line: str) -> float:
    """The time of a line of Flink's log, in seconds since the epoch."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def read_log(folder: Path) -> list[str]:
    """The lines of Flink's log; the Java job writes it to the console."""
    lines = [line for file in folder.glob("*.log") for line in file.read_text().splitlines()]
    return [line for line in lines if line[:2] == "20" and line[23:24] == " "]


def first_row(output: Path) -> float:
    """When the first file became visible, in seconds since the epoch: it is renamed then, which sets its ctime."""
    return min(file.stat().st_ctime for file in output.rglob("*") if file.is_file() and file.name[0] != ".")


def run(command: Command, servers: str, topic: str, folder: Path) -> list[float]:
    """The seconds of each of NAMES."""
    output, logs = folder / "out", folder / "logs"
    logs.mkdir()
    begin = time.time()
    with (logs / "console.log").open("w") as console:
        subprocess.run(
            command(servers, topic, output),
            env=os.environ | {"FLINK_LOG_DIR": str(logs)},
            check=True,
            stdout=console,
            stderr=subprocess.DEVNULL,
        )
    end = time.time()
    lines = read_log(logs)
    ends = [next(seconds_of(line) for line in lines if text in line) for _, text in PHASES]
    phases = [later - earlier for earlier, later in pairwise([begin, *ends, end])]
    return [*phases, end - begin, first_row(output) - begin]


def main() -> None:
    with embedded_broker() as broker, tempfile.TemporaryDirectory(prefix="startup-") as temporary:
        topic = generate(broker.bootstrap_servers, 10).topic
        medians = {}
        for job in all_jobs(Path(temporary)):
            if job.name not in ("word_count.py", "word_count_sql.py", "Java DataStream"):
                continue
            runs = []
            for number in range(RUNS):
                with tempfile.TemporaryDirectory(dir=temporary) as folder:
                    runs.append(run(job.command, broker.bootstrap_servers, topic, Path(folder)))
                say(f"{job.name}, run {number + 1} of {RUNS}: {runs[-1][-2]:.1f} s")
            medians[job.name] = [median(values) for values in zip(*runs, strict=True)]
    lines = [
        f"`python benchmarks/startup.py` on {machine()}; medians of {RUNS} runs, in seconds.",
        "The scripts have an archive of Java classes (tools/class_archive.py), the Java job has none.",
        "",
        f"| what | {' | '.join(medians)} |",
        "|---" * (1 + len(medians)) + "|",
        *(
            f"| {name} | {' | '.join(f'{seconds:.1f}' for seconds in row)} |"
            for name, *row in zip(NAMES, *medians.values(), strict=True)
        ),
    ]
    print("\n".join(lines))
    (HERE / "results" / "startup.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
