"""Flink's entry point for a pipeline, and what travels with a job.

Leans on: Java's environment behind PyFlink's; an environment variable of PyFlink's own tests; that PyFlink pickles
functions with cloudpickle.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from kafka_job.flink.connector import find_connector
from kafka_job.flink.gateway import under_flink_run, variables
from kafka_job.flink.java import java_class

import cloudpickle
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.util.java_utils import add_jars_to_context_class_loader

STANDARD_LIBRARY = f"{Path(os.__file__).parent}/"
INSTALLED = re.compile("/(site|dist)-packages/")  # what pip, conda or the system have installed
FLINK_BRINGS = ("pyflink", "py4j", "cloudpickle")  # on a cluster from the archives in opt/python/


def create_environment(settings: dict[str, str]) -> StreamExecutionEnvironment:
    """An environment on the cluster of 'flink run', else on a Flink of our own in this process's JVM."""
    configuration = Configuration()
    for key, value in settings.items():
        configuration.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    if under_flink_run():
        # Our own Flink has it on its class path. Not 'pipeline.jars', which replaces Flink's own jars.
        environment.add_jars(find_connector().as_uri())
    return environment


@contextlib.contextmanager
def without_server() -> Iterator[None]:
    """Let PyFlink start no server in this process while a pipeline is drawn: few have the workers that it is for."""
    with variables({"_python_worker_execution_mode": "process"}):
        yield


def load_connector() -> None:
    """Let the JVM of 'flink run' find the connector's classes: what asks a broker and reads checkpoints is in there."""
    add_jars_to_context_class_loader([find_connector().as_uri()])


def configuration_of(environment: StreamExecutionEnvironment) -> dict[str, str]:
    """Flink's configuration, of an environment without settings: its config.yaml, and the flags of 'flink run'."""
    return dict(environment._j_stream_execution_environment.getConfiguration().toMap())


def operator_ids(environment: StreamExecutionEnvironment) -> set[str]:
    """The ids of the operators of a pipeline, by which a checkpoint finds their state."""
    loader = java_class("java.lang.Thread").currentThread().getContextClassLoader()
    graph = environment._j_stream_execution_environment.getStreamGraph(False).getJobGraph(loader)
    return {
        str(pair.getGeneratedOperatorID()) for vertex in graph.getVerticesAsArray() for pair in vertex.getOperatorIDs()
    }


def take_modules_along() -> None:
    """Let functions of modules that no other machine has travel with the job, as the script's own functions do.

    A function is pickled with its code if it is the script's own, and by its name if it was imported. A TaskManager on
    another machine could not import it.
    """
    for name, module in sorted(sys.modules.items()):
        if getattr(module, "__name__", None) == name and travels(name, getattr(module, "__file__", None)):
            cloudpickle.register_pickle_by_value(module)


def travels(name: str, file: str | None) -> bool:
    """Whether a module's functions are to travel with the job: all of Python code that a worker may not have installed.

    Args:
        name: of the module, with those of its packages.
        file: where it was loaded from; None for one that is built in.
    """
    package = name.partition(".")[0]
    if package in FLINK_BRINGS or not (file or "").endswith(".py"):  # other files are compiled code
        return False
    return package == "kafka_job" or not (file.startswith(STANDARD_LIBRARY) or INSTALLED.search(file))
