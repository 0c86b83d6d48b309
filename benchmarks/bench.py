"""How many words a second? The job beside the literal pipeline, Flink's Java API, and the source alone.

    make bench                             # all of it, half an hour
    python benchmarks/bench.py --quick     # the comparison, with one run each and less input; under 3 minutes
    python benchmarks/bench.py --scale     # other inputs: more words, longer lines, more partitions; ten minutes

Every run is a whole process that reads a topic from its first record to its last; each kind of job takes its turn in
every round. Words a second are those of the input, divided by the seconds that the run took longer than the same job
takes for a topic of ten lines (its start and end). The rows of every run are compared with a count made while the input
was generated; wrong rows end the benchmark. Writes benchmarks/results/bench.md, scale.md and bench.png (with --quick:
quick.md and quick.png). Linux only.
"""

import argparse
import contextlib
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import median

import pyflink
from kafka import KafkaAdminClient, KafkaProducer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]

import runner  # noqa: E402
from broker import embedded_broker  # noqa: E402
from support import get_json  # noqa: E402

RESULTS = HERE / "results"
START = 1_700_000_000_000  # event time of the first record, milliseconds
LINES_PER_SECOND = 20_000  # of event time: a window of 5 s has 100,000 lines
WINDOW = 5_000  # milliseconds
TICK = 1 / os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Input:
    """A topic, what it holds, and what must come out."""

    topic: str
    lines: int
    words: int
    rows: Counter[str]


@dataclass
class Run:
    """What one process, with those that it has started, has used."""

    seconds: float
    cpu: float  # seconds
    java: float  # peak of resident memory, MB
    python: float
    heap: float  # peak of what is in use in Java's heap, MB


@dataclass
class Job:
    """A kind of job: how it is started, on which input, and its runs."""

    name: str
    command: Callable[[str, str, Path], list[str | Path]]  # bootstrap servers, topic, output
    input: Input
    has_rows: bool = True
    runs: list[Run] = field(default_factory=list)
    starts: list[Run] = field(default_factory=list)  # on the topic of ten lines

    def rates(self) -> list[float]:
        """Words a second of each run, start-up taken off."""
        start = median(run.seconds for run in self.starts)
        return [self.input.words / (run.seconds - start) for run in self.runs]


def generate(servers: str, lines: int, words_per_line: int = 10, vocabulary: int = 1000, partitions: int = 1) -> Input:
    """A new topic of lines with Zipf-distributed words, always the same ones, evenly over event time."""
    topic = f"{lines}-lines-{words_per_line}-of-{vocabulary}-words-{partitions}"
    say(f"generating {topic}")
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        settings = {"num_partitions": partitions, "replication_factor": 1, "configs": {"retention.ms": "-1"}}
        admin.create_topics({topic: settings}, wait_for_metadata=True)
    shuffle = random.Random(1)
    words = [f"word{number}" for number in range(vocabulary)]
    weights = list(accumulate(1 / (number + 1) for number in range(vocabulary)))
    per_second = max(1, LINES_PER_SECOND * 10 // words_per_line)
    counts: dict[int, Counter[str]] = {}
    with contextlib.closing(KafkaProducer(bootstrap_servers=servers, batch_size=1 << 18, linger_ms=50)) as producer:
        for number in range(lines):
            line = shuffle.choices(words, cum_weights=weights, k=words_per_line)
            timestamp = START + number * 1000 // per_second
            counts.setdefault(timestamp // WINDOW * WINDOW, Counter()).update(line)
            producer.send(topic, " ".join(line).encode(), partition=number % partitions, timestamp_ms=timestamp)
    rows: Counter[str] = Counter()
    for window, found in counts.items():
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(window // 1000))
        rows.update(f"{start}\t{word}\t{count}" for word, count in found.items())
    return Input(topic, lines, lines * words_per_line, rows)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def cpu_of(pid: int) -> float:
    """The CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def peak_of(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000


def session(leader: int) -> list[tuple[int, str]]:
    """Ids and names of all processes of a session."""
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "-s", str(leader)], capture_output=True, text=True).stdout
    return [(int(line.split()[0]), line.split()[1]) for line in listed.splitlines()]


def heap_of(web_ui: str | None) -> float:
    """What is in use in the heap of the JVM behind a web UI, in MB; 0 if it does not answer."""
    with contextlib.suppress(OSError, urllib.error.URLError, ValueError, IndexError, TypeError):
        [metric] = get_json(f"{web_ui}/jobmanager/metrics?get=Status.JVM.Memory.Heap.Used")
        return float(metric["value"]) / 1e6
    return 0.0


def measure(command: list[str | Path]) -> Run:
    """Run a command in a session of its own, and look at its processes while it runs.

    Raises:
        SystemExit: the command has failed.
    """
    cpu: dict[int, float] = {}
    memory = {"java": 0.0, "python": 0.0}
    heap = 0.0
    web_ui = None
    with tempfile.TemporaryFile() as stderr:
        begin = time.monotonic()
        # In ROOT: 'python -c' imports from the working directory.
        process = subprocess.Popen(command, cwd=ROOT, stdout=stderr, stderr=stderr, start_new_session=True)
        try:
            while process.poll() is None:
                for pid, name in session(process.pid):
                    with contextlib.suppress(OSError, ValueError, IndexError):
                        cpu[pid] = cpu_of(pid)
                        kind = "java" if name == "java" else "python"
                        memory[kind] = max(memory[kind], peak_of(pid))
                if web_ui is None:
                    stderr.seek(0)
                    found = re.search(rb"http://localhost:\d+", stderr.read())
                    web_ui = found[0].decode() if found else None
                else:
                    heap = max(heap, heap_of(web_ui))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SAMPLE_EVERY)
            seconds = time.monotonic() - begin
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        if process.returncode:
            stderr.seek(0)
            sys.exit(f"{command} has failed:\n{stderr.read().decode(errors='replace')[-3000:]}")
    return Run(seconds, sum(cpu.values()), memory["java"], memory["python"], heap)


def run_once(job: Job, servers: str, given: Input) -> Run:
    """One run of a job on some input.

    Raises:
        SystemExit: its rows are wrong.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        output = Path(temporary, "out")
        run = measure(job.command(servers, given.topic, output))
        if job.has_rows:
            rows: Counter[str] = Counter()
            for file in output.rglob("*"):
                if file.is_file() and not file.name.startswith("."):
                    rows.update(file.read_text("utf-8").splitlines())
            if rows != given.rows:
                sys.exit(f"{job.name} has written wrong rows for {given.topic}.")
    return run


# A local run has one subtask; more are for a cluster, or, to see what they bring, for this.
IN_PARALLEL = """
import runner, runpy, sys
runner.LOCAL_SETTINGS["parallelism.default"] = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def word_count(*flags: str, parallelism: int = 1) -> Callable[[str, str, Path], list[str | Path]]:
    """The command of our job with some flags."""

    def command(servers: str, topic: str, output: Path) -> list[str | Path]:
        where = ["--bootstrap-servers", servers, "--topic", topic, "--output", output]
        python = [sys.executable] if parallelism == 1 else [sys.executable, "-c", IN_PARALLEL, str(parallelism)]
        return [*python, ROOT / "word_count.py", "--bounded", "--start", "earliest", *where, *flags]

    return command


def java_peer(folder: Path) -> Callable[[str, str, Path], list[str | Path]] | None:
    """The command of the Java job, compiled into a folder; None where there is no Java compiler."""
    javac = shutil.which("javac")
    if not javac:
        say("no javac on PATH: the Java job is skipped (install a JDK, 11 or newer, to have it)")
        return None
    classpath = f"{Path(pyflink.__file__).parent}/lib/*:{runner.find_connector()}"
    subprocess.run([javac, "-d", folder, "-cp", classpath, HERE / "WordCount.java"], check=True)
    java = Path(javac).resolve().with_name("java")
    quiet = f"-Dlog4j.configurationFile={Path(pyflink.__file__).parent}/conf/log4j-console.properties"
    start = [java, quiet, f"-Dlog.file={folder}/java.log", "-cp", f"{folder}:{classpath}", "WordCount"]
    return lambda *where: [*start, *where]


def compare(jobs: list[Job], servers: str, tiny: Input, rounds: int) -> None:
    """Let the jobs take turns; each also runs on the tiny topic."""
    for number in range(rounds):
        for job in jobs:
            job.starts.append(run_once(job, servers, tiny))
            job.runs.append(run_once(job, servers, job.input))
            say(
                f"round {number + 1} of {rounds}: {job.name}: {job.runs[-1].seconds:.1f} s for {job.input.words} words,"
                f" {job.starts[-1].seconds:.1f} s for ten lines"
            )


def machine() -> str:
    """What the numbers were measured on."""
    model = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].lstrip("\t :")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}"
    )


def thousands(number: float) -> str:
    return f"{round(number, -3):,.0f}" if number >= 10_000 else f"{round(number, -1):,.0f}"


def table_of(jobs: list[Job]) -> list[str]:
    """The comparison as Markdown."""
    literal = median(jobs[0].rates())
    java = next((median(job.rates()) for job in jobs if job.name == "Java DataStream"), None)
    table = [
        "| job | words/s: median | min | max | x literal | x Java | start and end, s | CPU s for 1 M words "
        "| JVM, MB | heap, MB | script, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for job in jobs:
        rates = sorted(job.rates())
        middle = median(rates)
        start_cpu = median(run.cpu for run in job.starts)
        cpu = median((run.cpu - start_cpu) / job.input.words * 1e6 for run in job.runs)
        memory = [median(getattr(run, kind) for run in job.runs) for kind in ("java", "heap", "python")]
        table.append(
            f"| {job.name} | {thousands(middle)} | {thousands(rates[0])} | {thousands(rates[-1])}"
            f" | {middle / literal:,.0f} | {f'{middle / java:.2f}' if java else '-'}"
            f" | {median(run.seconds for run in job.starts):.1f} | {cpu:.2f} | "
            + " | ".join(f"{size:.0f}" if size else "-" for size in memory)
            + " |"
        )
    return table


def draw(jobs: list[Job], file: Path) -> None:
    """The comparison as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.6 * len(jobs) + 1.2))
    names, rates = [job.name for job in jobs], [median(job.rates()) for job in jobs]
    bars = axes.barh(names, rates, color=["#999999", "#3776ab", "#3776ab", "#e76f00", "#cccccc"][: len(jobs)])
    axes.bar_label(bars, [f" {thousands(rate)} ({rate / rates[0]:,.0f} x)" for rate in rates])
    axes.set_xscale("log")
    axes.set_xlim(right=max(rates) * 8)
    axes.invert_yaxis()
    axes.set_xlabel("words a second, start-up taken off (log scale); in brackets: times the literal pipeline")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def scale(servers: str, big: Input, starts: dict[str, float]) -> list[str]:
    """Both APIs against parallelism, number of different words, length of lines, and amount of input."""
    table = [
        "| input | words | parallelism | DataStream, words/s | JVM, MB | heap, MB "
        "| SQL, words/s | JVM, MB | heap, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def row(title: str, given: Input, parallelism: int = 1) -> None:
        cells = []
        for api in ("datastream", "sql"):
            run = run_once(Job(api, word_count("--api", api, parallelism=parallelism), given), servers, given)
            taken = run.seconds - starts[api]  # below a second it says nothing: starts differ by as much
            rate = thousands(given.words / taken) if taken > 1 else f"more than {thousands(given.words)}"
            cells += [rate, f"{run.java:.0f}", f"{run.heap:.0f}"]
            say(f"{title}, parallelism {parallelism}, {api}: {rate} words/s")
        table.append(f"| {title} | {given.words:,} | {parallelism} | {' | '.join(cells)} |")

    four = generate(servers, big.lines // 2, partitions=4)
    for parallelism in (1, 2, 4):
        row("4 partitions", four, parallelism)
    for share in (4, 2):
        row(f"{big.lines // share:,} lines", generate(servers, big.lines // share))
    row(f"{big.lines:,} lines", big)
    for vocabulary in (100_000, 1_000_000):
        row(f"{vocabulary:,} different words", generate(servers, big.lines // 8, vocabulary=vocabulary))
    row("lines of 1 word", generate(servers, big.lines * 3 // 2, words_per_line=1))
    row("lines of 1,000 words", generate(servers, big.lines // 100, words_per_line=1000))
    return table


def job_comparison(servers: str, classes: Path, quick: bool) -> None:
    """Let all jobs run in turn; write the table and the picture."""
    big_lines, small_lines, rounds = (500_000, 1_500, 1) if quick else (2_000_000, 10_000, 3)
    tiny, small, big = (generate(servers, lines) for lines in (10, small_lines, big_lines))
    literal, ceiling = [sys.executable, HERE / "literal.py"], [sys.executable, HERE / "ceiling.py"]
    jobs = [
        Job("literal PyFlink", lambda *where: [*literal, *where], small),
        Job("word_count.py", word_count(), big),
        Job("word_count.py --api sql", word_count("--api", "sql"), big),
    ]
    if java := java_peer(classes):
        jobs.append(Job("Java DataStream", java, big))
    jobs.append(Job("source alone", lambda servers, topic, output: [*ceiling, servers, topic], big, has_rows=False))
    compare(jobs, servers, tiny, rounds)
    name = "quick" if quick else "bench"
    lines = [
        f"`python benchmarks/bench.py{' --quick' if quick else ''}` on {machine()}; runs of each in turn: {rounds}.",
        f"{big_lines:,} lines of 10 words ({small_lines:,} for the literal pipeline), 1,000 Zipf-distributed words,",
        f"{LINES_PER_SECOND:,} lines a second of event time, windows of 5 s, one partition, parallelism 1.",
        "All rows of all runs were right.",
        "",
        *table_of(jobs),
    ]
    print("\n".join(lines))
    (RESULTS / f"{name}.md").write_text("\n".join([*lines, "", f"![words a second]({name}.png)"]) + "\n")
    draw(jobs, RESULTS / f"{name}.png")


def scale_table(servers: str) -> None:
    """See how both APIs do on other inputs; write the table."""
    tiny, big = generate(servers, 10), generate(servers, 2_000_000)
    starts = {}
    for api in ("datastream", "sql"):
        job = Job(api, word_count("--api", api), tiny)
        starts[api] = median(run_once(job, servers, tiny).seconds for _ in range(3))
    lines = [f"`python benchmarks/bench.py --scale` on {machine()}; one run each.", "", *scale(servers, big, starts)]
    print("\n".join(lines))
    (RESULTS / "scale.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure words a second, side by side.")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--quick", action="store_true", help="only the comparison, one run each, on less input")
    parts.add_argument("--scale", action="store_true", help="only the scale table")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-classes-") as classes, embedded_broker() as broker:
        if not arguments.scale:
            job_comparison(broker.bootstrap_servers, Path(classes), arguments.quick)
    if not arguments.quick:
        with embedded_broker() as broker:
            scale_table(broker.bootstrap_servers)


if __name__ == "__main__":
    main()
