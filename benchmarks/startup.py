"""Where the seconds of a short run go: `python word_count.py --bounded --output out/` on a topic of ten lines.

    python benchmarks/startup.py             # three runs of each API

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

from kafka import KafkaAdminClient, KafkaProducer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(ROOT), str(ROOT / "tools")]

from broker import embedded_broker  # noqa: E402

from bench import machine, say  # noqa: E402

RUNS = 3
TOPIC = "ten-lines"
PHASES = (  # what ends with the first line of the log that holds this text
    ("Python: imports, checks, start of the JVM", ""),
    ("build the job", "Starting Flink Mini Cluster"),
    ("Flink's mini cluster", "Received job submission"),
    ("deploy the job", "Received task "),
    (
        "tasks: start Python or compile SQL, connect, read, count, last checkpoint",
        "switched from state RUNNING to FINISHED",
    ),
)


def seconds_of(line: str) -> float:
    """The time of a line of Flink's log, in seconds since the epoch."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def first_row(output: Path) -> float | None:
    """When the first visible file was written, in seconds since the epoch."""
    times = [file.stat().st_mtime for file in output.rglob("counts-*.tsv")]
    return min(times) if times else None


def run(servers: str, api: str, folder: Path) -> list[float]:
    """The seconds of each phase, of the end, of the whole, and until the first visible row."""
    output, log = folder / "out", folder / "log"
    log.mkdir()
    where = ["--bootstrap-servers", servers, "--topic", TOPIC, "--start", "earliest", "--output", output]
    command = [sys.executable, ROOT / "word_count.py", "--bounded", "--api", api, *where]
    begin = time.time()
    subprocess.run(command, env=os.environ | {"FLINK_LOG_DIR": str(log)}, check=True, stderr=subprocess.DEVNULL)
    end = time.time()
    [file] = log.glob("*.log")
    lines = [line for line in file.read_text().splitlines() if line[:2] == "20" and line[23:24] == " "]
    times = [begin]
    for _, text in PHASES:
        times.append(next(seconds_of(line) for line in lines if text in line))
    times.append(end)
    return [
        *(later - earlier for earlier, later in pairwise(times)),
        end - begin,
        first_row(output) - begin,
    ]


def main() -> None:
    with embedded_broker() as broker, tempfile.TemporaryDirectory(prefix="startup-") as temporary:
        servers = broker.bootstrap_servers
        with KafkaAdminClient(bootstrap_servers=servers) as admin:
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        producer = KafkaProducer(bootstrap_servers=servers)
        for _ in range(10):
            producer.send(TOPIC, b"hello world")
        producer.close()
        medians = {}
        for api in ("datastream", "sql"):
            runs = []
            for number in range(RUNS):
                folder = Path(temporary, f"{api}-{number}")
                folder.mkdir()
                runs.append(run(servers, api, folder))
                say(f"{api}, run {number + 1} of {RUNS}: {runs[-1][-2]:.1f} s")
            medians[api] = [median(values) for values in zip(*runs, strict=True)]
    names = [*(name for name, _ in PHASES), "end: Flink and the JVM stop", "**all**", "until the first visible row"]
    lines = [
        f"`python benchmarks/startup.py` on {machine()}; medians of {RUNS} runs, in seconds.",
        "",
        "| what | DataStream | SQL |",
        "|---|---|---|",
        *(f"| {name} | {a:.1f} | {b:.1f} |" for name, a, b in zip(names, *medians.values(), strict=True)),
    ]
    print("\n".join(lines))
    (HERE / "results" / "startup.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
