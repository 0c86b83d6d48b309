"""Application mode: a JobManager runs the script, and nobody sits at a terminal, as on Kubernetes."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from kafka_job.flink.application import has_taken_over
from kafka_job.flink.environment import configuration_of, create_environment
from kafka_job.terminal import say

PAUSE = 10  # seconds
Result = TypeVar("Result")


def configuration_of_flink_run() -> dict[str, str]:
    """Flink's configuration as its config.yaml and the flags of 'flink run' have it."""
    return configuration_of(create_environment({}))


def in_application_mode(configuration: Mapping[str, str]) -> bool:
    """Whether a JobManager runs the script, and its cluster this job alone, as on Kubernetes."""
    return configuration.get("execution.target") == "embedded"


def has_high_availability(configuration: Mapping[str, str]) -> bool:
    """Whether a JobManager that takes over knows the job."""
    mode = configuration.get("high-availability.type", configuration.get("high-availability", "NONE"))
    return mode.upper() != "NONE"


def is_taken_over(configuration: Mapping[str, str]) -> bool:
    """Whether a JobManager has taken over the job, and runs the script once more.

    The job goes on with what it was started with, whatever has become of a file or a topic since.
    """
    return in_application_mode(configuration) and has_taken_over(create_environment({}))


def patiently(check: Callable[[], Result], configuration: Mapping[str, str]) -> Result:
    """What `check` returns. In application mode it is called again, PAUSE seconds later, as long as it exits.

    Nobody sits at a terminal there, and Flink would take a script that exits for a job that has failed for good.

    Raises:
        SystemExit: something is wrong.
    """
    while True:
        try:
            return check()
        except SystemExit as error:
            if not in_application_mode(configuration):
                raise
            say(f"{error} (looking again every {PAUSE} seconds)")
        time.sleep(PAUSE)
