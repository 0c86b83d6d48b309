"""A job: the pipeline that a script builds, and what has to be known to run it."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kafka_job.checkpoints import check_state
from kafka_job.checks import find_connector
from kafka_job.offsets import Plan

import cloudpickle
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

STANDARD_LIBRARY = f"{Path(os.__file__).parent}/"
INSTALLED = re.compile("/(site|dist)-packages/")  # what pip, conda or the system have installed
FLINK_BRINGS = ("pyflink", "py4j", "cloudpickle")  # on a cluster from the archives in opt/python/
UNDER_FLINK_RUN = "PYFLINK_GATEWAY_PORT" in os.environ  # else Flink runs in a JVM that this process starts

RESTARTS = {
    "restart-strategy.type": "exponential-delay",  # after a failure go on from the last checkpoint, ...
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    # ... but do not try for ever. These are waits of a quarter of an hour: where a TaskManager is lost, each try may
    # fail at once until there is another one.
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "100",
}

Build = Callable[[StreamExecutionEnvironment, argparse.Namespace, Plan], None]


@dataclass(frozen=True)
class Job:
    """What a script hands over."""

    name: str  # what Flink calls it
    build: Build  # adds the pipeline to an environment
    options: argparse.Namespace  # those of JobParser, and the script's own
    settings: dict[str, str]  # Flink's configuration
    state: str  # what it keeps in state, in words

    def pipeline(self, plan: Plan) -> StreamExecutionEnvironment:
        """The whole pipeline that reads what a plan says, ready to be executed.

        Raises:
            SystemExit: it would leave out a part of the checkpoint that it goes on from.
        """
        environment = create_environment(plan.settings)
        if UNDER_FLINK_RUN:  # a local run has it on its class path
            # Not 'pipeline.jars', which replaces Flink's own jars under 'flink run'.
            environment.add_jars(find_connector().as_uri())
        take_modules_along()
        self.build(environment, self.options, plan)
        check_state(environment, plan)
        return environment


def create_environment(settings: dict[str, str]) -> StreamExecutionEnvironment:
    """Flink's entry point: the cluster of 'flink run', else one of our own in this process's JVM."""
    configuration = Configuration()  # this starts the JVM
    for key, value in settings.items():
        configuration.set_string(key, value)
    return StreamExecutionEnvironment.get_execution_environment(configuration)


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
