"""How often each of many values was seen, in shards: the steps of word_count.py for other values than words.

Flink has work to do for each key of each window. So the key is not a value but a shard: a group of values, each of
which always belongs to the same one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from zlib import crc32

from kafka_job.pipeline.rows import utc
from kafka_job.pipeline.watermarks import keep_watermark
from kafka_job.pipeline.windows import reduce_windows

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, ProcessWindowFunction
from pyflink.datastream.window import WindowAssigner

SHARDS = 128  # no more workers than this can share the count

ShardCounts = tuple[int, Counter[str]]  # a shard, and how often each of its values was seen: (6, {"hello": 2})


def split_lines(batches: DataStream) -> DataStream:
    """What is between white space in each batch of lines, as a list. Bytes that are not UTF-8 become U+FFFD.

    `batches`: stream of bytes, see `batch_lines`.
    """
    return batches.map(split).name("split into words").uid("split-lines")


def split(batch: bytes) -> list[str]:
    """What is between white space."""
    return batch.decode("utf-8", errors="replace").split()


def count_by_shard(values: Iterable[str]) -> Iterable[ShardCounts]:
    """Each value once, with its count, in the shard that it always belongs to."""
    shards: dict[int, Counter[str]] = defaultdict(Counter)
    for value, count in Counter(values).items():
        shards[crc32(value.encode()) % SHARDS][value] = count  # not hash(value): it differs from process to process
    return shards.items()


def key_by_shard(values: DataStream) -> KeyedStream:
    """Count the values of each batch, and bring all counts of a shard to one place. `values`: stream of lists."""
    counts = values.flat_map(count_by_shard, output_type=Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY()]))
    counts.name("count in batch").uid("count-by-shard")
    return keep_watermark(counts.key_by(lambda counts: counts[0], key_type=Types.INT()))


def count_windows(shards: KeyedStream, windows: WindowAssigner, name: str, things: str = "words") -> DataStream:
    """Rows of text: start of a window (UTC), value and count, with tabs between them; many rows are one text.

    Args:
        shards: see `key_by_shard`.
        name: of the step.
        things: what is counted, in one word, see `report_late`.
    """
    uid = f"count-in-{SHARDS}-shards"  # with another number of shards it is another state
    return reduce_windows(shards, windows, add_counts, CountRows(), number_of, name=name, uid=uid, things=things)


def number_of(counts: ShardCounts) -> int:
    """How many values these are."""
    return counts[1].total()


def add_counts(left: ShardCounts, right: ShardCounts) -> ShardCounts:
    counts = left[1].copy()  # what reduce is given may be Flink's own, so it is not changed
    counts.update(right[1])
    return left[0], counts


class CountRows(ProcessWindowFunction):
    def process(
        self, shard: int, context: ProcessWindowFunction.Context, reduced: Iterable[ShardCounts]
    ) -> Iterator[str]:
        start = utc(context.window().start)
        for _, counts in reduced:  # one, which reduce has made of all
            yield "\n".join([f"{start}\t{value}\t{count}" for value, count in counts.items()])
