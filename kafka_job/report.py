"""What a job has not counted, or has changed: a metric while it runs, a line on stderr when it ends."""

from kafka_job.java_operators import java_operator

from pyflink.datastream import DataStream


def report(numbers: DataStream, metric: str, sentence: str) -> None:
    """Add up numbers, exactly, whatever ends the job.

    When the job ends, each subtask that has found something says "SENTENCE: SUM" on stderr: in a local run there is
    one subtask, on a cluster it is the .out file of a TaskManager.

    Args:
        numbers: stream of Types.LONG().
        metric: the name of the sum among Flink's metrics, of which each subtask has one.
        sentence: what is said before the sum.
    """
    unused = numbers._j_data_stream.getType()  # an operator must name an output type; nothing comes out
    java_operator(numbers, "Tally", [metric, sentence], unused, uid=f"report-{metric}")
