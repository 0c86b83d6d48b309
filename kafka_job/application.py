"""Application mode: a JobManager runs the script, and nobody sits at a terminal, as on Kubernetes."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from kafka_job.job import UNDER_FLINK_RUN, create_environment

from py4j.java_gateway import JavaObject

PAUSE = 10  # seconds
Result = TypeVar("Result")


def configuration_of_flink_run() -> dict[str, str]:
    """Flink's configuration as its config.yaml and the flags of 'flink run' have it."""
    return dict(create_environment({})._j_stream_execution_environment.getConfiguration().toMap())


def in_application_mode(configuration: dict[str, str]) -> bool:
    """Whether a JobManager runs the script, and its cluster this job alone, as on Kubernetes."""
    return configuration.get("execution.target") == "embedded"


def has_high_availability(configuration: dict[str, str]) -> bool:
    """Whether a JobManager that takes over knows the job."""
    mode = configuration.get("high-availability.type", configuration.get("high-availability", "NONE"))
    return mode.upper() != "NONE"


def is_recovered() -> bool:
    """Whether a JobManager has taken over the job: in application mode Flink runs the script once more.

    What the script would submit then is thrown away, and what it would check has changed while the job ran.
    """
    if not UNDER_FLINK_RUN or not in_application_mode(configuration_of_flink_run()):
        return False
    loader = private(create_environment({})._j_stream_execution_environment, "executorServiceLoader")
    return not private(loader, "submittedJobIds").isEmpty()


def patiently(check: Callable[[], Result]) -> Result:
    """What `check` returns. In application mode it is called again, PAUSE seconds later, as long as it exits.

    Nobody sits at a terminal there, and Flink would take a script that exits for a job that has failed for good.

    Raises:
        SystemExit: something is wrong.
    """
    while True:
        try:
            return check()
        except SystemExit as error:
            if not UNDER_FLINK_RUN or not in_application_mode(configuration_of_flink_run()):
                raise
            print(f"{error} (looking again every {PAUSE} seconds)", file=sys.stderr, flush=True)
        time.sleep(PAUSE)


def private(java: JavaObject, name: str) -> JavaObject:
    """The value of a private field."""
    owner = java.getClass()
    while name not in [field.getName() for field in owner.getDeclaredFields()]:
        owner = owner.getSuperclass()
    field = owner.getDeclaredField(name)
    field.setAccessible(True)
    return field.get(java)
