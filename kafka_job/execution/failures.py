"""How a run ends where something has failed."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from kafka_job.flink.failures import why_it_failed
from kafka_job.flink.gateway import log_file
from kafka_job.kafka.broker import Refused

from py4j.protocol import Py4JError, Py4JJavaError


@contextlib.contextmanager
def said_in_one_sentence() -> Iterator[None]:
    """End the program with what its user has to know, where the job in the `with` block fails."""
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
    except Refused as error:
        sys.exit(f"Kafka does not answer Flink's client, or refuses what it asks for: {error}")
    finally:
        logger.removeHandler(handler)
