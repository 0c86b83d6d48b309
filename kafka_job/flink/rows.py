"""Between streams and the types of Flink SQL, where PyFlink has no door of its own.

Leans on: Java's form of PyFlink's data types; the 'raw' format of Flink SQL as a class; Java's table environment;
the planner's counter of steps.
"""

from kafka_job.flink.java import java_class

from pyflink.common import TypeInformation
from pyflink.common.serialization import DeserializationSchema
from pyflink.datastream import DataStream
from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.types import DataType, _to_java_data_type


def raw_values(name: str) -> DeserializationSchema:
    """A record's value as a row of one field: bytes, or null for a null value (a tombstone). `name`: the field's.

    This is what the 'raw' format of Flink SQL does. SimpleStringSchema fails on a null value, ByteArraySchema skips
    it in silence.
    """
    value = _to_java_data_type(DataTypes.BYTES()).getLogicalType()
    row = _to_java_data_type(DataTypes.ROW([DataTypes.FIELD(name, DataTypes.BYTES())])).getLogicalType()
    row_type = java_class("org.apache.flink.table.runtime.typeutils.InternalTypeInfo").of(row)
    schema = java_class("org.apache.flink.formats.raw.RawFormatDeserializationSchema")
    return DeserializationSchema(schema(value, row_type, "UTF-8", True))


def number_steps_anew(tables: StreamTableEnvironment) -> None:
    """Let the steps of SQL have the numbers that they have in a new process.

    Flink counts them for as long as a JVM lives, and a checkpoint finds their state by them.
    """
    planner = tables._j_tenv.getPlanner().getClass().getClassLoader()  # its classes are hidden from all others
    context = planner.loadClass("org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext")
    context.getMethod("resetIdCounter", None).invoke(None, None)


def values_of_query(
    tables: StreamTableEnvironment, sql: str, data_type: DataType, value_type: TypeInformation
) -> DataStream:
    """The results of a query with one column, as a stream of its values. PyFlink's own way makes rows of one field."""
    stream = tables._j_tenv.toDataStream(tables.sql_query(sql)._j_table, _to_java_data_type(data_type))
    # The type of SQL says the same, but PyFlink would take the values for rows.
    stream.getTransformation().setOutputType(value_type.get_java_type_info())
    return DataStream(stream)
