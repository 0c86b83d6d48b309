"""Why a job has failed: a Python traceback where a Python function was the cause, else the last cause in Java."""

import contextlib
import getpass
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from kafka_job.clients import Refused

import pyflink
from py4j.protocol import Py4JError, Py4JJavaError


def log_owner() -> str:
    """Whom Flink's log is named after: $FLINK_IDENT_STRING or the user; by number, where the user has no name."""
    with contextlib.suppress(KeyError, OSError):  # as in a container with a user id of its own choice
        return os.environ.get("FLINK_IDENT_STRING") or getpass.getuser()
    return str(os.getuid())


def log_file() -> str:
    """Where Flink writes its log in a local run; the next run writes it anew."""
    folder = os.environ.get("FLINK_LOG_DIR") or Path(pyflink.__file__).parent / "log"
    return f"{folder}/flink-{log_owner()}-python-{socket.gethostname()}.log"


def why_it_failed(java: str) -> str:
    """The cause of a failure, from what Java says of it: a Python traceback, or else a sentence."""
    causes = re.findall(r"^Caused by: (.*)", java, re.MULTILINE)
    return error_in_thread(java) or error_in_process(java) or no_longer_let_in(causes) or (causes or [java])[-1]


def no_longer_let_in(causes: list[str]) -> str | None:
    """That a broker refuses what it has granted before, as after a change of password; None where it does not."""
    refused = re.compile(r"\S+\.kafka\.common\.errors\.\w+(?:Authentication|Authorization)Exception: (.*)")
    for why in filter(None, map(refused.match, causes)):
        mend = "mend its rights, what has changed, or --kafka-config; then the same command goes on"
        return f"The broker does not let this client in, or not any more ({why[1]}); {mend}"
    return None


def error_in_thread(java: str) -> str | None:
    """The traceback of a Python function that has failed inside Flink's JVM; None where there is none.

    Its frames are among those of Java, the innermost first: at FOLDER/MODULE.FUNCTION(FILE:LINE)
    """
    errors = re.findall(r"pemja.core.PythonException: <class '(.*)'>: (.*)((?:\n\tat .*)*)", java)
    if not errors:
        return None
    kind, message, stack = errors[-1]
    frames = [
        (f"{folder}/{file}", int(line), function, None)
        for folder, function, file, line in re.findall(r"at (/.*)/[^/]+?\.([^/(]+)\((.+\.py):(\d+)\)", stack)
        if "/pyflink/" not in folder  # says nothing about the script
    ]
    calls = "".join(traceback.StackSummary.from_list(reversed(frames)).format())
    return f"Traceback (most recent call last):\n{calls}{kind.removeprefix('builtins.')}: {message}"


def error_in_process(java: str) -> str | None:
    """The traceback of a Python function that has failed in a process of its own; None where there is none."""
    error = re.search(r"Traceback \(most recent call last\):\n.*?(?=\n\n|\n\tat )", java, re.DOTALL)
    if not error:
        return None
    # Without the frames of Flink and Beam, which say nothing about the script.
    return re.sub(r'^  File "[^"]*(?:pyflink|apache_beam)/.*?(?=^  File|^\S)', "", error[0], flags=re.M | re.S)


@contextlib.contextmanager
def said_in_one_sentence() -> Iterator[None]:
    """End the program with what its user has to know, where the job in the `with` block fails."""
    try:
        yield
    except Py4JJavaError as error:
        sys.exit(f"{why_it_failed(str(error))}\nThe job has failed. All of Flink's log is in {log_file()}")
    except Py4JError as error:
        if "Trace:" in str(error):  # a call that Java does not know: a fault of ours
            raise
        sys.exit(f"Flink's JVM has ended, killed or out of memory. All of its log is in {log_file()}")
    except RuntimeError as error:
        if "Java gateway process exited" not in str(error):
            raise
        sys.exit(f"Flink's JVM has ended before it was ready, killed or out of memory. Its log is in {log_file()}")
    except Refused as error:
        sys.exit(f"Kafka does not answer Flink's client, or refuses what it asks for: {error}")
