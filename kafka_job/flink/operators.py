"""Operators in Java, for what a Python function is not told: that a checkpoint begins, and that the job ends. And SQL.

Flink compiles the sources beside this file when the job starts, with the compiler that it uses for SQL, Janino, which
wants raw types; the arguments of a constructor are those that Flink passes. No Java compiler is to be installed. The
source text is part of the job, so a cluster needs nothing of this folder.

Leans on: GeneratedOperator and its factory, which are Flink SQL's; transformations added to Java's environment; Java's
stream behind PyFlink's; Java's form of PyFlink's data types; the 'raw' format of Flink SQL as a class; Java's table
environment; the planner's counter of steps.
"""

from pathlib import Path
from typing import Any

from kafka_job.flink.connector import java_class

from py4j.java_gateway import JavaObject
from pyflink.common import TypeInformation
from pyflink.common.serialization import DeserializationSchema
from pyflink.datastream import DataStream, KeyedStream, OutputTag
from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.types import DataType, _to_java_data_type
from pyflink.util.java_utils import to_jarray


def through_operator(
    stream: DataStream, class_name: str, constants: list[Any], uid: str, output_type: TypeInformation | None = None
) -> DataStream:
    """A stream through one of the operators of this folder, with as many subtasks, and by default the same type.

    `constants`: what its constructor is given, values that Java can serialize. `uid`: with spaces it is its name, too.
    """
    before = stream._j_data_stream
    constants = [one.get_java_output_tag() if isinstance(one, OutputTag) else one for one in constants]
    generated = java_class("org.apache.flink.table.runtime.generated.GeneratedOperator")(
        class_name,
        source_of(class_name),
        to_jarray(java_class("java.lang.Object"), constants),
        java_class("org.apache.flink.configuration.Configuration")(),
    )
    transformation = java_class("org.apache.flink.streaming.api.transformations.OneInputTransformation")(
        before.getTransformation(),
        uid.replace("-", " "),
        java_class("org.apache.flink.table.runtime.operators.CodeGenOperatorFactory")(generated),
        output_type.get_java_type_info() if output_type else before.getType(),
        before.getParallelism(),
    )
    transformation.setUid(uid)
    before.getExecutionEnvironment().addOperator(transformation)
    return stream_of(before, transformation)


def source_of(class_name: str) -> str:
    return (Path(__file__).parent / f"{class_name}.java").read_text("utf-8")


def side_output(stream: DataStream, tag: OutputTag) -> DataStream:
    """What one of our operators has sent to a side output."""
    before = stream._j_data_stream
    side = java_class("org.apache.flink.streaming.api.transformations.SideOutputTransformation")
    return stream_of(before, side(before.getTransformation(), tag.get_java_output_tag()))


def stream_of(before: JavaObject, transformation: JavaObject) -> DataStream:
    """The stream that comes out of a transformation; `before`: Java's stream that goes in."""
    data_stream = java_class("org.apache.flink.streaming.api.datastream.DataStream")
    return DataStream(data_stream(before.getExecutionEnvironment(), transformation))


def keyed_as_before(stream: DataStream, before: KeyedStream) -> KeyedStream:
    """A stream with the keys of another one, whose records it has, in the same places."""
    keys = before._j_data_stream
    utils = java_class("org.apache.flink.streaming.api.datastream.DataStreamUtils")
    keyed = utils.reinterpretAsKeyedStream(stream._j_data_stream, keys.getKeySelector(), keys.getKeyType())
    return KeyedStream(keyed, before._original_data_type_info, before._origin_stream)


def raw_values(name: str) -> DeserializationSchema:
    """A record's value as a row of one field of this name: bytes, or null for a null value (a tombstone).

    The 'raw' format of Flink SQL does so. SimpleStringSchema fails on a null value, ByteArraySchema leaves it out.
    """
    value = _to_java_data_type(DataTypes.BYTES()).getLogicalType()
    row = _to_java_data_type(DataTypes.ROW([DataTypes.FIELD(name, DataTypes.BYTES())])).getLogicalType()
    row_type = java_class("org.apache.flink.table.runtime.typeutils.InternalTypeInfo").of(row)
    schema = java_class("org.apache.flink.formats.raw.RawFormatDeserializationSchema")
    return DeserializationSchema(schema(value, row_type, "UTF-8", True))


def number_steps_anew(tables: StreamTableEnvironment) -> None:
    """Number the steps of SQL as in a new process: by the numbers a checkpoint finds state, and Flink counts on."""
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
