"""Application mode, as a JobManager that runs the script knows it.

Leans on: two private fields that say which jobs a JobManager has taken over. Flink 2.3 has others (FLIP-560), and there
a job goes on only if the script executes it again: do not mend the names alone, see tests/test_application.py.
"""

from kafka_job.flink.java import private

from pyflink.datastream import StreamExecutionEnvironment


def has_taken_over(environment: StreamExecutionEnvironment) -> bool:
    """Whether a JobManager has taken over the job, and runs the script once more."""
    loader = private(environment._j_stream_execution_environment, "executorServiceLoader")
    return not private(loader, "submittedJobIds").isEmpty()
