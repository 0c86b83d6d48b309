"""Two operators in Java, for what has to be done for every line, or every word, before it is worth a crossing.

A call from Flink's JVM to a Python function costs some 30 microseconds, whether it brings one line or 100,000. Python
cannot collect lines itself: a function in PyFlink is not told when a checkpoint begins, so what it holds back is lost
in a crash. An operator in Java is told. Flink compiles the sources beside this file when the job starts, with the
compiler that it uses for SQL; no Java compiler is to be installed.
"""

from pathlib import Path

from py4j.java_gateway import JavaObject
from pyflink.common import TypeInformation
from pyflink.common.serialization import DeserializationSchema
from pyflink.datastream import DataStream
from pyflink.java_gateway import get_gateway
from pyflink.table.types import DataType, DataTypes, _to_java_data_type
from pyflink.util.java_utils import to_jarray

LINE = DataTypes.ROW([DataTypes.FIELD("line", DataTypes.BYTES())])


def row_type(data_type: DataType) -> JavaObject:
    """The Java TypeInformation of rows as Flink SQL holds them."""
    types = get_gateway().jvm.org.apache.flink.table.runtime.typeutils
    return types.InternalTypeInfo.of(_to_java_data_type(data_type).getLogicalType())


def line_schema() -> DeserializationSchema:
    """A record's value as a row of one field: bytes, or null for a null value (a tombstone).

    This is what the 'raw' format of Flink SQL does. SimpleStringSchema fails on a null value, ByteArraySchema skips
    it in silence.
    """
    line = _to_java_data_type(DataTypes.BYTES()).getLogicalType()
    raw = get_gateway().jvm.org.apache.flink.formats.raw
    return DeserializationSchema(raw.RawFormatDeserializationSchema(line, row_type(LINE), "UTF-8", True))


def java_operator(
    name: str, lines: DataStream, uid: str, output_type: TypeInformation | JavaObject, window: int, limit: int
) -> DataStream:
    """A stream of lines, as rows of `line_schema`, through one of the operators of this folder.

    Args:
        name: of its class and file.
        window: milliseconds.
        limit: how much it may hold back, in the class's own unit.
    """
    jvm = get_gateway().jvm
    source = (Path(__file__).parent / f"{name}.java").read_text("utf-8")
    constants = to_jarray(jvm.java.lang.Object, [window, limit])
    options = jvm.org.apache.flink.configuration.Configuration()
    generated = jvm.org.apache.flink.table.runtime.generated.GeneratedOperator(name, source, constants, options)
    stream = lines._j_data_stream
    environment = stream.getExecutionEnvironment()
    transformation = jvm.org.apache.flink.streaming.api.transformations.OneInputTransformation(
        stream.getTransformation(),
        uid.replace("-", " "),
        jvm.org.apache.flink.table.runtime.operators.CodeGenOperatorFactory(generated),
        output_type.get_java_type_info() if isinstance(output_type, TypeInformation) else output_type,
        stream.getParallelism(),
    )
    transformation.setUid(uid)
    environment.addOperator(transformation)
    return DataStream(jvm.org.apache.flink.streaming.api.datastream.DataStream(environment, transformation))
