"""`examples/orders.py`: its sums are compared with an independent count, by the own time of the orders."""

import contextlib
import json
import pickle
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kafka_job.pipeline import records
from kafka_job.pipeline.windows import session, sliding, tumbling

import cloudpickle
import pytest
from kafka import KafkaProducer
from pyflink.common import Row

from conftest import Cluster, Job, Topic
from examples import orders
from support import EPOCH, ROOT, START, Record, checkpoints, edited
from test_cluster import job_id, rescaled
from test_recipes_json import said

ORDERS = ROOT / "examples" / "orders.py"
MINUTE = START - START % 60_000  # where a window of a minute begins
HEADERS = [("a", b"1"), ("a", b"2"), ("empty", b"")]
NO_TIME = 1_600_000_000_000  # Kafka's timestamp of each record, years before that of the order
REJECTED = [
    b"",
    b"order",
    b"[]",
    b"7",
    b"null",
    b"{}",
    b'{"customer": "a", "amount": 1}',
    b'{"customer": "a", "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": null, "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": 7, "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a\\tb", "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a\\nb", "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "\xff", "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "\\ud800", "amount": 1, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": "12", "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": true, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": NaN, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": 1e999, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": 1e308, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": -1000000001, "ts": "2026-11-22T14:00:03Z"}',
    b'{"customer": "a", "amount": 1, "ts": "yesterday"}',
    b'{"customer": "a", "amount": 1, "ts": 1763820003}',
    b'{"customer": "a", "amount": 1, "ts": "2026-11-22T14:00:03"}',  # of which zone?
    b'{"customer": "a", "amount": 1, "ts": "2026-11-22T25:00:03Z"}',
    b'{"customer": "a", "amount": 1, "ts": "2026-11-22T14:00:03Z"} {}',
    b'{"customer": ' + b"[" * 100_000,
]


def text(milliseconds: int) -> str:
    return f"{EPOCH + timedelta(milliseconds=milliseconds):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def order(customer: str, amount: float, milliseconds: int, partition: int = 0) -> Record:
    value = {"order_id": 17, "customer": customer, "amount": amount, "ts": text(milliseconds)}
    return Record(json.dumps(value).encode(), NO_TIME, partition)


def random_orders(seed: float, number: int, partitions: int = 1, start: int = MINUTE) -> list[Record]:
    """Orders 100 ms of their own time apart, dealt out to the partitions in turn."""
    chance = random.Random(seed)
    return [
        order(f"c-{chance.randrange(30)}", chance.randrange(-500, 100_000) / 100, start + one * 100, one % partitions)
        for one in range(number)
    ]


Sums = dict[tuple[str, str], tuple[int, Decimal, Decimal]]  # (window, customer) -> number, sum, greatest


def expected_sums(some: Iterable[Record], window: int = 60) -> Sums:
    """The independent count, in decimals."""
    amounts: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for record in some:
        found = json.loads(record.value, parse_float=Decimal)
        second = int(datetime.fromisoformat(found["ts"].replace("Z", "+00:00")).timestamp() // 1)
        start = EPOCH + timedelta(seconds=second - second % window)
        amounts[f"{start:%Y-%m-%dT%H:%M:%SZ}", found["customer"]].append(Decimal(found["amount"]))
    return {row: (len(those), sum(those), max(those)) for row, those in amounts.items()}


def sums_in(rows: Iterable[str]) -> Sums:
    """Rows of the job; a row that is there twice is an error."""
    found: Sums = {}
    for row in rows:
        window, customer, number, total, greatest = row.split("\t")
        assert (window, customer) not in found, f"{row} comes twice"
        assert all(len(amount.partition(".")[2]) == 2 for amount in (total, greatest)), row
        found[window, customer] = int(number), Decimal(total), Decimal(greatest)
    return found


def sums_of(folder: Path) -> Sums:
    """The rows in the visible files of an output folder."""
    files = sorted(folder.rglob("counts-*.tsv")) if folder.exists() else []
    return sums_in(row for file in files for row in file.read_text("utf-8").splitlines())


# --- Functions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", REJECTED, ids=lambda value: ascii(value[:60]))
def test_what_is_no_order(value: bytes) -> None:
    with pytest.raises((ValueError, OverflowError, RecursionError)):
        orders.read(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"order_id": 17, "customer": "c-12", "amount": 12.5, "ts": "2026-11-22T14:00:03.250Z"}', ("c-12", 1250)),
        (
            b'\xef\xbb\xbf{\n"customer": "c-12",\r\n"amount": 12,\n"ts":"2026-11-22T15:00:03.25+01:00"}\n',
            ("c-12", 1200),
        ),
        (b'{"customer": "", "amount": -0.01, "ts": "2026-11-22T14:00:03.250999Z"}', ("", -1)),
    ],
)
def test_orders(value: bytes, expected: tuple[str, int]) -> None:
    customer, cents = expected
    assert orders.read(value) == (1_795_356_003_250, customer, (1, cents, cents))


def read_batch(reader: records.ReadRecords, values: list[bytes], partition: int = 3) -> tuple[list[Any], list[Any]]:
    """What goes on, and what is rejected, of a batch whose records have a key, a header, and their place as offset."""
    rest = [(b"key", (("h", None),), offset, NO_TIME) for offset in range(len(values))]
    pieces = [
        (pickle.dumps(values[place : place + 500]), pickle.dumps(rest[place : place + 500]))
        for place in range(0, len(values), 500)
    ]
    found = [*reader.process_element((partition, pieces), SimpleNamespace())]
    return [one[1] for one in found if isinstance(one, Row)], [one[1] for one in found if not isinstance(one, Row)]


def test_no_order_is_lost() -> None:
    good = random_orders(1, 80 * len(REJECTED))
    values = [record.value for record in good]
    mixed = [value for pair in zip(values, REJECTED * 80, strict=True) for value in pair]
    reader = records.ReadRecords(orders.read, orders.add, tumbling(60), 3600, with_metadata=False)
    parts, rejected = read_batch(pickle.loads(cloudpickle.dumps(reader)), mixed)
    *parts, newest = parts
    assert newest == (-1 - 3, None, MINUTE + (len(good) - 1) * 100)
    assert sum(number for _, (number, _), _ in parts) == len(good)
    assert [(value, key) for value, key, _, _ in rejected] == [(value, b"key") for value in REJECTED * 80]
    assert all([name for name, _ in headers] == ["h", "reason"] for _, _, headers, _ in rejected)
    assert {timestamp for _, _, _, timestamp in rejected} == {NO_TIME}
    assert {time % 60_000 for _, _, time in parts} == {59_999}
    rows = [
        row for _, (_, values), time in parts for row in orders.rows(SimpleNamespace(start=time + 1 - 60_000), values)
    ]
    assert sums_in(rows) == expected_sums(good)


def test_a_time_is_a_whole_number() -> None:
    reader = records.ReadRecords(lambda value: (1.0, "a", 1), int.__add__, tumbling(5), 0, with_metadata=False)
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        read_batch(reader, [b"any"])


def test_a_reason_is_short() -> None:
    """Python's own quote all of what they could not read."""
    *_, headers, _ = records.rejected(records.Record(b"x", None, (), 0, 0, 0), ValueError("x" * 10**6))
    assert headers == [("reason", b"x" * 1000)]


@pytest.mark.parametrize(("ahead", "seconds", "counts"), [(60, 30, True), (60, 90, False), (0, 10**9, True)])
def test_orders_that_are_ahead(ahead: int, seconds: int, counts: bool) -> None:
    moment = int((time.time() + seconds) * 1000)
    reader = records.ReadRecords(lambda value: (moment, "a", 1), int.__add__, tumbling(5), ahead, with_metadata=False)
    parts, rejected = read_batch(reader, [b"any"])
    assert (bool(parts), bool(rejected)) == (counts, not counts)
    assert sum(map(records.is_ahead, rejected)) == len(rejected)


@pytest.mark.parametrize("moment", [records.FIRST - 1, records.LAST + 1, 2**63 - 1, -(2**63), 2**80])
def test_times_that_cannot_be_written_are_rejected(moment: int) -> None:
    reader = records.ReadRecords(lambda value: (moment, "a", 1), int.__add__, tumbling(5), 0, with_metadata=False)
    assert [len(found) for found in read_batch(reader, [b"any"])] == [0, 1]


@pytest.mark.parametrize(
    ("windows", "times"),
    [(tumbling(5), {4_999, 9_999}), (sliding(10, 5), {4_999, 9_999}), (session(5), {2**62 - 1})],
)
def test_a_part_has_a_time_of_its_slice(windows: Any, times: set[int]) -> None:
    reader = records.ReadRecords(lambda value: (int(value), "a", 1), int.__add__, windows, 0, with_metadata=False)
    (*parts, newest), _ = read_batch(reader, [b"0", b"4000", b"5000", b"0"])
    assert {time for _, _, time in parts} == times
    assert newest[2] == 5_000


def test_a_record_with_all_that_there_is() -> None:
    seen: list[records.Record] = []
    reader = records.ReadRecords(seen.append, int.__add__, tumbling(5), 0, with_metadata=True)
    assert read_batch(reader, [b"one", b"two"]) == ([], [])
    assert seen == [
        (b"one", b"key", (("h", None),), 3, 0, NO_TIME),
        (b"two", b"key", (("h", None),), 3, 1, NO_TIME),
    ]


# --- Runs -----------------------------------------------------------------------------------------------------------


def test_bounded(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """Partitions that outnumber subtasks, of which one is far behind, in its own time and in records; what is rejected
    has its key, its headers and the reason; a uid is asked of each operator.
    """
    topic, side = new_topic(partitions=5), new_topic()
    good = random_orders(2, 3_000, partitions=3)
    behind = [order("c-1", 1, MINUTE + number * 10, partition=3) for number in range(20_000)]
    old = [order("old", 0.5, moment, partition=4) for moment in (-1, 0, -5_000_000_000_000)]
    odd = [Record(value, NO_TIME, 0, b"key", HEADERS) for value in REJECTED]
    ahead = order("ahead", 1, int((time.time() + 7_200) * 1000), partition=1)
    topic.produce([*good, *behind, *odd, ahead, *old, Record(None, NO_TIME, 0, b"key")])
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--bounded", "--output", str(output)]
    settings = {"pipeline.auto-generate-uids": "false", "parallelism.default": "2"}
    ended = start_job(*arguments, script=ORDERS, settings=settings).wait()
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr
    assert sums_of(output) == expected_sums([*good, *behind, *old])
    rejected = side.records()
    assert sorted(record.value for record in rejected) == sorted([*REJECTED, ahead.value])
    for record in rejected:
        (name, reason), others = record.headers[-1], record.headers[:-1]
        assert (name, bool(reason)) == ("reason", True)
        is_ahead = record.value == ahead.value
        assert record.timestamp == NO_TIME
        assert (record.key, others) == ((None, []) if is_ahead else (b"key", HEADERS))
    assert said("Rejected records, not counted", ended.stderr) == len(REJECTED) + 1
    assert "Rejected records whose time is further ahead than --max-ahead: 1\n" in ended.stderr
    assert said("Records with a null value", ended.stderr) == 1


def test_windows_close_by_the_orders_own_time(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Rows come while the job runs; a partition that says nothing holds them back until it is idle; late ones, and one
    of the year 3000, are counted and said; Ctrl-C writes the rest.
    """
    topic, side = new_topic(partitions=2), new_topic()
    closed = topic.produce([order("a", 1.25, MINUTE + 1_000), order("b", 2, MINUTE + 59_999)])
    open_one = topic.produce([order("a", 4, MINUTE + 61_000)])
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(output), "--idle-timeout", "2"]
    job = start_job(*arguments, script=ORDERS)
    job.until(lambda: sums_of(output) == expected_sums(closed), "the rows of the closed window")
    topic.produce([order("late", 1, MINUTE), order("late", 1, MINUTE + 59_999), order("future", 1, 32_503_680_000_000)])
    open_one += topic.produce([order("a", 5, MINUTE + 62_000)])
    job.wait_for_checkpoint_of(7)
    assert "Rejected records whose time is further ahead than --max-ahead: 1 so far\n" in job.stderr.read_text()
    job.process.send_signal(signal.SIGINT)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert sums_of(output) == expected_sums(closed + open_one)
    assert said("Orders that came after their windows had closed, not counted (--max-delay)", ended.stderr) == 2


def test_a_partition_whose_records_cannot_be_read_holds_nothing_back(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Though they come all the time. Its first order counts as soon as there is one."""
    topic, side = new_topic(partitions=2), new_topic()
    some = topic.produce([order("a", 1, MINUTE), order("a", 2, MINUTE + 60_000)])
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(output), "--idle-timeout", "2"]
    job = start_job(*arguments, script=ORDERS)

    def rows_of_the_first_minute() -> bool:
        topic.produce([Record(b"no order", NO_TIME, 1)])
        return sums_of(output) == expected_sums(some[:1])

    job.until(rows_of_the_first_minute, "the rows of the closed window")
    some += topic.produce([order("b", 3, MINUTE + 60_000, partition=1), order("a", 1, MINUTE + 120_000)])
    topic.produce([order("b", 1, MINUTE + 120_000, partition=1)])
    job.until(lambda: sums_of(output) == expected_sums(some[:3]), "the rows of the second window")
    job.process.send_signal(signal.SIGINT)
    assert job.wait().code == 0


def test_crash_and_resume_and_late_orders(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Sums are exact; after the resume an order is late that was late before."""
    topic, side = new_topic(partitions=2), new_topic()
    some = topic.produce(random_orders(3, 6_000, partitions=2))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(output)]
    # It is slow: a partition may wait for its turn for longer than the default.
    arguments += ["--checkpoint-dir", str(folder), "--max-delay", "5", "--idle-timeout", "0"]
    job = start_job(*arguments, script=ORDERS, slow=True)
    job.until(lambda: checkpoints(folder) and sums_of(output), "a checkpoint, and rows")
    job.end()
    assert sums_of(output) != expected_sums(some), "it was over before it was killed"
    late = order("late", 1, MINUTE - 60_000)
    some += topic.produce(random_orders(4, 100, partitions=2, start=MINUTE + 600_000))
    topic.produce([late])
    ended = start_job(*arguments, "--bounded", script=ORDERS).wait()
    assert ended.code == 0, ended.stderr
    assert "Going on from" in ended.stderr
    assert sums_of(output) == expected_sums(some)
    assert said("Orders that came after their windows had closed", ended.stderr) == 1


def test_sums_to_a_topic(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """JSON with the customer as key, each row once, also after a crash."""
    topic, side, to_topic = new_topic(partitions=2), new_topic(), new_topic(partitions=2)
    some = topic.produce(random_orders(5, 4_000, partitions=2))
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--to-topic", to_topic.name]
    arguments += ["--checkpoint-dir", str(tmp_path / "checkpoints"), "--max-delay", "5", "--idle-timeout", "0"]
    job = start_job(*arguments, script=ORDERS, slow=True)
    job.until(lambda: to_topic.records(), "rows")
    job.end()
    ended = start_job(*arguments, "--bounded", script=ORDERS).wait()
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr
    written = to_topic.records()
    found = {}
    for record in written:
        row = json.loads(record.value)
        assert [*row] == ["window", "customer", "orders", "total", "max"]
        assert record.key.decode() == row["customer"]
        assert row["window"] == text(record.timestamp - 59_999)[:-5] + "Z"
        found[row["window"], row["customer"]] = row["orders"], round(row["total"] * 100), round(row["max"] * 100)
    expected = expected_sums(some)
    assert len(written) == len(expected)
    assert found == {
        row: (number, int(100 * total), int(100 * most)) for row, (number, total, most) in expected.items()
    }


def test_sums_of_a_day_that_is_not_over(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Their window ends hours ahead, and brokers refuse timestamps of the future. And a record that was compressed on
    its way is no larger on its way to the rejected ones.
    """
    small = {"max.message.bytes": "50000"}
    topic, side, to_topic = new_topic(**small), new_topic(**small), new_topic()
    now = int(time.time() * 1000)
    topic.produce([order("a", 1, now), order("a", 2, now + 1_000)])
    with contextlib.closing(
        KafkaProducer(bootstrap_servers=topic.bootstrap_servers, compression_type="gzip")
    ) as sender:
        sender.send(topic.name, b"no order" * 20_000).get(30)
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--to-topic", to_topic.name]
    ended = start_job(*arguments, "--window", str(50 * 365 * 86_400), "--bounded", script=ORDERS).wait()
    assert ended.code == 0, ended.stderr
    [record] = to_topic.records()
    assert json.loads(record.value)["total"] == 3
    assert now < record.timestamp <= time.time() * 1000
    assert [rejected.value for rejected in side.records()] == [b"no order" * 20_000]


def test_sliding_windows_and_late_for_some(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """An order counts in each window that is still open; what it is too late for is said."""
    topic, side = new_topic(), new_topic()
    some = topic.produce([order("a", 1, MINUTE + second * 1_000) for second in (1, 21, 41, 61)])
    script = edited(tmp_path / "sliding", "tumbling(options.window)", "sliding(options.window, 20)", ORDERS)
    script.write_text(script.read_text().replace("    tumbling,", "    sliding,"))
    output = tmp_path / "out"
    job = start_job(*topic.arguments(), "--rejected-topic", side.name, "--output", str(output), script=script)
    closed = {
        (text(MINUTE + start * 1_000)[:-5] + "Z", "a"): (number, Decimal(number), Decimal(1))
        for start, number in ((-40, 1), (-20, 2), (0, 3))
    }
    job.until(lambda: sums_of(output) == closed, "the rows of closed windows")
    some += topic.produce([order("a", 1, MINUTE + 22_000)])  # late for the windows of -20 and 0, not for that of 20
    job.wait_for_checkpoint_of(5)
    job.process.send_signal(signal.SIGINT)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    still_open = {
        (text(MINUTE + start * 1_000)[:-5] + "Z", "a"): number for start, number in ((20, 4), (40, 2), (60, 1))
    }
    assert sums_of(output) == closed | {row: (n, Decimal(n), Decimal(1)) for row, n in still_open.items()}
    assert said("Orders that came after some of their windows had closed, not counted in these", ended.stderr) == 1


def test_sessions(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """Windows of each key by itself, which a record can join; with all that there is of a record."""
    topic, side = new_topic(partitions=2), new_topic()
    seconds = {"a": [0, 29, 58, 100, 129], "b": [10, 41], "c": [5]}
    topic.produce([order(key, one, MINUTE + one * 1_000, one % 2) for key, those in seconds.items() for one in those])
    script = script_of_sessions(
        tmp_path,
        ("add, windows)", "add, windows, with_metadata=True)"),
        ("order = ORDER(value)", f"order = ORDER(value.value); assert value.timestamp == {NO_TIME}"),
    )
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(tmp_path / "out"), "--bounded"]
    ended = start_job(*arguments, "--max-delay", "300", script=script).wait()
    assert ended.code == 0, ended.stderr
    rows = [("a", 0, 3, 87, 58), ("a", 100, 2, 229, 129), ("b", 10, 1, 10, 10), ("b", 41, 1, 41, 41), ("c", 5, 1, 5, 5)]
    assert sums_of(tmp_path / "out") == sessions_of(rows)


def script_of_sessions(folder: Path, *changes: tuple[str, str]) -> Path:
    """orders.py with sessions that end after 30 s, and other changes."""
    script = edited(folder / "sessions", "tumbling(options.window)", "session(30)", ORDERS)
    for old, new in (("    tumbling,", "    session,"), *changes):
        assert old in script.read_text()
        script.write_text(script.read_text().replace(old, new, 1))
    return script


def sessions_of(rows: Iterable[tuple[str, int, int, int, int]]) -> Sums:
    """Customer, seconds from MINUTE to the first order, number, sum and greatest, as `sums_of` has them."""
    return {
        (text(MINUTE + start * 1_000)[:-5] + "Z", key): (number, Decimal(total), Decimal(most))
        for key, start, number, total, most in rows
    }


def test_open_sessions_after_a_crash(
    new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """They go on, also where a record joins two of them; a late order is late; what is open at the stop is written."""
    topic, side, output = new_topic(), new_topic(), tmp_path / "out"
    folders = ["--output", str(output), "--checkpoint-dir", str(tmp_path / "kept")]
    arguments = [*topic.arguments(), "--rejected-topic", side.name, *folders]
    script = script_of_sessions(tmp_path)
    seconds = {"a": [0, 10, 75, 110], "b": [70], "z": [50, 110]}
    topic.produce([order(key, one, MINUTE + one * 1_000) for key, those in seconds.items() for one in those])
    job = start_job(*arguments, "--max-delay", "60", script=script)
    ended_before = [("a", 0, 2, 10, 10)]
    job.until(lambda: sums_of(output) == sessions_of(ended_before), "the row of the session that has ended")
    job.wait_for_checkpoint_of(7)
    job.end()

    more = [order("a", 92, MINUTE + 92_000), order("b", 95, MINUTE + 95_000), order("a", 12, MINUTE + 12_000)]
    topic.produce(more)
    job = start_job(*arguments, "--max-delay", "60", script=script)
    job.wait_for_checkpoint_of(3)
    job.process.send_signal(signal.SIGINT)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    still_open = [("a", 75, 3, 277, 110), ("b", 70, 2, 165, 95), ("z", 50, 1, 50, 50), ("z", 110, 1, 110, 110)]
    assert sums_of(output) == sessions_of([*ended_before, *still_open])
    assert said("Orders that came after their windows had closed, not counted (--max-delay)", ended.stderr) == 1


@pytest.mark.chaos
@pytest.mark.parametrize("windows", ["of a minute", "sessions"])
def test_python_without_shared_library(
    windows: str, new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path
) -> None:
    """Its functions run in processes of their own, by other code of PyFlink."""
    (tmp_path / "find_libpython.py").write_text("def find_libpython(): return None")
    topic, side = new_topic(partitions=3), new_topic()
    some = topic.produce([order(f"c-{one}", 1.5, MINUTE + one, one % 3) for one in range(3_000)])
    topic.produce([Record(b"no order", NO_TIME)])
    script = ORDERS if windows == "of a minute" else script_of_sessions(tmp_path)
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, script=script, PYTHONPATH=str(tmp_path)).wait()
    assert ended.code == 0, ended.stderr
    assert said("Rejected records, not counted", ended.stderr) == 1
    assert sums_of(tmp_path / "out") == expected_sums(some, window=60 if windows == "of a minute" else 1)


@pytest.mark.chaos
def test_rescaling_from_savepoints(cluster: Cluster, new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """One subtask, then three, then two: times go on for each partition, wherever it is read."""
    topic, side = new_topic(partitions=3), new_topic()
    some: list[Record] = []
    run = ["--python", ORDERS, "--output", str(tmp_path / "out"), "--rejected-topic", side.name, *topic.arguments()]

    def produce(number: int) -> None:
        some.extend(topic.produce(random_orders(number, 600, partitions=3, start=MINUTE + number * 40_000)))

    job = rescaled(cluster, run, tmp_path / "savepoints", produce)
    job_id(cluster.flink("run", "-s", cluster.stop_job(job, tmp_path / "savepoints"), *run, "--bounded"))
    assert sums_of(tmp_path / "out") == expected_sums(some)


def test_topics_that_will_not_do(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    """Each is checked before anything is read."""
    topic, side = new_topic(), new_topic()
    missing = start_job(*topic.arguments(), "--to-topic", side.name, script=ORDERS).wait()
    assert missing.code == 1
    assert missing.stderr.startswith(f"There is no topic {topic.name}-rejected on {topic.bootstrap_servers}")
    missing = start_job(*topic.arguments(), "--rejected-topic", side.name, "--to-topic", "none", script=ORDERS).wait()
    assert missing.code == 1
    assert missing.stderr.startswith(f"There is no topic none on {topic.bootstrap_servers}")
    with pytest.raises(ValueError, match=r"^results and rejected records go to topics of their own; mend --to-topic$"):
        orders.Options(to_topic="a", rejected_topic="a")
