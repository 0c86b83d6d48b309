"""How many orders a second? examples/orders.py beside the same sums in Flink's SQL.

    python benchmarks/orders.py              # 1,500,000 orders of 10,000 customers, three rounds; ten minutes
    python benchmarks/orders.py --orders 300000 --rounds 1

Every run is a whole process that reads a topic from its first record to its last. Orders a second are those of the
topic, divided by the seconds that the run took longer than the same job takes for a topic of ten orders. The sums of
every run are compared with those that were made while the orders were generated. Writes benchmarks/results/orders.md.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tools"))

from bench import RESULTS, machine, thousands  # noqa: E402

from broker import embedded_broker  # noqa: E402

START = 1_795_356_000  # seconds: 2026-11-22T14:00:00Z
ORDERS_PER_SECOND = 5_000  # of event time
CUSTOMERS = 10_000
Sums = dict[tuple[str, str], tuple[int, int, int]]  # (window, customer) -> number, sum and greatest in cents
Command = Callable[[str, str, Path], list[str | Path]]  # bootstrap servers, topic, output -> command line


def generate(servers: str, topic: str, orders: int) -> Sums:
    """Send orders to a new topic; their sums."""
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        new = {"num_partitions": 1, "replication_factor": 1}
        admin.create_topics({topic: new, f"{topic}-rejected": new}, wait_for_metadata=True)
    chance, amounts = random.Random(orders), defaultdict(list)
    with contextlib.closing(KafkaProducer(bootstrap_servers=servers, linger_ms=50, batch_size=500_000)) as producer:
        for number in range(orders):
            moment = datetime.fromtimestamp(START + number / ORDERS_PER_SECOND, timezone.utc)
            customer, cents = f"c-{chance.randrange(CUSTOMERS)}", chance.randrange(1, 100_000)
            amounts[f"{moment:%Y-%m-%dT%H:%M:00Z}", customer].append(cents)
            text = f'"customer": "{customer}", "amount": {cents / 100}, "ts": "{moment:%Y-%m-%dT%H:%M:%S.%f}'
            producer.send(topic, f'{{"order_id": {number}, {text[:-3]}Z"}}'.encode())
    return {row: (len(those), sum(those), max(those)) for row, those in amounts.items()}


def with_kafka_job(servers: str, topic: str, output: Path) -> list[str | Path]:
    script = HERE.parent / "examples" / "orders.py"
    flags = ["--bounded", "--start", "earliest", "--topic", topic, "--bootstrap-servers", servers, "--output", output]
    return [sys.executable, script, *flags]


def with_sql(servers: str, topic: str, output: Path) -> list[str | Path]:
    return [sys.executable, HERE / "orders_sql.py", servers, topic, output]


def read_sums(output: Path) -> Sums:
    found: Sums = {}
    for file in output.rglob("*"):
        for line in file.read_text().splitlines() if file.is_file() else []:
            window, customer, number, *amounts = line.replace('"', "").split("\t")
            found[window, customer] = (int(number), *(round(float(amount) * 100) for amount in amounts))
    return found


def seconds(command: Command, servers: str, topic: str, expected: Sums) -> float:
    """How long a run takes; wrong sums end the benchmark."""
    with tempfile.TemporaryDirectory() as temporary:
        output, before = Path(temporary, "out"), time.monotonic()
        subprocess.run(command(servers, topic, output), check=True, capture_output=True)
        took = time.monotonic() - before
        if read_sums(output) != expected:
            sys.exit(f"{command.__name__}: the sums of {topic} are wrong")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare examples/orders.py with Flink's SQL.")
    parser.add_argument("--orders", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    jobs = {"examples/orders.py": with_kafka_job, "Flink SQL": with_sql}
    with embedded_broker() as broker:
        servers = broker.bootstrap_servers
        inputs = {topic: generate(servers, topic, number) for topic, number in (("few", 10), ("all", options.orders))}
        took = {(name, topic): [] for name in jobs for topic in inputs}
        for _ in range(options.rounds):
            for name, topic in took:
                took[name, topic].append(seconds(jobs[name], servers, topic, inputs[topic]))
    lines = [
        f"`python benchmarks/orders.py --orders {options.orders} --rounds {options.rounds}` on {machine()};",
        f"the best of all runs, which took turns. One partition, parallelism 1, {CUSTOMERS:,} customers. All sums were",
        "right.",
        "",
        "| job | seconds for ten orders | for all | orders a second |",
        "|---|---|---|---|",
    ]
    for name in jobs:
        few, everything = min(took[name, "few"]), min(took[name, "all"])
        rate = options.orders / max(0.1, everything - few)
        lines.append(f"| {name} | {few:.1f} | {everything:.1f} | {thousands(rate)} |")
    print("\n".join(lines))
    (RESULTS / "orders.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
