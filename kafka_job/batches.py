"""Lines of a topic, and lines in batches.

A call from Flink's JVM to a Python function costs some 30 microseconds, whether it brings one line or 100,000. Python
cannot collect lines itself: a function in PyFlink is not told when a checkpoint begins, so what it holds back is lost
in a crash. BatchLines.java is told.
"""

from kafka_job.java_operators import java_operator, side_output
from kafka_job.report import report

from pyflink.common import Types
from pyflink.common.serialization import DeserializationSchema
from pyflink.datastream import DataStream, OutputTag
from pyflink.java_gateway import get_gateway
from pyflink.table.types import DataTypes, _to_java_data_type

BATCH_BYTES = 8_000_000  # at most so many wait for the end of their window, or for a checkpoint
NULL_VALUES = OutputTag("nullValues", Types.LONG())
INVALID_LINES = OutputTag("invalidLines", Types.LONG())


def line_schema() -> DeserializationSchema:
    """A record's value as a row of one field, line: bytes, or null for a null value (a tombstone).

    This is what the 'raw' format of Flink SQL does. SimpleStringSchema fails on a null value, ByteArraySchema skips
    it in silence.
    """
    line = _to_java_data_type(DataTypes.BYTES()).getLogicalType()
    row = _to_java_data_type(DataTypes.ROW([DataTypes.FIELD("line", DataTypes.BYTES())])).getLogicalType()
    row_type = get_gateway().jvm.org.apache.flink.table.runtime.typeutils.InternalTypeInfo.of(row)
    raw = get_gateway().jvm.org.apache.flink.formats.raw
    return DeserializationSchema(raw.RawFormatDeserializationSchema(line, row_type, "UTF-8", True))


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in batches, each as one text.

    Null values are left out, and reported; lines that are not UTF-8 are reported.

    Args:
        lines: stream of rows of `line_schema`, with event-time timestamps and watermarks.
        window: seconds; the lines of a batch are of one window.

    Returns:
        stream of bytes, lines with a line feed after each; the timestamp is the last millisecond of the window.
    """
    tags = [NULL_VALUES.get_java_output_tag(), INVALID_LINES.get_java_output_tag()]
    batch = Types.PRIMITIVE_ARRAY(Types.BYTE()).get_java_type_info()
    batches = java_operator(lines, "BatchLines", [window * 1000, BATCH_BYTES, *tags], batch, uid="batch-lines")
    null_values, invalid_lines = (side_output(batches, tag) for tag in tags)
    report(null_values, "nullValues", "Records with a null value (tombstones), not counted")
    report(invalid_lines, "invalidLines", "Lines with bytes that are not UTF-8")
    return batches
