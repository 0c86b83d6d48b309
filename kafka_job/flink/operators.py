"""Operators in Java, for what a Python function is not told: that a checkpoint begins, and that the job ends.

Flink compiles the sources beside this file when the job starts, with the compiler that it uses for SQL, Janino, which
wants raw types; the arguments of a constructor are those that Flink passes. No Java compiler is to be installed. The
source text is part of the job, so a cluster needs nothing of this folder.

Leans on: GeneratedOperator and its factory, which are Flink SQL's; transformations added to Java's environment; Java's
stream behind PyFlink's.
"""

from pathlib import Path
from typing import Any

from kafka_job.flink.java import java_class

from py4j.java_gateway import JavaObject
from pyflink.common import TypeInformation
from pyflink.datastream import DataStream, KeyedStream, OutputTag
from pyflink.util.java_utils import to_jarray


def through_operator(
    stream: DataStream, class_name: str, constants: list[Any], uid: str, output_type: TypeInformation | None = None
) -> DataStream:
    """A stream through one of the operators of this folder, with as many subtasks as the stream has.

    Args:
        constants: what the operator's constructor is given, values that Java can serialize.
        uid: of the operator, for checkpoints; with spaces for dashes it is the operator's name, too.
        output_type: of what comes out; None: that of the stream.
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
    """The source text of an operator."""
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
