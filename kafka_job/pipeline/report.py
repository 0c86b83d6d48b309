"""What a job has not counted, or has changed: a metric while it runs, a line on stderr when it ends."""

from collections.abc import Callable
from typing import Any

from kafka_job.flink.operators import through_operator

from pyflink.common import Types
from pyflink.datastream import DataStream, OutputTag

TOO_LATE = "came after their windows had closed, not counted (--max-delay)"


def report(numbers: DataStream, metric: str, sentence: str) -> None:
    """Add up numbers, exactly, whatever ends the job.

    When the job ends, each subtask that has found something says "SENTENCE: SUM" on stderr: in a local run there is
    one subtask, on a cluster it is the .out file of a TaskManager.

    Args:
        numbers: stream of Types.LONG().
        metric: the name of the sum among Flink's metrics, of which each subtask has one.
        sentence: what is said before the sum.
    """
    through_operator(numbers, "Tally", [metric, sentence], uid=f"report-{metric}")


def report_late(rows: DataStream, tag: OutputTag, size: Callable[[Any], int], things: str = "words") -> None:
    """Report what a window has sent to the side output `tag`, because it came after the window had closed.

    Args:
        rows: what comes out of the windows.
        size: how many things a late record stands for.
        things: what is counted, in one word.
    """
    late = rows.get_side_output(tag).name("late").uid("late")
    numbers = late.map(size, output_type=Types.LONG()).name(f"number of {things}")
    report(numbers, f"late{things.capitalize()}", f"{things.capitalize()} that {TOO_LATE}")
