"""Orders in JSON, summed per customer and minute of the order's own time.

    python examples/orders.py --topic orders --output out/
    python examples/orders.py --topic orders --to-topic sums --checkpoint-dir checkpoints/
    flink run --python examples/orders.py --topic orders

A record is an order; its value is JSON, on one line or several:

    {"order_id": 17, "customer": "c-12", "amount": 12.5, "ts": "2026-11-22T14:00:03.250Z"}

A row has the start of the minute (UTC), the customer, the number of orders, their sum, and the greatest amount, with
tabs between them. In --to-topic it is JSON, written exactly once; its key is the customer.

    2026-11-22T14:00:00Z    c-12    2    20.00    12.50

What is no such order goes to --rejected-topic as it came, at least once, with a header that has the reason.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from kafka_job import (
    JsonFields,
    Message,
    Plan,
    ToTopic,
    WithRejected,
    aggregate,
    message,
    milliseconds,
    read_records,
    run,
    tumbling,
    utc,
    write_messages,
    write_rejected,
    write_rows,
)

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.window import TimeWindow

ORDER = JsonFields(customer=str, amount=float, ts=datetime)
Sum = tuple[int, int, int]  # number of orders, their sum and the greatest amount in cents: whole numbers are exact
MOST = 10**9  # an amount; of larger ones the sums would not be exact in JSON, which has floats


@dataclass(frozen=True, kw_only=True)
class Options(ToTopic, WithRejected):
    """The flags of this job, beside those that every job has, and --to-topic and --rejected-topic."""

    window: Annotated[int, "length of the windows in seconds"] = 60


def read(value: bytes) -> tuple[int, str, Sum]:
    """The time of an order, its customer, and what is to be added up; raises ValueError where it is none."""
    order = ORDER(value)
    if abs(order.amount) > MOST:
        raise ValueError(f"an amount of more than {MOST:,}")
    customer, cents = order.customer, round(order.amount * 100)
    if "\t" in customer or "\n" in customer or "\r" in customer:
        raise ValueError("a customer with a tab or a line end, which would break a row")
    return milliseconds(order.ts), customer, (1, cents, cents)


def add(left: Sum, right: Sum) -> Sum:
    return left[0] + right[0], left[1] + right[1], max(left[2], right[2])


def rows(window: TimeWindow, sums: Mapping[str, Sum]) -> Iterator[str]:
    for customer, (orders, total, greatest) in sums.items():
        yield f"{utc(window.start)}\t{customer}\t{orders}\t{total / 100:.2f}\t{greatest / 100:.2f}"


def messages(window: TimeWindow, sums: Mapping[str, Sum]) -> Iterator[Message]:
    for customer, (orders, total, greatest) in sums.items():
        names = {"window": utc(window.start), "customer": customer, "orders": orders}
        row = names | {"total": total / 100, "max": greatest / 100}
        yield message(json.dumps(row).encode(), key=customer.encode())


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, sums, sink; and a sink for what is rejected."""
    windows = tumbling(options.window)
    orders, rejected = read_records(environment, options, plan, read, add, windows)
    write_rejected(rejected, plan, options.topic_of_rejected())
    if options.to_topic:
        sums = aggregate(orders, windows, add, messages, things="orders", as_text=False)
        write_messages(sums, plan, options.to_topic, transactional_ids=options.transactional_ids(), uid="write-sums")
    else:
        write_rows(aggregate(orders, windows, add, rows, things="orders"), options.output)


def main() -> None:
    options = Options.parse("Sum the orders of a Kafka topic per customer and window of their own time.")
    topics = [options.topic_of_rejected(), *filter(None, [options.to_topic])]
    run("orders", build, options, state=f"sums of orders per window of {options.window} s", to_topics=topics)


if __name__ == "__main__":
    main()
