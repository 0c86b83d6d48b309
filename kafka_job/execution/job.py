"""A job: the pipeline that a script builds, what has to be known to run it, and how it ends where it fails."""

import contextlib
import errno
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka_job.flink.environment import create_environment, take_modules_along, without_server
from kafka_job.flink.gateway import log_file
from kafka_job.flink.running import why_it_failed
from kafka_job.kafka.broker import Broker, Refused
from kafka_job.options import JobOptions
from kafka_job.pipeline.source import Plan
from kafka_job.resume.plans import Recovery, check_state

from py4j.protocol import Py4JError, Py4JJavaError
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
    """What a script hands over, see `run`."""

    name: str
    build: Build
    options: JobOptions
    settings: Mapping[str, str]  # Flink's configuration
    state: str
    broker: Broker
    rights: Mapping[str, str]  # by topic, READ or WRITE

    def pipeline(self, plan: Plan, settings: Mapping[str, str], recovery: Recovery) -> StreamExecutionEnvironment:
        """The whole pipeline, ready to be executed; exits with one sentence where it would lose state."""
        take_modules_along()
        with without_server():
            environment = create_environment({**settings, **recovery.settings})
            self.build(environment, self.options, plan)
        if recovery.checkpoint:
            check_state(environment, recovery.checkpoint)
        return environment


@contextlib.contextmanager
def said_in_one_sentence(folder: Path | None = None) -> Iterator[None]:
    """End the program with what its user has to know, where the job in the `with` block fails.

    `folder`: of its checkpoints.
    """
    logger, handler = logging.getLogger(), logging.NullHandler()
    logger.addHandler(handler)  # what py4j logs comes as an exception as well
    try:
        yield
    except Py4JJavaError as error:
        sys.exit(f"{why_it_failed(str(error))}\nThe job has failed. All of Flink's log is in {log_file()}")
    except Py4JError as error:
        if "Trace:" in str(error):  # a call that Java does not know: a fault of ours
            raise
        sys.exit(f"Flink's JVM has ended, killed or out of memory. All of its log is in {log_file()}")
    except OSError as error:
        in_folder = folder and error.filename and Path(error.filename).is_relative_to(folder)
        if not in_folder and error.errno not in (errno.ENOSPC, errno.EDQUOT):  # the script's own
            raise
        where = error.filename or "the folder of checkpoints"
        sys.exit(f"Cannot use {where}: {error.strerror}; choose another folder: --checkpoint-dir DIR")
    except Refused as error:
        sys.exit(f"Kafka does not answer Flink's client, or refuses what it asks for: {error}")
    finally:
        logger.removeHandler(handler)
