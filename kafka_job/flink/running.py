"""A job that runs on our own Flink: ask it, stop it, end it; and why it has failed.

Leans on: the mini cluster behind the client of a job; the Java client, where PyFlink calls methods that are no longer
there (stop_with_savepoint); what a stop and a checkpoint fail with; the names of metrics, here and in
live.py and watch.py of execution/; how Java prints a failure; among its frames those of Python, as pemja writes them in
thread mode, or a traceback, as Beam does in process mode.
"""

import contextlib
import json
import re
import sys
import time
import traceback
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kafka_job.flink.connector import java_class, private
from kafka_job.flink.snapshots import SAVEPOINTS, number_of
from kafka_job.terminal import say

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyflink.common import JobClient

CLOSE_TIMEOUT = 30  # seconds
PROGRESS = 5.0  # seconds between the lines that say that a stop takes long
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Flink's own client takes none either
# A stop that has failed when its savepoint was complete.
STOPPING = "org.apache.flink.runtime.scheduler.stopwithsavepoint.StopWithSavepointStoppingException"
STOPPED_BY_OTHERS = "The job was stopped by another program; what it has read since its last checkpoint is not written."

# Of a checkpoint that fails with the job, or since the job ends, or does not run yet.
NO_NEWS = re.compile(
    "Task has failed|is restarting|task is closing|tasks not ready|tasks are currently running"
    "|Coordinator is suspending|Coordinator shutdown"
)


def get_json(url: str, timeout: float = 10) -> Any:
    """What Flink's REST API answers within `timeout` seconds; raises OSError where that is nothing of use."""
    try:
        with NO_PROXY.open(url, timeout=timeout) as response:
            return json.load(response)
    except (HTTPException, ValueError) as error:
        raise OSError(f"{url}: {error}") from error


def mini_cluster(running: JobClient) -> JavaObject:
    """The Flink that a job runs on; the client of the job has it, but does not hand it out."""
    return private(running._j_job_client, "miniCluster")


def rest_address(running: JobClient) -> str:
    """Where Flink's web UI and REST API are while the job runs; raises Py4JJavaError: it has ended."""
    return f"http://localhost:{mini_cluster(running).getRestAddress().get().getPort()}"


def job_url(running: JobClient) -> str:
    """The address of a job in Flink's REST API; raises as `rest_address`."""
    return f"{rest_address(running)}/jobs/{running.get_job_id()}"


def has_ended(running: JobClient) -> bool:
    """Whether a job has ended; raises Py4JJavaError: it has failed."""
    if not hasattr(running, "end"):  # asked for once: of each time Java keeps something until the end, maybe for weeks
        running.end = running.get_job_execution_result()
    if not running.end.done():
        return False
    running.end.result()
    return True


@contextlib.contextmanager
def failure_of(running: JobClient) -> Iterator[None]:
    """Raise what a job has failed with, where Flink refuses a call in the `with` block because it ends with the job."""
    try:
        yield
    except Py4JJavaError:
        deadline = time.monotonic() + 5
        while not has_ended(running) and time.monotonic() < deadline:  # the result comes some moments later
            time.sleep(0.05)
        raise


def has_task_manager(running: JobClient) -> bool:
    """Whether the part of Flink that runs tasks is there; raises as `get_json` and `rest_address`."""
    return get_json(f"{rest_address(running)}/overview", 5)["taskmanagers"] > 0


def records_handed_on(running: JobClient) -> int:
    """How many records the first box of the web UI has sent to the second one; -1 if it does not answer."""
    try:
        source, *_ = get_json(job_url(running))["vertices"]
    except (OSError, Py4JJavaError):
        return -1
    return source["metrics"]["write-records"]


def metrics_of(job_url: str, names: re.Pattern[str], timeout: float = 10) -> list[dict[str, Any]]:
    """The values of metrics over all subtasks, as Flink's REST API has them; raises OSError or LookupError.

    `names`: of all of a metric's name in there. `timeout`: seconds for each question.
    """
    found = []
    for vertex in get_json(job_url, timeout)["vertices"]:
        url = f"{job_url}/vertices/{vertex['id']}/subtasks/metrics"
        matching = [metric["id"] for metric in get_json(url, timeout) if names.fullmatch(metric["id"])]
        if matching:
            found += get_json(f"{url}?get={urllib.parse.quote(','.join(matching))}", timeout)
    return found


def trigger_checkpoint(running: JobClient) -> JavaObject:
    """Let the job make a checkpoint; a Java future of its URI, which fails while not all of the job's tasks run yet."""
    return mini_cluster(running).triggerCheckpoint(running._j_job_client.getJobID())


def stop_with_savepoint(
    running: JobClient, folder: Path, drain: bool, look: Callable[[], None], keys: str = "a second Ctrl-C"
) -> str:
    """Stop a job with a savepoint, however long that takes; its URI.

    `drain`: whether to close all windows before. `look` is called meanwhile. `keys`: what ends this at once.
    """
    canonical = java_class("org.apache.flink.core.execution.SavepointFormatType").CANONICAL
    before = set(folder.glob(SAVEPOINTS))
    said = time.monotonic()
    while True:
        stopped = running._j_job_client.stopWithSavepoint(drain, f"file://{folder}", canonical)
        while not stopped.isDone():
            has_ended(running)
            look()
            if time.monotonic() > said + PROGRESS:
                say(f"Still stopping: all that was read is being written; {keys} ends this at once.")
                said = time.monotonic()
            time.sleep(0.02)
        try:
            return stopped.get()
        except Py4JJavaError as error:
            if STOPPING in str(error):  # Flink would go on from an older checkpoint
                sys.exit("The stop has failed when all was in its savepoint; the same command goes on from there")
        if has_ended(running):
            if made := set(folder.glob(SAVEPOINTS)) - before:  # only the answer has not come: Flink was too slow
                return f"file:{max(made, key=number_of).parent}"
            sys.exit(STOPPED_BY_OTHERS)
        time.sleep(0.1)  # not all of the job's tasks run yet


def crash(running: JobClient) -> None:
    """End a job's Flink at once, without a savepoint, as where its process is killed. A job that has ended stays so."""
    mini_cluster(running).closeAsync().get(CLOSE_TIMEOUT, java_class("java.util.concurrent.TimeUnit").SECONDS)


def why_it_failed(java: str) -> str:
    """The cause of a failure, from what Java says of it: a Python traceback, or else a sentence."""
    causes = re.findall(r"^(?:Caused by)?: (.*)", java, re.MULTILINE)  # the first one as py4j has it
    return error_in_thread(java) or error_in_process(java) or kafka_refuses(causes) or (causes or [java])[-1]


def kafka_refuses(causes: list[str]) -> str | None:
    """What a broker no longer gives that it has given before; None where it does."""
    refused = re.compile(r"\S+\.kafka\.common\.errors\.\w+(?:Authentication|Authorization)Exception: (.*)")
    for why in filter(None, map(refused.match, causes)):
        mend = "mend its rights, what has changed, or --kafka-config; then the same command goes on"
        return f"The broker does not let this client in, or not any more ({why[1]}); {mend}"
    if any("OffsetOutOfRangeException" in why for why in causes):
        deleted = "The topic's retention has deleted records that were not read yet; the same command goes on"
        return f"{deleted} behind them (if the topic was created again: --start earliest)"
    if any("UnknownTopicOrPartitionException" in why for why in causes):
        return "A topic of the job is gone; create it again (and say --start earliest if it is the one that is read)"
    return None


def error_in_thread(java: str) -> str | None:
    """The traceback of a Python function that has failed inside Flink's JVM; None where there is none."""
    errors = re.findall(r"pemja.core.PythonException: <class '(.*?)'>: ((?:.|\n(?!\tat ))*)((?:\n\tat .*)*)", java)
    if not errors:
        return None
    kind, message, stack = errors[-1]  # the innermost call first, among Java's: at FOLDER/MODULE.FUNCTION(FILE:LINE)
    frames = [
        (f"{folder}/{file}", int(line), function, None)
        for folder, function, file, line in re.findall(r"at (/.*)/[^/]+?\.([^/(]+)\((.+\.py):(\d+)\)", stack)
        if "/pyflink/" not in folder and not folder.endswith("/hide_beam")  # says nothing about the script
    ]
    calls = "".join(traceback.StackSummary.from_list(reversed(frames)).format())
    return f"Traceback (most recent call last):\n{calls}{kind.removeprefix('builtins.')}: {message}"


def error_in_process(java: str) -> str | None:
    """The traceback of a Python function that has failed in a process of its own; None where there is none."""
    error = re.search(r"Traceback \(most recent call last\):\n.*?(?=\n*(?:\n\tat |\Z))", java, re.DOTALL)
    if not error:
        return None
    # Without the frames of Flink and Beam, which say nothing about the script.
    return re.sub(r'^  File "[^"]*(?:pyflink|apache_beam)/.*?(?=^  File|^\S)', "", error[0], flags=re.M | re.S)
