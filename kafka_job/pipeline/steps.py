"""The steps between the ends: batches, the watermark, what is reported, windows, and counts of values in shards.

The first three are operators in Java, see kafka_job/flink/operators.py: a Python function is not told when a checkpoint
begins, or the job ends, so what it holds back would be lost. Counts are explained in word_count.py.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from zlib import crc32

from kafka_job.flink.operators import keyed_as_before, side_output, through_operator
from kafka_job.pipeline.ends import utc

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessWindowFunction
from pyflink.datastream.window import WindowAssigner

BATCH_BYTES = 8_000_000  # at most so many wait for the end of their window, or for a checkpoint
NULL_VALUES = OutputTag("nullValues", Types.LONG())
INVALID_LINES = OutputTag("invalidLines", Types.LONG())
Stream = TypeVar("Stream", DataStream, KeyedStream)
LATE = OutputTag("late")
SHARDS = 128  # no more workers than this can share the count
ShardCounts = tuple[int, Counter[str]]  # a shard, and how often each of its values was seen: (6, {"hello": 2})


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in batches: a call of Python costs some 30 microseconds, whether it brings one line or 100,000.

    A batch is of one window, of so many seconds: bytes, with a line feed after each line; its timestamp is the window's
    last millisecond. Null values are left out, and reported; so are lines that are not UTF-8. `lines`: see `Plan.read`.
    """
    constants = [window * 1000, BATCH_BYTES, NULL_VALUES, INVALID_LINES]
    batch = Types.PRIMITIVE_ARRAY(Types.BYTE())
    batches = through_operator(lines, "BatchLines", constants, uid="batch-lines", output_type=batch)
    report(side_output(batches, NULL_VALUES), "nullValues", "Records with a null value (tombstones), not counted")
    report(side_output(batches, INVALID_LINES), "invalidLines", "Lines with bytes that are not UTF-8")
    return batches


def keep_watermark(stream: Stream) -> Stream:
    """The same records and watermarks, with the watermark in state.

    What follows finds late after a restart what was late before it, and a drain closes all windows. Its place is right
    before what works on event time, after key_by: the watermark there is made of those of all subtasks before.
    """
    kept = through_operator(stream, "KeepWatermark", [], uid="keep-watermark")
    return keyed_as_before(kept, stream) if isinstance(stream, KeyedStream) else kept


def report(numbers: DataStream, metric: str, sentence: str) -> None:
    """Add up numbers, exactly, whatever ends the job: one of Flink's metrics, and a line "SENTENCE: SUM" at the end.

    Each subtask that has found something has a sum, and says it on stderr: in a local run there is one subtask, on a
    cluster it is the .out file of a TaskManager. `numbers`: stream of Types.LONG().
    """
    through_operator(numbers, "Tally", [metric, sentence], uid=f"report-{metric}")


def report_late(rows: DataStream, tag: OutputTag, size: Callable[[Any], int], things: str = "words") -> None:
    """Report what a window has sent to the side output `tag`, because it came after the window had closed.

    `rows`: what comes out of the windows. `size`: how many `things`, said in one word, a late record stands for.
    """
    late = rows.get_side_output(tag).name("late").uid("late")
    numbers, name = late.map(size, output_type=Types.LONG()).name(f"number of {things}"), things.capitalize()
    report(numbers, f"late{name}", f"{name} that came after their windows had closed, not counted (--max-delay)")


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
    """Rows of text: start of a window (UTC), value and count, with tabs between; many rows are one text.

    `shards`: see `key_by_shard`. `name`, `things`: see `reduce_windows`.
    """
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
