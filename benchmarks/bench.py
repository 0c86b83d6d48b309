"""How many words a second? The job beside the literal pipeline, Flink's SQL and Java API, and the source alone.

    python benchmarks/bench.py             # the comparison and the other inputs; half an hour
    python benchmarks/bench.py --quick     # every job once, on less input; under 4 minutes
    python benchmarks/bench.py --scale     # only the other inputs: longer lines, more partitions; ten minutes
    python benchmarks/bench.py --steps     # only where the CPU time of a word goes; ten minutes

Every run is a whole process that reads a topic from its first record to its last; each kind of job takes its turn in
every round. Words a second are those of the input, divided by the seconds that the run took longer than the same job
takes for a topic of ten lines (its start and end). The rows of every run are compared with a count made while the input
was generated; wrong rows end the benchmark. Writes benchmarks/results/bench.md, scale.md, steps.md and bench.png (with
--quick: quick.md and quick.png). Linux only.
"""

import argparse
import contextlib
import functools
import math
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
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import median

from kafka_job.flink.connector import find_connector
from kafka_job.flink.gateway import find_java

import pyflink
from kafka import KafkaAdminClient, KafkaProducer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(ROOT / "tools"), str(ROOT / "tests")]

from broker import embedded_broker  # noqa: E402
from support import LITERAL, SCRIPT, SQL, START, TOTALS, get_json  # noqa: E402

RESULTS = HERE / "results"
LINES = {1_000: 4_000_000, 100_000: 1_000_000, 1_000_000: 500_000}  # number of different words -> lines of ten words
STEP_LINES = {1_000: 4_000_000, 100_000: 1_000_000, 1_000_000: 500_000}  # with --steps
QUICK_LINES = {1_000: 500_000, 100_000: 250_000}  # with --quick
LITERAL_SHARE = 400  # the literal pipeline's input is so many times smaller
SCALE_LINES = 2_000_000
ROUNDS = 3
SHORTEST_BAR = 100  # words a second
SOURCE = "source alone"  # a job of timed.py
LINES_PER_SECOND = 20_000  # of event time: a window of 5 s has 100,000 lines
WINDOW = 5_000  # milliseconds
TICK = 1 / os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY = 0.2  # seconds

Command = Callable[[str, str, Path], list[str | Path]]  # bootstrap servers, topic, output -> command line


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
    threads: dict[str, float]  # CPU seconds of Java's threads, by name


@dataclass
class Job:
    """A kind of job: how it is started, on inputs of how many different words, and what it writes."""

    name: str
    color: str  # of its bars; these are colours that the colour-blind can tell apart (Okabe and Ito)
    command: Command
    vocabularies: tuple[int, ...]
    is_right: Callable[[Counter[str], Counter[str]], bool] = Counter.__eq__  # its rows, the counts per window
    share: int = 1  # its input is so many times smaller than that of the others
    starts: list[Run] = field(default_factory=list)  # on the topic of ten lines


@dataclass
class Row:
    """A job on an input, and its runs: a row of the table."""

    job: Job
    input: Input
    runs: list[Run] = field(default_factory=list)

    def rates(self) -> list[float]:
        """Words a second of each run, start-up taken off; the least first."""
        start = median(run.seconds for run in self.job.starts)
        return sorted(rate(self.input.words, run.seconds - start) for run in self.runs)


def rate(words: int, seconds: float) -> float:
    """Words a second; infinite where less than a second remains, which tells nothing: starts differ by as much."""
    return words / seconds if seconds > 1 else math.inf


# --- The input ------------------------------------------------------------------------------------------------------


@functools.cache
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


# --- One run --------------------------------------------------------------------------------------------------------


def cpu_of(pid: int | str) -> float:
    """The CPU seconds that a process has used so far; or a thread, PID/task/ID."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def memory_of(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000


def session(leader: int) -> list[tuple[int, str]]:
    """Ids and names of all processes of a session."""
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "-s", str(leader)], capture_output=True, text=True).stdout
    return [(int(line.split()[0]), line.split()[1]) for line in listed.splitlines()]


def threads_of(pid: int) -> dict[str, float]:
    """The CPU seconds of a process's threads, by id and name."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            found[f"{task.name} {(task / 'comm').read_text().strip()}"] = cpu_of(f"{pid}/task/{task.name}")
    return found


def heap_of(web_ui: str | None) -> float:
    """What is in use in the heap of the JVM behind a web UI, in MB; 0 if it does not answer."""
    with contextlib.suppress(OSError, urllib.error.URLError, ValueError, IndexError, TypeError):
        [metric] = get_json(f"{web_ui}/jobmanager/metrics?get=Status.JVM.Memory.Heap.Used")
        return float(metric["value"]) / 1e6
    return 0.0


def measure(command: list[str | Path], by_thread: bool = False) -> Run:
    """Run a command in a session of its own, and look at its processes while it runs: the script, Java, workers.

    `by_thread`: look at Java's threads, too, which takes some time.

    Raises:
        SystemExit: the command has failed.
    """
    cpu: dict[int, float] = {}
    threads: dict[str, float] = {}
    peak = {"java": 0.0, "python": 0.0}
    heap = 0.0
    web_ui = None
    with tempfile.TemporaryFile() as stderr:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr, start_new_session=True)
        try:
            while process.poll() is None:
                now = {"java": 0.0, "python": 0.0}  # of all processes together; memory that they share counts twice
                for pid, name in session(process.pid):
                    with contextlib.suppress(OSError, ValueError, IndexError):
                        cpu[pid] = cpu_of(pid)
                        threads |= threads_of(pid) if by_thread and name == "java" else {}
                        now["java" if name == "java" else "python"] += memory_of(pid)
                peak = {kind: max(peak[kind], now[kind]) for kind in peak}
                if web_ui is None:
                    found = re.search(rb"http://localhost:\d+", os.pread(stderr.fileno(), 1 << 20, 0))
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
    by_name: dict[str, float] = defaultdict(float)
    for thread, used in threads.items():
        by_name[thread.partition(" ")[2]] += used
    return Run(seconds, sum(cpu.values()), peak["java"], peak["python"], heap, by_name)


def rows_in(output: Path) -> Counter[str]:
    """The rows in the visible files of a folder."""
    rows: Counter[str] = Counter()
    for file in output.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            rows.update(file.read_text("utf-8").splitlines())
    return rows


def run_once(job: Job, servers: str, given: Input, by_thread: bool = False) -> Run:
    """One run of a job on some input.

    Raises:
        SystemExit: its rows are wrong.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        output = Path(temporary, "out")
        run = measure(job.command(servers, given.topic, output), by_thread)
        if not job.is_right(rows_in(output), given.rows):
            sys.exit(f"{job.name} has written wrong rows for {given.topic}.")
    return run


# --- The jobs -------------------------------------------------------------------------------------------------------

# A local run has one subtask; more are for a cluster, or, to see what they bring, for this.
IN_PARALLEL = """
import runpy, sys
from kafka_job.execution import local
local.SETTINGS["parallelism.default"] = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python_job(script: Path, parallelism: int = 1, *flags: str) -> Command:
    """The command of a script that has the flags of word_count.py, and others."""

    def command(servers: str, topic: str, output: Path) -> list[str | Path]:
        where = ["--bootstrap-servers", servers, "--topic", topic, "--output", output]
        python = [sys.executable] if parallelism == 1 else [sys.executable, "-c", IN_PARALLEL, str(parallelism)]
        return [*python, script, "--bounded", "--start", "earliest", *where, *flags]

    return command


def literal_job(servers: str, topic: str, output: Path) -> list[str | Path]:
    """The command of the literal pipeline, which always begins at the first record."""
    return [sys.executable, LITERAL, "--bounded", "--bootstrap-servers", servers, "--topic", topic, "--output", output]


def java_job(folder: Path, *flags: str, name: str = "WordCount") -> Command:
    """The command of the Java job that was compiled into a folder."""
    java = java_command(folder)
    return lambda servers, topic, output: [
        *(*java, name, servers, topic, output, output.with_name("checkpoints"), *flags)
    ]


def java_command(folder: Path) -> list[str | Path]:
    """How a program of ours in Java begins; it runs in the same Java as the Python jobs."""
    quiet = f"-Dlog4j.configurationFile={Path(pyflink.__file__).parent}/conf/log4j-console.properties"
    return [Path(find_java(), "bin", "java"), quiet, f"-Dlog.file={folder}/java.log", "-cp", class_path(folder)]


def class_path(folder: Path) -> str:
    return f"{folder}:{Path(pyflink.__file__).parent}/lib/*:{find_connector()}"


def compile_java(folder: Path) -> bool:
    """Compile the Java programs into a folder; False where there is no Java compiler."""
    javac = shutil.which("javac")
    if javac:
        sources = sorted(HERE.glob("*.java"))
        subprocess.run([javac, "--release", "11", "-d", folder, "-cp", class_path(folder), *sources], check=True)
    else:
        say("no javac on PATH: the Java jobs are skipped (install a JDK, 11 or newer, to have them)")
    return bool(javac)


def totals_are_right(rows: Counter[str], counts: Counter[str]) -> bool:
    """Whether the highest total of each word is the sum of its counts in all windows."""
    expected: Counter[str] = Counter()
    for _, word, count in (row.split("\t") for row in counts):
        expected[word] += int(count)
    totals: Counter[str] = Counter()
    for _, word, total in (row.split("\t") for row in rows):
        totals[word] = max(totals[word], int(total))
    return totals == expected


def timed_job(job: str, vocabularies: tuple[int, ...] = (), times: Path = Path("/tmp")) -> Job:
    """A job of timed.py; it writes what its functions take into `times`."""
    command = python_job(HERE / "timed.py", 1, "--job", job, "--times", str(times))
    is_right = {TOTALS.name: totals_are_right, SOURCE: lambda rows, counts: not rows}.get(job, Counter.__eq__)
    return Job(job, "#cccccc", command, vocabularies, is_right)


def all_jobs(classes: Path) -> list[Job]:
    """What takes part; where there is no Java compiler, without the Java jobs."""
    few, many, very_many = LINES
    jobs = [
        Job("literal PyFlink", "#999999", literal_job, (few,), share=LITERAL_SHARE),
        Job(SCRIPT.name, "#0072b2", python_job(SCRIPT), (few, many, very_many)),
        Job(SQL.name, "#56b4e9", python_job(SQL), (few, many)),
        Job(TOTALS.name, "#009e73", python_job(TOTALS), (many,), is_right=totals_are_right),
        Job("Java DataStream", "#d55e00", java_job(classes), (few, many, very_many)),
        Job("Java, pre-aggregated", "#e69f00", java_job(classes, "pre-aggregate"), (few, many, very_many)),
        Job("Java without Flink", "#000000", java_job(classes, name="ByHand"), (few, many, very_many)),
        timed_job(SOURCE, (few,)),
    ]
    return jobs if compile_java(classes) else [job for job in jobs if not job.name.startswith("Java")]


# --- The comparison -------------------------------------------------------------------------------------------------


def rows_of(jobs: list[Job], servers: str, quick: bool) -> dict[int, list[Row]]:
    """What is compared, by the number of different words; if quick, each job once."""
    rows: dict[int, list[Row]] = {}
    for job in jobs:
        for vocabulary in job.vocabularies[:1] if quick else job.vocabularies:
            lines = (QUICK_LINES if quick else LINES)[vocabulary] // job.share
            rows.setdefault(vocabulary, []).append(Row(job, generate(servers, lines, vocabulary=vocabulary)))
    return rows


def start_once(job: Job, servers: str) -> None:
    """Let a job count ten lines: its start, and its end."""
    job.starts.append(run_once(job, servers, generate(servers, 10)))
    say(f"{job.name}: {job.starts[-1].seconds:.1f} s for ten lines")


def compare(tables: dict[int, list[Row]], jobs: list[Job], servers: str, rounds: int) -> None:
    """Let the jobs take turns."""
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for job in jobs:
            start_once(job, servers)
            for row in (row for rows in tables.values() for row in rows if row.job is job):
                row.runs.append(run_once(job, servers, row.input))
                say(f"{job.name}: {row.runs[-1].seconds:.1f} s for {row.input.topic}")


def machine() -> str:
    """What the numbers were measured on."""
    model = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].lstrip("\t :")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}"
    )


def thousands(number: float) -> str:
    return f"{round(number, -3):,.0f}" if number >= 10_000 else f"{round(number, -1):,.0f}"


def said(words_per_second: float) -> str:
    """A rate for a table."""
    return "too short to tell" if math.isinf(words_per_second) else thousands(words_per_second)


def times(row: Row, other: str, rows: list[Row], form: str) -> str:
    """How many times as fast as another job on words of the same number; '-' where that cannot be said."""
    for one in rows:
        if one.job.name == other:
            ratio = median(row.rates()) / median(one.rates())
            return format(ratio, form) if 0 < ratio < math.inf else "-"  # infinite / infinite is not a number
    return "-"


def table_of(rows: list[Row]) -> list[str]:
    """The jobs on one vocabulary as Markdown."""
    table = [
        "| job | words/s: median | min | max | x literal | x Java | start and end, s | CPU s for 1 M words "
        "| JVM, MB | heap, MB | Python, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rates, starts = row.rates(), row.job.starts
        start_cpu = median(run.cpu for run in starts)
        cpu = median((run.cpu - start_cpu) / row.input.words * 1e6 for run in row.runs)
        memory = [median(getattr(run, kind) for run in row.runs) for kind in ("java", "heap", "python")]
        cells = [
            row.job.name,
            *(said(one) for one in (median(rates), rates[0], rates[-1])),
            times(row, "literal PyFlink", rows, ",.0f"),
            times(row, "Java DataStream", rows, ".2f"),
            f"{median(run.seconds for run in starts):.1f}",
            f"{cpu:.2f}",
            *(f"{size:.0f}" if size else "-" for size in memory),
        ]
        table.append(f"| {' | '.join(cells)} |")
    return table


def draw(tables: dict[int, list[Row]], file: Path) -> None:
    """The comparison as a picture: bars, one below the other, for each number of different words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(rows) + 1 for rows in tables.values()]
    figure, parts = pyplot.subplots(
        len(tables), sharex=True, squeeze=False, height_ratios=heights, figsize=(9, 0.42 * sum(heights) + 0.6)
    )
    for axes, (vocabulary, rows) in zip(parts.flat, tables.items(), strict=True):
        rates = [median(row.rates()) for row in rows]
        lengths = [SHORTEST_BAR if math.isinf(one) else one for one in rates]
        bars = axes.barh([row.job.name for row in rows], lengths, color=[row.job.color for row in rows])
        axes.bar_label(bars, [f" {said(one)}" for one in rates])
        axes.set_title(f"{vocabulary:,} different words", loc="left", fontsize="medium")
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(SHORTEST_BAR, 100_000_000)
    parts[-1, 0].set_xlabel("words a second, start-up taken off (log scale)")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def job_comparison(jobs: list[Job], servers: str, quick: bool) -> None:
    """Let all jobs run in turn; write the tables and the picture."""
    rounds, name = (1, "quick") if quick else (ROUNDS, "bench")
    tables = rows_of(jobs, servers, quick)
    compare(tables, jobs, servers, rounds)
    lines = [
        f"`python benchmarks/bench.py{' --quick' if quick else ''}` on {machine()}; runs of each in turn: {rounds}.",
        f"Lines of 10 Zipf-distributed words, {LINES_PER_SECOND:,} lines a second of event time, windows of 5 s, one",
        f"partition, parallelism 1; the literal pipeline has 1/{LITERAL_SHARE} of the lines. All rows of all runs were",
        "right.",
    ]
    for vocabulary, rows in tables.items():
        words = max(row.input.words for row in rows)
        lines += ["", f"## {vocabulary:,} different words, {words:,} in all", "", *table_of(rows)]
    print("\n".join(lines))
    (RESULTS / f"{name}.md").write_text("\n".join([*lines, "", f"![words a second]({name}.png)"]) + "\n")
    draw(tables, RESULTS / f"{name}.png")


# --- Other inputs ---------------------------------------------------------------------------------------------------


def scale(servers: str, starts: dict[str, float]) -> list[str]:
    """The job and its SQL variant against parallelism, amount of input, and length of lines, as Markdown.

    Args:
        starts: seconds that the script of this name takes for ten lines.
    """
    lines = SCALE_LINES
    inputs: list[tuple[str, int, Input]] = [
        *(("4 partitions", parallelism, generate(servers, lines // 2, partitions=4)) for parallelism in (1, 2, 4)),
        *((f"{size:,} lines", 1, generate(servers, size)) for size in (lines // 4, lines // 2, lines)),
        ("lines of 1 word", 1, generate(servers, lines, words_per_line=1)),
        ("lines of 1,000 words", 1, generate(servers, lines // 100, words_per_line=1000)),
    ]
    heads = " | ".join(f"{script.name}, words/s | JVM, MB | heap, MB" for script in (SCRIPT, SQL))
    table = [f"| input | words | parallelism | {heads} |", "|---|---|---|---|---|---|---|---|---|"]
    for title, parallelism, given in inputs:
        cells = [title, f"{given.words:,}", str(parallelism)]
        for script in (SCRIPT, SQL):
            run = run_once(Job(script.name, "", python_job(script, parallelism), ()), servers, given)
            words_per_second = rate(given.words, run.seconds - starts[script.name])
            cells += [said(words_per_second), f"{run.java:.0f}", f"{run.heap:.0f}"]
        table.append(f"| {' | '.join(cells)} |")
        say(table[-1])
    return table


def scale_table(jobs: list[Job], servers: str) -> None:
    """See how the job and its SQL variant do on other inputs; write the table."""
    ours = [job for job in jobs if job.name in (SCRIPT.name, SQL.name)]
    for job in ours:
        while len(job.starts) < ROUNDS:
            start_once(job, servers)
    starts = {job.name: median(run.seconds for run in job.starts) for job in ours}
    lines = [f"`python benchmarks/bench.py --scale` on {machine()}; one run each.", "", *scale(servers, starts)]
    print("\n".join(lines))
    (RESULTS / "scale.md").write_text("\n".join(lines) + "\n")


# --- Where the time goes --------------------------------------------------------------------------------------------


# What begins with which name, among Java's threads: Linux keeps 15 characters of each.
THREADS = {
    "Source: ": "source, batches, the way to Python",
    "keep watermark": "windows and sink",
    "Source Data": "Kafka's client",
    "C1 ": "Java's quick compiler",
    "C2 ": "Java's better compiler",
    "G": "garbage collection",
}
# In which of them each function runs; see timed.py.
FUNCTIONS = {"split": "Source: ", "Counter": "Source: ", "in shards": "Source: "}
FUNCTIONS |= {"add": "keep watermark", "rows": "keep watermark"}
SUM, CLOCK = "**sum**", "on the clock"


def profile(job: str, servers: str, given: Input) -> dict[str, float]:
    """The CPU seconds of a run by what they were spent on."""
    with tempfile.TemporaryDirectory(prefix="bench-times-") as times:
        run = run_once(timed_job(job, times=Path(times)), servers, given, by_thread=True)
        spent = {name: int(file.read_text()) / 1e9 for name in FUNCTIONS if (file := Path(times, name)).exists()}
    for name, title in THREADS.items():
        in_python = sum(spent.get(function, 0) for function, thread in FUNCTIONS.items() if thread == name)
        spent[title] = sum(used for thread, used in run.threads.items() if thread.startswith(name)) - in_python
    return spent | {"all else": run.cpu - sum(spent.values()), SUM: run.cpu, CLOCK: run.seconds}


def step_table(servers: str) -> None:
    """See what the CPU time of a word is spent on; write the table.

    It is that for all lines less that for a quarter of them, so that the start is not in it, nor most of what Java
    compiles meanwhile.
    """
    lines = [f"`python benchmarks/bench.py --steps` on {machine()}: nanoseconds of CPU for a word, of all threads."]
    lines += ["The first five are Python functions."]
    titles = [*FUNCTIONS, *THREADS.values(), "all else", SUM, CLOCK]
    for vocabulary, size in STEP_LINES.items():
        columns = []
        for job in (SCRIPT.name, TOTALS.name):
            few, many = (generate(servers, number, vocabulary=vocabulary) for number in (size // 4, size))
            short, long = profile(job, servers, few), profile(job, servers, many)
            each = 1e9 / (many.words - few.words)
            columns.append({title: (long.get(title, 0) - short.get(title, 0)) * each for title in titles})
            say(f"{job}: {columns[-1]}")
        heads = f"| {vocabulary:,} different words | {SCRIPT.name} | {TOTALS.name} |"
        lines += ["", heads, "|---|---|---|"]
        lines += [f"| {title} | {' | '.join(f'{column[title]:.0f}' for column in columns)} |" for title in titles]
        alone = thousands(1e9 / sum(columns[0][function] for function in ("split", "Counter")))
        lines += ["", f"With `split` and `Counter` alone, on a core of their own, it would be {alone} words a second."]
    print("\n".join(lines))
    (RESULTS / "steps.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure words a second, side by side.")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--quick", action="store_true", help="only the comparison, every job once, on less input")
    parts.add_argument("--scale", action="store_true", help="only the scale table")
    parts.add_argument("--steps", action="store_true", help="only where the time goes")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-classes-") as classes, embedded_broker() as broker:
        jobs = all_jobs(Path(classes))
        if arguments.steps:
            step_table(broker.bootstrap_servers)
            return
        if not arguments.scale:
            job_comparison(jobs, broker.bootstrap_servers, arguments.quick)
        if not arguments.quick:
            scale_table(jobs, broker.bootstrap_servers)


if __name__ == "__main__":
    main()
