"""Run a job: check its set-up, then hand it to the cluster of 'flink run', or to a Flink of our own."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from kafka_job.execution.cluster import in_application_mode, patiently, submit
from kafka_job.execution.job import Build, Job, said_in_one_sentence
from kafka_job.execution.local import Stop, run_locally
from kafka_job.flink import gateway
from kafka_job.flink.connector import find_connector
from kafka_job.flink.environment import configuration_of, create_environment, go_on_found, has_taken_over
from kafka_job.flink.output import stdout_is_gone, to_stdout
from kafka_job.kafka.broker import Broker
from kafka_job.kafka.checks import check_addresses, check_kafka
from kafka_job.kafka.config import read_config
from kafka_job.options import JobOptions
from kafka_job.terminal import opened, say

from find_libpython import find_libpython

MODE = "python.execution-mode"
# As word_count.py has and explains them.
SETTINGS = {"execution.checkpointing.interval": "3 s", "pipeline.object-reuse": "true", MODE: "thread"}
PROCESS_MODE = {  # for a Python without a shared library, which cannot run inside Flink's JVM
    MODE: "process",
    # Records cross between JVM and Python in bundles; larger ones than the default of 1,000 cost less. A bundle waits
    # at most this many milliseconds, well below --idle-timeout: a watermark waits for its bundle, and is lost if the
    # source turns idle meanwhile. The keys of a bundle keep their state in the Python worker's cache.
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "400",
    "python.state.cache-size": "100000",
}


def run(
    name: str,
    build: Build,
    options: JobOptions,
    state: str,
    settings: Mapping[str, str] = MappingProxyType({}),
    to_topics: Sequence[str] = (),
    stop: Stop | None = None,
) -> None:
    """Run a job, on the cluster of 'flink run' or else in this process, until it ends or is stopped.

    In this process Flink is started by the first call; there can be one after the other. Where something is wrong, a
    SystemExit says it in one sentence, and what to do.

    Args:
        name: what Flink calls it; another one is another job, to a JobManager that takes over.
        build: adds the pipeline to an environment, so that it reads what a plan says.
        state: in words, what the job keeps in state. What must not change between a checkpoint and a run that goes on
            from it belongs here; topic, output and Flink's version are looked after.
        settings: Flink's configuration, where it is to be another one than SETTINGS.
        to_topics: that the job writes to.
        stop: asks a run in this process to stop, as Ctrl-C does.
    """
    stdout_is_closed = not sys.stdout
    sys.stdout, sys.stderr = opened(sys.stdout), opened(sys.stderr)
    on_cluster = gateway.under_flink_run()
    if on_cluster:
        gateway.connect(has_python=True)
    configuration = configuration_of(create_environment({})) if on_cluster else {}
    if in_application_mode(configuration) and has_taken_over(create_environment({})):
        go_on_found(name)  # with what it was started with, whatever has become of a file or a topic since
        return
    try:
        find_connector()
        broker = Broker(options.bootstrap_servers, read_config(options.kafka_config) if options.kafka_config else {})
        rights = dict.fromkeys(to_topics, "WRITE") | {options.topic: "READ"}
        job = Job(name, build, options, python_mode({**SETTINGS, **settings}), state, broker, rights)
        patiently(lambda: check_set_up(job, on_cluster), configuration)
        if options.live and on_cluster:
            say("--live is for local runs; on a cluster rows go to the .out file of a TaskManager.")
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        live = options.live and not on_cluster and is_terminal
        if not options.rows_go_to() and not live:
            if stdout_is_closed:
                sys.exit("Cannot print rows on stdout, which is closed; choose a folder for them: --output PATH")
            try:
                to_stdout(b"Printing result to stdout. Use --output to specify output path.\n")
            except OSError as error:
                sys.exit(stdout_is_gone(error))
        if on_cluster:
            submit(job, configuration)
        else:
            run_locally(job, start_jvm(job), live, stop or Stop())
    except KeyboardInterrupt:  # before the job runs
        sys.exit(130)


def check_set_up(job: Job, on_cluster: bool) -> None:
    """Exit with one sentence where something is wrong; what can be said at once is said before the JVM starts."""
    answering = check_addresses(job.broker)
    check_folders(job.options, on_cluster)
    if not on_cluster:
        start_jvm(job)
    with said_in_one_sentence():  # the JVM may end meanwhile
        check_kafka(job.broker, job.rights, answering)


def start_jvm(job: Job) -> gateway.Jvm:
    return gateway.start(has_python=job.settings.get(MODE) == "thread")


def check_folders(options: JobOptions, on_cluster: bool) -> None:
    """Exit with one sentence where files could not be written; other machines' folders are for Flink to check."""
    for option, name in (("--output", options.output), ("--checkpoint-dir", options.checkpoint_dir)):
        if not name or ("://" in name and (on_cluster or not name.startswith("file://"))):
            continue
        folder = Path(name.removeprefix("file://"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(4096))  # a full disk takes the file, but nothing in it
        except OSError as error:
            sys.exit(f"Cannot write to {folder}: {error.strerror}; choose another folder: {option} PATH")


def python_mode(settings: Mapping[str, str]) -> Mapping[str, str]:
    """The settings, with Python in processes of its own where it cannot run inside Flink's JVM."""
    if settings.get(MODE) != "thread" or find_libpython():
        return settings
    say("Python has no shared library (libpython), so its functions run slower, in processes.")
    return {**settings, **PROCESS_MODE}
