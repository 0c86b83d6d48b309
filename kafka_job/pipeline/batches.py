"""Lines in batches.

A call from Flink's JVM to a Python function costs some 30 microseconds, whether it brings one line or 100,000. Python
cannot collect lines itself: a function in PyFlink is not told when a checkpoint begins, so what it holds back is lost
in a crash. BatchLines.java is told.
"""

from kafka_job.flink.operators import side_output, through_operator
from kafka_job.pipeline.report import report

from pyflink.common import Types
from pyflink.datastream import DataStream, OutputTag

BATCH_BYTES = 8_000_000  # at most so many wait for the end of their window, or for a checkpoint
NULL_VALUES = OutputTag("nullValues", Types.LONG())
INVALID_LINES = OutputTag("invalidLines", Types.LONG())


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in batches, each as one text.

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
