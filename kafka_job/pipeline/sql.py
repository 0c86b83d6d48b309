"""From a stream of lines to Flink SQL, and back to a stream of values."""

from kafka_job.flink.operators import number_steps_anew, values_of_query
from kafka_job.pipeline.steps import keep_watermark

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import DataTypes, Schema, StreamTableEnvironment
from pyflink.table.types import DataType


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


def query(tables: StreamTableEnvironment, sql: str, data_type: DataType) -> DataStream:
    """The results of a query with one column, STRING or BIGINT, as a stream of its values."""
    return values_of_query(tables, sql, data_type, Types.STRING() if data_type == DataTypes.STRING() else Types.LONG())
