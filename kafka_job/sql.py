"""From a stream of lines to Flink SQL, and back to a stream of rows of text."""

from kafka_job.watermarks import keep_watermark

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import DataTypes, Schema, StreamTableEnvironment
from pyflink.table.types import DataType, _to_java_data_type


def tables_with_lines(environment: StreamExecutionEnvironment, lines: DataStream) -> StreamTableEnvironment:
    """An environment for SQL with the view `lines`: line BYTES, null for a null value; event_time TIMESTAMP_LTZ(3).

    Args:
        lines: stream of rows of `line_schema`, with event-time timestamps and watermarks.
    """
    tables = StreamTableEnvironment.create(environment)
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
    """The results of a query with one column, as a stream of its values; they are STRING or BIGINT.

    PyFlink's own to_data_stream makes rows of one field.
    """
    stream = tables._j_tenv.toDataStream(tables.sql_query(sql)._j_table, _to_java_data_type(data_type))
    # The type of SQL says the same, but PyFlink would take the values for rows.
    values = Types.STRING() if data_type == DataTypes.STRING() else Types.LONG()
    stream.getTransformation().setOutputType(values.get_java_type_info())
    return DataStream(stream)
