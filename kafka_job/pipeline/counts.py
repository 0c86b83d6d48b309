"""Windows, and how often each of many values was seen in them: the steps of word_count.py, where they are explained."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zlib import crc32

from kafka_job.pipeline.ends import utc
from kafka_job.pipeline.steps import keep_watermark, report_late

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessWindowFunction
from pyflink.datastream.window import WindowAssigner

LATE = OutputTag("late")
SHARDS = 128  # no more workers than this can share the count
ShardCounts = tuple[int, Counter[str]]  # a shard, and how often each of its values was seen: (6, {"hello": 2})


def reduce_windows(
    keyed: KeyedStream,
    windows: WindowAssigner,
    add: Callable[[Any, Any], Any],
    make_rows: ProcessWindowFunction,
    size: Callable[[Any], int],
    *,
    name: str,
    uid: str,
    things: str = "words",
) -> DataStream:
    """Rows of text: what `make_rows` makes of each window's one record, into which `add` has joined all of a key.

    `keyed`: with the watermark kept, see `keep_watermark`. `size`, `things`: see `report_late`. `uid`: of its state.
    """
    windowed = keyed.window(windows).side_output_late_data(LATE)
    rows = windowed.reduce(add, make_rows, output_type=Types.STRING()).name(name).uid(uid)
    report_late(rows, LATE, size, things)
    return rows


def split_lines(batches: DataStream) -> DataStream:
    """What is between white space in each batch of lines, as a list; see `batch_lines`."""
    return batches.map(split).name("split into words").uid("split-lines")


def split(batch: bytes) -> list[str]:
    """What is between white space. Bytes that are not UTF-8 become U+FFFD."""
    return batch.decode("utf-8", errors="replace").split()


def count_by_shard(values: Iterable[str]) -> Iterable[ShardCounts]:
    """Each value once, with its count, in the shard that it always belongs to."""
    shards: dict[int, Counter[str]] = defaultdict(Counter)
    for value, count in Counter(values).items():
        shards[crc32(value.encode()) % SHARDS][value] = count
    return shards.items()


def key_by_shard(values: DataStream) -> KeyedStream:
    """Count the values of each batch, and bring all counts of a shard to one place. `values`: stream of lists."""
    counts = values.flat_map(count_by_shard, output_type=Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()]))
    counts.name("count in batch").uid("count-by-shard")
    return keep_watermark(counts.key_by(lambda counts: counts[0], key_type=Types.INT()))


def count_windows(shards: KeyedStream, windows: WindowAssigner, name: str, things: str = "words") -> DataStream:
    """Rows of text: start of a window (UTC), value and count, with tabs between; many rows are one text."""
    uid = f"count-in-{SHARDS}-shards"
    return reduce_windows(
        shards, windows, add_counts, CountRows(), lambda counts: counts[1].total(), name=name, uid=uid, things=things
    )


def add_counts(left: ShardCounts, right: ShardCounts) -> ShardCounts:
    counts = left[1].copy()
    counts.update(right[1])
    return left[0], counts


class CountRows(ProcessWindowFunction):
    def process(
        self, shard: int, context: ProcessWindowFunction.Context, added: Iterable[ShardCounts]
    ) -> Iterator[str]:
        start = utc(context.window().start)
        for _, counts in added:
            yield "\n".join([f"{start}\t{value}\t{count}" for value, count in counts.items()])
