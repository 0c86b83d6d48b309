"""A run on the cluster of 'flink run'."""

import json
import sys
import tempfile
import urllib.request
from pathlib import Path

from kafka_job.checkpoints import plan_after, plan_in, take_folder
from kafka_job.checks import find_connector
from kafka_job.failures import said_in_one_sentence
from kafka_job.job import RESTARTS, Job, create_environment
from kafka_job.offsets import ask_for_offsets, check_group, make_plan

from pyflink.util.java_utils import add_jars_to_context_class_loader

DIRECTORY = "execution.checkpointing.dir"
SAVEPOINT = "execution.state-recovery.path"  # of 'flink run -s'


def submit(job: Job) -> None:
    """Hand the job to the cluster of 'flink run', with the plan for it."""
    options, settings = job.options, RESTARTS | job.settings
    configuration = configuration_of_flink_run()
    savepoint = configuration.get(SAVEPOINT)
    add_jars_to_context_class_loader([find_connector().as_uri()])  # what reads checkpoints is in there
    with said_in_one_sentence():
        if options.checkpoint_dir and (savepoint or options.bounded):
            what = f"-s {savepoint}" if savepoint else "--bounded"
            why = "names where to go on from" if savepoint else "keeps no state when it ends on a cluster"
            sys.exit(f"{what} {why}, so it does not go with --checkpoint-dir; leave out one of the two")
        if options.checkpoint_dir:
            folder = Path(options.checkpoint_dir)
            take_folder(folder, options, job.state)
            plan = plan_in(folder, options, settings, on_cluster=True)
        elif savepoint:
            plan = plan_after(savepoint, options, settings | place_for_checkpoints(configuration))
        else:
            topic = ask_for_offsets(options)
            check_group(options, topic)
            plan = make_plan(options, settings | place_for_checkpoints(configuration), topic, bounded_by_flink=True)
        environment = job.pipeline(plan)
    environment.execute(job.name)


def configuration_of_flink_run() -> dict[str, str]:
    """Flink's configuration as its config.yaml and the flags of 'flink run' have it."""
    return dict(create_environment({})._j_stream_execution_environment.getConfiguration().toMap())


def place_for_checkpoints(configuration: dict[str, str]) -> dict[str, str]:
    """Settings for checkpoints of any size.

    Where nothing is configured they stay in the memory of the JobManager. There, the first one in which the state of a
    subtask has more than 5 MB fails, and so does the job.

    Raises:
        SystemExit: nothing is configured, and this machine is not that of the cluster.
    """
    if DIRECTORY in configuration or DIRECTORY in configuration_of_cluster(configuration):
        return {}
    address = configuration.get("rest.address", "localhost")
    if address not in ("localhost", "127.0.0.1", "::1"):
        name = f"a folder that all its machines see: flink run -D {DIRECTORY}=URI (or in its config.yaml)"
        sys.exit(f"The cluster at {address} keeps checkpoints in memory, where 5 MB are too much; name {name}")
    return {
        DIRECTORY: Path(tempfile.mkdtemp(prefix="checkpoints-")).as_uri(),
        # One that is left by a job that was given up can be gone on from.
        "execution.checkpointing.externalized-checkpoint-retention": "DELETE_ON_CANCELLATION",
    }


def configuration_of_cluster(configuration: dict[str, str]) -> dict[str, str]:
    """What a standalone cluster that runs already says of itself."""
    if configuration.get("execution.target") != "remote":
        return {}
    url = f"http://{configuration.get('rest.address', 'localhost')}:{configuration.get('rest.port', 8081)}"
    try:
        with urllib.request.urlopen(f"{url}/jobmanager/config", timeout=10) as response:
            return {setting["key"]: setting["value"] for setting in json.load(response)}
    except OSError:
        return {}  # Flink says so when the job is submitted
