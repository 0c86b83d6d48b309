"""The tutorial in one command, `make demo`: broker, topic, sample text, word count, and the counts as a table.

In a terminal a live part follows: the same job goes on counting, while lines are sent as time goes by.
"""

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from broker import PORT, TOPIC, BrokerError, create_topic, embedded_broker, end_on_signals, free_port, is_listening

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(__file__).with_name("sample.txt")
OUTPUT = ROOT / "out"
SECONDS_BETWEEN_LINES = 2  # of event time: 40 lines span 78 s, 16 windows of 5 s or so
TOP = 10
LIVE_SECONDS = 15
LINES_PER_SECOND = 20

console = Console(highlight=False)


@contextlib.contextmanager
def demo_broker(address: str | None) -> Iterator[str]:
    """The address of a broker: the one that is named, else an embedded one; raises BrokerError: it does not start."""
    if address:
        yield address
        return
    port = free_port() if is_listening(PORT) else PORT  # what is there may be somebody's own
    with contextlib.ExitStack() as stack:
        with console.status("Starting an embedded Kafka broker ..."):
            broker = stack.enter_context(embedded_broker(port))
        console.print(f"Kafka broker: an embedded one on {broker.bootstrap_servers}, for this demo")
        yield broker.bootstrap_servers


def where(address: str) -> list[str]:
    """The flags that lead the job to a broker."""
    return [] if address == f"localhost:{PORT}" else ["--bootstrap-servers", address]


def produce_sample(address: str) -> None:
    """Produce the lines of the sample, the last one stamped with the present time."""
    lines = SAMPLE.read_bytes().splitlines()
    start = time.time() - (len(lines) - 1) * SECONDS_BETWEEN_LINES
    with contextlib.closing(KafkaProducer(bootstrap_servers=address)) as producer:
        for number, line in enumerate(lines):
            producer.send(TOPIC, line, timestamp_ms=int((start + number * SECONDS_BETWEEN_LINES) * 1000))
        producer.flush()
    console.print(f"Sample: {len(lines)} lines, {SECONDS_BETWEEN_LINES} s of event time apart, in topic {TOPIC}")


def run_word_count(address: str) -> list[Path]:
    """Run the job as a user would; the files that it has added to OUTPUT. Raises CalledProcessError: it has failed."""
    before = set(OUTPUT.rglob("*.tsv"))
    command = ["word_count.py", "--bounded", "--output", "out/", *where(address)]
    console.print(f"Running: python {' '.join(command)}")
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    return sorted(set(OUTPUT.rglob("*.tsv")) - before)


def read_rows(files: Iterable[Path]) -> Iterator[tuple[str, str, int]]:
    """The rows of result files as (window start, word, count)."""
    for file in files:
        for row in file.read_text(encoding="utf-8").split("\n")[:-1]:
            window_start, word, count = row.split("\t")
            yield window_start, word, int(count)


def show(files: list[Path]) -> None:
    """Print the words with the highest counts, and where the rows are."""
    rows = list(read_rows(files))
    totals: Counter[str] = Counter()
    for _, word, count in rows:
        totals[word] += count
    table = Table(title=f"Top {TOP} words")
    table.add_column("word")
    table.add_column("count", justify="right")
    for word, count in totals.most_common(TOP):
        table.add_row(word, str(count))
    console.print(table)
    windows = len({window_start for window_start, _, _ in rows})
    console.print(f"{totals.total()} words in {len(rows)} rows (window, word, count) of {windows} windows, in:")
    for file in files:
        console.print(f"  {file.relative_to(ROOT)}", soft_wrap=True)


@contextlib.contextmanager
def lines_as_time_goes_by(address: str) -> Iterator[None]:
    """Produce lines of the sample, stamped with the time at which they are sent, while the `with` block runs."""
    lines = SAMPLE.read_bytes().splitlines()
    done = threading.Event()

    def produce() -> None:
        with contextlib.closing(KafkaProducer(bootstrap_servers=address)) as producer:
            while not done.wait(1 / LINES_PER_SECOND):
                producer.send(TOPIC, random.choice(lines))

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_live(seconds: float, address: str) -> None:
    """Run the job as a user would who presses Ctrl-C after so many seconds.

    Raises CalledProcessError: the job failed; KeyboardInterrupt, SystemExit: the user ends it, and the job has ended.
    """
    command = ["word_count.py", "--live", "--window", "2", *where(address)]
    console.print(f"\nRunning for {seconds:.0f} s, while more lines come: python {' '.join(command)}")
    with subprocess.Popen([sys.executable, *command], cwd=ROOT) as job:
        try:
            job.wait(seconds)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGINT)
        except KeyboardInterrupt:
            job.wait()  # the terminal has sent it to the job, too
            raise
        except SystemExit:
            job.terminate()
            raise
        if job.wait():
            raise subprocess.CalledProcessError(job.returncode, command)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of a sample text, from a Kafka topic.")
    named = "use this broker, and its topic input (default: one that ends with the demo)"
    parser.add_argument("--bootstrap-servers", metavar="HOST:PORT", help=named)
    arguments = parser.parse_args()
    end_on_signals()
    try:
        with demo_broker(arguments.bootstrap_servers) as address:
            if create_topic(address, TOPIC):
                console.print(f"Topic: {TOPIC}, created")
            produce_sample(address)
            before = time.monotonic()
            show(run_word_count(address))
            to_start = time.monotonic() - before  # and to stop: some 6 s, more on a machine that has other work, too
            if console.is_terminal and not console.is_dumb_terminal:
                with lines_as_time_goes_by(address):
                    run_live(to_start + LIVE_SECONDS, address)
    except BrokerError as error:
        sys.exit(str(error))
    except KafkaError as error:
        sys.exit(f"The broker does not do what was asked: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the job has said why
    except KeyboardInterrupt:
        sys.exit("\nStopped.")


if __name__ == "__main__":
    main()
