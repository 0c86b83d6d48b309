"""Windows that are reduced to one result a key, and say what came too late for them."""

from collections.abc import Callable
from typing import Any

from kafka_job.pipeline.report import report_late

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, ProcessWindowFunction
from pyflink.datastream.window import WindowAssigner

LATE = OutputTag("late")


def reduce_windows(
    keyed: KeyedStream,
    windows: WindowAssigner,
    add: Callable[[Any, Any], Any],
    make_rows: ProcessWindowFunction,
    size: Callable[[Any], int],
    *,
    name: str,
    uid: str,
    things: str = "words",
) -> DataStream:
    """Rows of text: what `make_rows` makes of each window's one record, into which `add` has joined all of a key.

    Args:
        keyed: with the watermark kept, see `keep_watermark`.
        size: how many things a record stands for, see `report_late`; so is `things`.
        name, uid: of the step; a checkpoint finds its state by the uid.
    """
    rows = (
        keyed.window(windows)
        .side_output_late_data(LATE)
        .reduce(add, make_rows, output_type=Types.STRING())
        .name(name)
        .uid(uid)
    )
    report_late(rows, LATE, size, things)
    return rows
