"""Classes in Java, for what a Python function is not told, and for what PyFlink has no way to say. And SQL.

The sources beside this file become a jar at the set-up, or when the first job starts. Flink brings the compiler with
which it compiles SQL, Janino, which wants raw types; so no Java compiler is to be installed. The jar travels with the
job, and a cluster needs nothing of this folder.

Leans on: Janino; DataStream.transform; in Java, DataOutputSerializer, StreamRecord, WatermarkStatus and the metrics'
task_attempt_id; what is in Java behind PyFlink's streams, builders, strategies, data types and table environment; its
KeyByKeySelector; the 'raw' format of Flink SQL as a class; the planner's counter of steps.
"""

import atexit
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from kafka_job.flink.connector import connector_jars, java_class

from pyflink.common import Duration, TypeInformation, Types, WatermarkStrategy
from pyflink.common.serialization import DeserializationSchema
from pyflink.datastream import DataStream, KeyedStream, OutputTag
from pyflink.datastream.connectors import kafka
from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.types import DataType, _to_java_data_type
from pyflink.util.java_utils import to_jarray

SOURCES = Path(__file__).resolve().parent
KEY_SELECTOR = "org.apache.flink.streaming.api.functions.python.KeyByKeySelector"


def jar_of_set_up() -> Path:
    """Where the jar of the Java classes beside this file is, if the set-up has made it."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(SOURCES.glob("*.java"))))
    return Path(sys.prefix, "share", f"kafka_job-{digest.hexdigest()[:16]}.jar")


@functools.cache  # for all jobs of this process
def jar_of_classes() -> Path:
    """The jar of the Java classes beside this file: that of the set-up, else one that goes when this process ends."""
    made = jar_of_set_up()
    if made.exists():
        return made
    folder = Path(tempfile.mkdtemp(prefix="classes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(folder / made.name, "w") as jar:
        for name, code in compiled().items():
            jar.writestr(name, bytes(code))
    return folder / made.name


def compiled() -> dict[str, bytes]:
    """The Java classes beside this file, by the names of their files in a jar."""
    file, classes = java_class("java.io.File"), java_class("java.util.HashMap")()
    compiler = java_class("org.codehaus.janino.CompilerFactory")().newCompiler()
    # The JVM of 'flink run' has Flink on its class path, but not the connector, which some of the classes need.
    flink = java_class("java.lang.System").getProperty("java.class.path").split(os.pathsep)
    class_path = [*filter(None, flink), *map(str, connector_jars())]
    compiler.setClassPath(to_jarray(file, [file(path) for path in class_path]))
    compiler.setClassFileCreator(java_class("org.codehaus.commons.compiler.util.resource.MapResourceCreator")(classes))
    compiler.compile(to_jarray(file, [file(str(source)) for source in SOURCES.glob("*.java")]))
    return dict(classes)


def through_operator(
    stream: DataStream, class_name: str, *constants: Any, uid: str, output_type: TypeInformation | None = None
) -> DataStream:
    """A stream through one of our operators, with as many subtasks, and by default the same type.

    `constants`: what its constructor is given. `uid`: with spaces it is its name, too.
    """
    before = stream._j_data_stream
    # Of a keyed stream, too, the operator is one without keys.
    unkeyed = java_class("org.apache.flink.streaming.api.datastream.DataStream")(
        before.getExecutionEnvironment(), before.getTransformation()
    )
    java_type = output_type.get_java_type_info() if output_type else before.getType()
    in_java = [getattr(constant, "_j_watermark_strategy", constant) for constant in constants]
    operator = java_class(f"kafka_job.{class_name}")(*in_java)
    after = unkeyed.transform(uid.replace("-", " "), java_type, operator)
    return DataStream(after.uid(uid).setParallelism(before.getParallelism()))


def side_output(stream: DataStream, name: str) -> DataStream:
    """The numbers that one of our operators has sent to a side output. PyFlink's own way goes through Python again."""
    return DataStream(stream._j_data_stream.getSideOutput(OutputTag(name, Types.LONG()).get_java_output_tag()))


def keyed_by_first_field(rows: DataStream, key_type: TypeInformation, value_type: TypeInformation) -> KeyedStream:
    """Rows of a key and a value as a stream of values with keys: what PyFlink's key_by makes, in one call of Python."""
    keys = rows._j_data_stream.keyBy(java_class(KEY_SELECTOR)(), Types.ROW([key_type]).get_java_type_info())
    return KeyedStream(keys, value_type, rows)


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


def pickled_records(source: kafka.KafkaSourceBuilder) -> None:
    """Let a source give records in pickled parts, see Records.java."""
    source._j_builder.setDeserializer(java_class("kafka_job.Records")())


def rows_as_messages(sink: kafka.KafkaSinkBuilder, topic: str) -> None:
    """Let a sink write rows of key, value, names of headers and their values as records of a topic."""
    sink._j_builder.setRecordSerializer(java_class("kafka_job.Messages")(topic))


def max_ahead(watermarks: WatermarkStrategy, seconds: int, idle_timeout: int) -> WatermarkStrategy:
    """The same watermarks, which no record moves that is so much ahead of the wall clock; 0: no limit.

    Raises ValueError for a strategy with a timestamp assigner, which PyFlink would leave out.
    """
    if watermarks._timestamp_assigner:
        mend = "see read_records for a time of your own"
        raise ValueError(f"PyFlink leaves out with_timestamp_assigner at a source; {mend}")
    guarded = with_idleness(watermarks, idle_timeout)._j_watermark_strategy
    return WatermarkStrategy(java_class("kafka_job.MaxAhead")(guarded, seconds * 1000))


def watermarks_of_times_read(delay: int, idle_timeout: int) -> WatermarkStrategy:
    """Watermarks by the times that Python reads in records, less a delay, see EventTime.java; both in seconds."""
    watermarks = java_class("kafka_job.EventTime$Watermarks")(delay * 1000, idle_timeout * 1000)
    return with_idleness(WatermarkStrategy(watermarks), idle_timeout)


def with_idleness(watermarks: WatermarkStrategy, idle_timeout: int) -> WatermarkStrategy:
    """The strategy, where a partition without records is idle after some seconds; 0: never."""
    return watermarks.with_idleness(Duration.of_seconds(idle_timeout)) if idle_timeout else watermarks


def number_steps_anew(tables: StreamTableEnvironment) -> None:
    """Number the steps of SQL as in a new process: by the numbers a checkpoint finds state, and Flink counts on."""
    planner = tables._j_tenv.getPlanner().getClass().getClassLoader()  # its classes are hidden from all others
    context = planner.loadClass("org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext")
    context.getMethod("resetIdCounter", None).invoke(None, None)


def query(tables: StreamTableEnvironment, sql: str, data_type: DataType) -> DataStream:
    """The values of a query with one column, STRING or BIGINT. PyFlink's own way makes rows of one field of them."""
    stream = tables._j_tenv.toDataStream(tables.sql_query(sql)._j_table, _to_java_data_type(data_type))
    # The type of SQL says the same, but PyFlink would take the values for rows.
    value_type = Types.STRING() if data_type == DataTypes.STRING() else Types.LONG()
    stream.getTransformation().setOutputType(value_type.get_java_type_info())
    return DataStream(stream)
