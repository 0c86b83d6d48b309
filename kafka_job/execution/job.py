"""A job: the pipeline that a script builds, and what has to be known to run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka_job.flink.environment import create_environment, take_modules_along, without_server
from kafka_job.kafka.broker import Broker
from kafka_job.options import JobOptions
from kafka_job.pipeline.source import Plan
from kafka_job.resume.plans import Recovery, check_state

from pyflink.datastream import StreamExecutionEnvironment

RESTARTS = {
    "restart-strategy.type": "exponential-delay",  # after a failure go on from the last checkpoint, ...
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    # ... but do not try for ever. These are waits of a quarter of an hour: where a TaskManager is lost, each try may
    # fail at once until there is another one.
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "100",
}

Build = Callable[[StreamExecutionEnvironment, Any, Plan], None]  # in the middle: the script's own JobOptions


@dataclass(frozen=True)
class Job:
    """What a script hands over."""

    name: str  # what Flink calls it
    build: Build  # adds the pipeline to an environment
    options: JobOptions
    settings: Mapping[str, str]  # Flink's configuration
    state: str  # what it keeps in state, in words
    broker: Broker

    def pipeline(self, plan: Plan, settings: Mapping[str, str], recovery: Recovery) -> StreamExecutionEnvironment:
        """The whole pipeline that reads what a plan says, ready to be executed.

        Args:
            settings: Flink's configuration, less what goes on from a checkpoint.

        Raises:
            SystemExit: it would leave out a part of the checkpoint that it goes on from.
        """
        take_modules_along()
        with without_server():
            environment = create_environment({**settings, **recovery.settings})
            self.build(environment, self.options, plan)
        if recovery.checkpoint:
            check_state(environment, recovery.checkpoint)
        return environment
