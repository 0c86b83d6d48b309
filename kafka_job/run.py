"""Run a job: check its set-up, then hand it to the cluster of 'flink run', or to a Flink of our own."""

import argparse
import os
import sys

from kafka_job.application import patiently
from kafka_job.checks import check_folder, check_kafka, find_connector
from kafka_job.cluster import submit
from kafka_job.job import UNDER_FLINK_RUN, Build, Job
from kafka_job.local_run import run_locally

from find_libpython import find_libpython

# For a Python without a shared library, which cannot run inside Flink's JVM.
PROCESS_MODE = {
    "python.execution-mode": "process",
    # Records cross between JVM and Python in bundles; larger ones than the default of 1,000 cost less. A bundle waits
    # at most this many milliseconds, well below --idle-timeout: a watermark waits for its bundle, and is lost if the
    # source turns idle meanwhile. The keys of a bundle keep their state in the Python worker's cache.
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "400",
    "python.state.cache-size": "100000",
}


def run(
    name: str, build: Build, options: argparse.Namespace, settings: dict[str, str], state: str, to_topic: str = ""
) -> None:
    """Run a job, on the cluster of 'flink run' or else in this process, until it ends or is stopped.

    Args:
        name: what Flink calls it.
        build: adds the pipeline to an environment, so that it reads what a plan says.
        options: those of JobParser, and the script's own.
        settings: Flink's configuration.
        state: what the job keeps in state, in words. What must not change between a checkpoint and a run that goes on
            from it belongs here; topic, output and Flink's version are looked after.
        to_topic: a topic that the job writes to, if it does.

    Raises:
        SystemExit: something is wrong; one sentence says what, and what to do.
    """
    try:
        patiently(lambda: check_set_up(options, to_topic))
        options.live = options.live and can_be_live()
        if not options.output and not options.live:
            print("Printing result to stdout. Use --output to specify output path.", flush=True)
        job = Job(name, build, options, python_mode(settings), state)
        if UNDER_FLINK_RUN:
            submit(job)
        else:
            run_locally(job)
    except KeyboardInterrupt:  # before the job runs
        sys.exit(130)


def check_set_up(options: argparse.Namespace, to_topic: str) -> None:
    """Exit with one sentence where something is wrong."""
    find_connector()
    check_kafka(options, options.topic)
    if to_topic:
        check_kafka(options, to_topic, "WRITE")
    if options.output:
        check_folder("--output", options.output)
    if options.checkpoint_dir:
        check_folder("--checkpoint-dir", options.checkpoint_dir)


def can_be_live() -> bool:
    """Whether there is a terminal for a table; without one rows are printed as they are without --live."""
    if UNDER_FLINK_RUN:
        print("--live is for local runs; on a cluster rows go to the .out file of a TaskManager.", file=sys.stderr)
        return False
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def python_mode(settings: dict[str, str]) -> dict[str, str]:
    """The settings, with Python in processes of its own where it cannot run inside Flink's JVM."""
    if settings.get("python.execution-mode") != "thread" or find_libpython():
        return settings
    print("Python has no shared library (libpython), so its functions run slower, in processes.", file=sys.stderr)
    return settings | PROCESS_MODE
