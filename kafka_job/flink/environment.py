"""Flink's entry point for a pipeline, what travels with a job, and what a JobManager knows that runs the script.

Leans on: Java's environment behind PyFlink's; an environment variable of PyFlink's own tests; that PyFlink pickles
functions with cloudpickle; in application mode, private fields that say which jobs a JobManager has found, a key of
Flink's configuration, and that `execute` goes on with a job that was found (FLIP-560), see `go_on_found`.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from kafka_job.flink.connector import connector_jars, java_class, private
from kafka_job.flink.operators import jar_of_classes

import cloudpickle
from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource

STANDARD_LIBRARY = f"{Path(os.__file__).parent}/"
INSTALLED = re.compile("/(site|dist)-packages/")  # what pip, conda or the system have installed
FLINK_BRINGS = ("pyflink", "py4j", "cloudpickle")  # on a cluster from the archives in opt/python/
WORKERS = "_python_worker_execution_mode"  # of PyFlink's own tests
JOB_ID = "$internal.pipeline.job-id"  # with high availability a job has the same one wherever it is taken over
# Flink 2.3 has the jobs that it has found in two lists, and another one, of those that this script has executed.
FOUND = (("suspendedJobIds", "submittedJobIds"), ("terminalJobIds", "submittedJobIds"))


def create_environment(settings: dict[str, str]) -> StreamExecutionEnvironment:
    """An environment on the cluster of 'flink run', else on a Flink of our own in this process's JVM."""
    configuration = Configuration()
    for key, value in settings.items():
        configuration.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    # For the job, and for this JVM, which asks a broker and reads checkpoints. Our own has most on its class path, or
    # all. Not 'pipeline.jars', which replaces Flink's own jars.
    class_path = java_class("java.lang.System").getProperty("java.class.path").split(os.pathsep)
    jars = [jar for jar in (*connector_jars(), jar_of_classes()) if str(jar) not in class_path]
    if jars:
        environment.add_jars(*(jar.as_uri() for jar in jars))
    return environment


@contextlib.contextmanager
def without_server() -> Iterator[None]:
    """Let PyFlink start no server in this process while a pipeline is drawn: few have the workers that it is for."""
    os.environ[WORKERS] = "process"
    try:
        yield
    finally:
        del os.environ[WORKERS]


def configuration_of(environment: StreamExecutionEnvironment) -> dict[str, str]:
    """Flink's configuration, of an environment without settings: its config.yaml, and the flags of 'flink run'."""
    return dict(environment._j_stream_execution_environment.getConfiguration().toMap())


def operator_ids(environment: StreamExecutionEnvironment) -> set[str]:
    """The ids of the operators of a pipeline, by which a checkpoint finds their state."""
    loader = java_class("java.lang.Thread").currentThread().getContextClassLoader()
    graph = environment._j_stream_execution_environment.getStreamGraph(False).getJobGraph(loader)
    vertices = graph.getVerticesAsArray()
    return {str(pair.getGeneratedOperatorID()) for vertex in vertices for pair in vertex.getOperatorIDs()}


def take_modules_along() -> None:
    """Let functions of modules that no other machine has travel with their code, as those of the script itself do."""
    for name, module in sorted(sys.modules.items()):
        if getattr(module, "__name__", None) == name and travels(name, getattr(module, "__file__", None)):
            cloudpickle.register_pickle_by_value(module)


def travels(name: str, file: str | None) -> bool:
    """Whether a module travels with the job: Python code, in a file, that a worker may not have installed."""
    package = name.partition(".")[0]
    if package in FLINK_BRINGS or not (file or "").endswith(".py"):  # other files are compiled code
        return False
    return package == "kafka_job" or not (file.startswith(STANDARD_LIBRARY) or INSTALLED.search(file))


def has_taken_over(environment: StreamExecutionEnvironment) -> bool:
    """Whether a JobManager has taken over the job, and runs the script once more. Only in application mode."""
    loader = private(environment._j_stream_execution_environment, "executorServiceLoader")
    found = {job.toString() for names in FOUND for job in private(loader, *names)}
    return configuration_of(environment).get(JOB_ID) in found


def go_on_found(name: str) -> None:
    """Let a JobManager that has taken over go on with the job of this name.

    Flink 2.2 goes on by itself, Flink 2.3 when the script executes a job of that name. Neither looks at the pipeline,
    which only must not be empty. One that would run it fails at once, since there is nothing to recover.
    """
    environment = create_environment({"execution.state-recovery.path": "/nothing but what Flink has found"})
    numbers = NumberSequenceSource(0, 0)
    environment.from_source(numbers, WatermarkStrategy.no_watermarks(), "stand-in", Types.LONG()).print()
    environment.execute(name)
