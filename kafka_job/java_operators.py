"""Operators in Java, for what a Python function is not told: that a checkpoint begins, and that the job ends.

Flink compiles the sources beside this file when the job starts, with the compiler that it uses for SQL; no Java
compiler is to be installed. The source text is part of the job, so a cluster needs nothing of this folder.
"""

from pathlib import Path
from typing import Any

from py4j.java_gateway import JavaObject
from pyflink.datastream import DataStream
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray


def java_operator(
    stream: DataStream, class_name: str, constants: list[Any], output_type: JavaObject, uid: str
) -> DataStream:
    """A stream through one of the operators of this folder, with as many subtasks as the stream has.

    Args:
        class_name: of the operator; its file is CLASS_NAME.java.
        constants: what the operator's constructor is given, values that Java can serialize.
        output_type: Java TypeInformation of what comes out.
        uid: of the operator, for checkpoints; with spaces for dashes it is the operator's name, too.
    """
    jvm = get_gateway().jvm
    generated = jvm.org.apache.flink.table.runtime.generated.GeneratedOperator(
        class_name,
        (Path(__file__).parent / f"{class_name}.java").read_text("utf-8"),
        to_jarray(jvm.java.lang.Object, constants),
        jvm.org.apache.flink.configuration.Configuration(),
    )
    environment = stream._j_data_stream.getExecutionEnvironment()
    transformation = jvm.org.apache.flink.streaming.api.transformations.OneInputTransformation(
        stream._j_data_stream.getTransformation(),
        uid.replace("-", " "),
        jvm.org.apache.flink.table.runtime.operators.CodeGenOperatorFactory(generated),
        output_type,
        stream._j_data_stream.getParallelism(),
    )
    transformation.setUid(uid)
    environment.addOperator(transformation)
    return DataStream(jvm.org.apache.flink.streaming.api.datastream.DataStream(environment, transformation))


def side_output(stream: DataStream, tag: JavaObject) -> DataStream:
    """What one of our operators has sent to a side output; `tag` is a Java OutputTag."""
    jvm = get_gateway().jvm
    environment = stream._j_data_stream.getExecutionEnvironment()
    transformation = jvm.org.apache.flink.streaming.api.transformations.SideOutputTransformation(
        stream._j_data_stream.getTransformation(), tag
    )
    return DataStream(jvm.org.apache.flink.streaming.api.datastream.DataStream(environment, transformation))
