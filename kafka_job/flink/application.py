"""Application mode, as a JobManager knows it that runs the script, and one that has taken over and runs it once more.

Leans on: private fields that say which jobs a JobManager has found, and a key of Flink's configuration. That `execute`
goes on with a job that was found holds in Flink 2.2 and 2.3 (FLIP-560), see `go_on`.
"""

from kafka_job.flink.environment import configuration_of
from kafka_job.flink.java import private

from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource

JOB_ID = "$internal.pipeline.job-id"  # with high availability a job has the same one wherever it is taken over
# Flink 2.3 has the jobs that it has found in two lists, and another one, of those that this script has executed.
FOUND = (("suspendedJobIds", "submittedJobIds"), ("terminalJobIds", "submittedJobIds"))


def has_taken_over(environment: StreamExecutionEnvironment) -> bool:
    """Whether a JobManager has taken over the job. `environment`: without settings, in application mode.

    Raises:
        AttributeError: Flink has its lists of jobs under other names.
    """
    loader = private(environment._j_stream_execution_environment, "executorServiceLoader")
    found = {job.toString() for names in FOUND for job in private(loader, *names)}
    return configuration_of(environment).get(JOB_ID) in found


def go_on(name: str) -> None:
    """Let a JobManager that has taken over go on with the job of this name.

    Flink 2.2 goes on by itself. Flink 2.3 does so when the script executes a job of the same name, and forgets the job
    where the script ends without that. Neither looks at the pipeline, which only must not be empty. One that would run
    it fails at once, since there is nothing to recover.
    """
    configuration = Configuration().set_string("execution.state-recovery.path", "/nothing but what Flink has found")
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    numbers = NumberSequenceSource(0, 0)
    environment.from_source(numbers, WatermarkStrategy.no_watermarks(), "stand-in", Types.LONG()).print()
    environment.execute(name)
