"""Steps that are operators in Java, since a Python function is not told when a checkpoint begins, or the job ends.

What such a function holds back would be lost in a crash. See the classes beside kafka_job/flink/operators.py.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kafka_job.flink.operators import keyed_as_before, side_output, through_operator

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag

BATCH_BYTES = 8_000_000  # at most so many wait for the end of their window, or for a checkpoint
NULL_VALUES = OutputTag("nullValues", Types.LONG())
INVALID_LINES = OutputTag("invalidLines", Types.LONG())
Stream = TypeVar("Stream", DataStream, KeyedStream)


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in batches: a call of Python costs some 30 microseconds, whether it brings one line or 100,000.

    Null values are left out, and reported; lines that are not UTF-8 are reported.

    Args:
        lines: stream of rows of one field, bytes or null, with event-time timestamps and watermarks; see `Plan.read`.
        window: seconds; the lines of a batch are of one window.

    Returns:
        stream of bytes, lines with a line feed after each; the timestamp is the last millisecond of the window.
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
