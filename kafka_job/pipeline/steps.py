"""Steps that are operators in Java, see kafka_job/flink/operators.py; and from a stream to Flink SQL, and back.

A Python function is not told when a checkpoint begins, or the job ends, so what it holds back would be lost.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kafka_job.flink.operators import keyed_as_before, number_steps_anew, side_output, through_operator

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, StreamExecutionEnvironment
from pyflink.table import DataTypes, Schema, StreamTableEnvironment

Stream = TypeVar("Stream", DataStream, KeyedStream)


def batch_lines(lines: DataStream, window: int) -> DataStream:
    """Lines in batches: a call of Python costs some 30 microseconds, whether it brings one line or 100,000.

    A batch is of one window, of so many seconds: a list of bytes, with a line feed after each line; its timestamp is
    the window's last millisecond. Null values are left out, and reported; so are lines that are not UTF-8. `lines`: see
    `Plan.read`.
    """
    batch = Types.PICKLED_BYTE_ARRAY()
    batches = through_operator(lines, "BatchLines", window * 1000, uid="batch-lines", output_type=batch)
    batches.slice = window * 1000  # see Windows.cut
    report_nulls(batches)
    report(side_output(batches, "invalidLines"), "invalidLines", "Lines with bytes that are not UTF-8")
    return batches


def report_nulls(batches: DataStream) -> None:
    """Report what one of our operators has found that has no value."""
    report(side_output(batches, "nullValues"), "nullValues", "Records with a null value (tombstones), not counted")


def keep_watermark(stream: Stream) -> Stream:
    """The same records and watermarks, with the watermark in state.

    What follows finds late after a restart what was late before it, and a drain closes all windows. Its place is right
    before what works on event time, after key_by: the watermark there is made of those of all subtasks before.
    """
    kept = through_operator(stream, "KeepWatermark", uid="keep-watermark")
    return keyed_as_before(kept, stream) if isinstance(stream, KeyedStream) else kept


def report(numbers: DataStream, metric: str, sentence: str, at_once: bool = False) -> None:
    """Add up numbers, exactly, whatever ends the job: one of Flink's metrics, and a line "SENTENCE: SUM" at the end.

    Each subtask has a sum, and says it on stderr, on a cluster in a .out file. `numbers`: stream of Types.LONG().
    `at_once`: say so as well when the first one comes.
    """
    through_operator(numbers, "Tally", metric, sentence, at_once, uid=f"report-{metric}")


def report_late(rows: DataStream, tag: OutputTag, size: Callable[[Any], int], things: str = "words") -> None:
    """Report what a window has sent to the side output `tag`, because it came after the window had closed.

    `rows`: what comes out of the windows. `size`: how many `things`, said in one word, a late record stands for.
    """
    late = rows.get_side_output(tag).name("late").uid("late")
    numbers, name = late.map(size, output_type=Types.LONG()).name(f"number of {things}"), things.capitalize()
    report(numbers, f"late{name}", f"{name} that came after their windows had closed, not counted (--max-delay)")


def tables_with_lines(environment: StreamExecutionEnvironment, lines: DataStream) -> StreamTableEnvironment:
    """An environment for SQL with the view `lines`, see `Plan.read`: line BYTES, event_time TIMESTAMP_LTZ(3)."""
    tables = StreamTableEnvironment.create(environment)
    number_steps_anew(tables)
    schema = (
        Schema.new_builder()
        .column("line", DataTypes.BYTES())
        .column_by_metadata("event_time", DataTypes.TIMESTAMP_LTZ(3), "rowtime")  # the record's timestamp
        .watermark("event_time", "SOURCE_WATERMARK()")  # the stream's own watermarks
        .build()
    )
    # SQL has the watermark in its state, but a drain while the source is idle would not close its windows.
    tables.create_temporary_view("lines", tables.from_data_stream(keep_watermark(lines), schema))
    return tables
