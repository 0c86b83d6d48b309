"""A watermark that survives a restart, and a drain while the source is idle; see KeepWatermark.java."""

from typing import TypeVar

from kafka_job.flink.operators import as_plain, keyed_as_before, through_operator

from pyflink.datastream import DataStream, KeyedStream

Stream = TypeVar("Stream", DataStream, KeyedStream)


def keep_watermark(stream: Stream) -> Stream:
    """The same records and watermarks, with the watermark in state.

    What follows finds late after a restart what was late before it, and a drain closes all windows. Its place is right
    before what works on event time, after key_by: the watermark there is made of those of all subtasks before.
    """
    if isinstance(stream, KeyedStream):
        return keyed_as_before(through_operator(as_plain(stream), "KeepWatermark", [], uid="keep-watermark"), stream)
    return through_operator(stream, "KeepWatermark", [], uid="keep-watermark")
