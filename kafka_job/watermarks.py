"""A watermark that survives a restart, and a drain while the source is idle; see KeepWatermark.java."""

from typing import TypeVar

from kafka_job.java_operators import java_operator

from pyflink.datastream import DataStream, KeyedStream
from pyflink.java_gateway import get_gateway

Stream = TypeVar("Stream", DataStream, KeyedStream)


def keep_watermark(stream: Stream) -> Stream:
    """The same records and watermarks, with the watermark in state.

    What follows finds late after a restart what was late before it, and a drain closes all windows. Its place is right
    before what works on event time, after key_by: the watermark there is made of those of all subtasks before.
    """
    java = stream._j_data_stream
    kept = java_operator(DataStream(java), "KeepWatermark", [], java.getType(), uid="keep-watermark")
    if not isinstance(stream, KeyedStream):
        return kept
    utils = get_gateway().jvm.org.apache.flink.streaming.api.datastream.DataStreamUtils
    keyed = utils.reinterpretAsKeyedStream(kept._j_data_stream, java.getKeySelector(), java.getKeyType())
    return KeyedStream(keyed, stream._original_data_type_info, stream._origin_stream)
