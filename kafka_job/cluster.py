"""A run on the cluster of 'flink run'."""

import argparse
import logging
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path

from kafka_job.application import (
    configuration_of_flink_run,
    has_high_availability,
    in_application_mode,
    patiently,
)
from kafka_job.checkpoints import lock, plan_after, plan_in
from kafka_job.checks import find_connector
from kafka_job.failures import said_in_one_sentence
from kafka_job.job import RESTARTS, Job
from kafka_job.offsets import Plan, TopicOffsets, ask_for_offsets, check_group, make_plan
from kafka_job.rest import get_json

from pyflink.util.java_utils import add_jars_to_context_class_loader

INTERVAL = "execution.checkpointing.interval"
DIRECTORY = "execution.checkpointing.dir"
OLD_DIRECTORY = "state.checkpoints.dir"  # its name before Flink 1.20, which is still valid
RETENTION = "execution.checkpointing.externalized-checkpoint-retention"
SAVEPOINT = "execution.state-recovery.path"  # of 'flink run -s'
LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"  # the Kubernetes operator's word for it, where Flink knows the checkpoint
# A bounded job has an end, for which somebody may wait: a minute of tries.
FEWER_RESTARTS = {"restart-strategy.exponential-delay.attempts-before-reset-backoff": "10"}
WITHOUT_FOLDER = "so it does not go with --checkpoint-dir; leave out one of the two"


def submit(job: Job) -> None:
    """Hand the job to the cluster of 'flink run'."""
    configuration = configuration_of_flink_run()
    add_jars_to_context_class_loader([find_connector().as_uri()])  # what reads checkpoints is in there
    with said_in_one_sentence():
        environment = job.pipeline(plan_for_cluster(job, configuration))
    logging.getLogger().addHandler(logging.NullHandler())  # what py4j logs comes as an exception as well
    try:
        environment.execute(job.name)  # without --detached this waits for the end of the job
    except KeyboardInterrupt:
        sys.exit("Nobody waits for the job any more, but it goes on: flink list, flink cancel JOB_ID")


def plan_for_cluster(job: Job, configuration: dict[str, str]) -> Plan:
    """The plan of a run on a cluster. If it is bounded, Flink itself ends it; others than this library may stop it.

    Raises:
        SystemExit: two flags do not go together, or something is wrong with checkpoints, topic or group.
    """
    options, savepoint = job.options, configuration.get(SAVEPOINT)
    settings = restarts(configuration, options.bounded) | job.settings | interval(configuration)
    if options.checkpoint_dir and in_application_mode(configuration) and has_high_availability(configuration):
        sys.exit(f"With high availability Flink itself goes on from its checkpoints, {WITHOUT_FOLDER}")
    if options.checkpoint_dir and savepoint:
        sys.exit(f"-s {savepoint} names where to go on from, {WITHOUT_FOLDER}")
    if options.checkpoint_dir and options.bounded:
        sys.exit(f"--bounded keeps no state when it ends on a cluster, {WITHOUT_FOLDER}")
    if options.checkpoint_dir:
        folder = Path(options.checkpoint_dir)
        return plan_in(folder, lock(folder), options, settings, job.state, on_cluster=True)
    settings = settings | place_for_checkpoints(configuration)
    topic = patiently(lambda: ask_broker(options))
    if savepoint and savepoint != LAST_STATE:
        return plan_after(savepoint, options, settings, topic)
    return make_plan(options, settings, topic, bounded_by_flink=True)


def ask_broker(options: argparse.Namespace) -> TopicOffsets:
    """What the broker says of the topic, and of the group, which can be committed to.

    Raises:
        SystemExit: it does not answer, or it cannot.
    """
    with said_in_one_sentence():
        topic = ask_for_offsets(options)
        check_group(options, topic)
        return topic


def interval(configuration: dict[str, str]) -> dict[str, str]:
    """How often checkpoints are made, where Flink's configuration says so: whoever runs the cluster pays for them."""
    return {key: value for key, value in configuration.items() if key == INTERVAL}


def restarts(configuration: dict[str, str], bounded: bool) -> dict[str, str]:
    """How often Flink tries again, where its configuration does not say so."""
    if any(key.startswith("restart-strategy") for key in configuration):
        return {}
    return RESTARTS | FEWER_RESTARTS if bounded else RESTARTS


def place_for_checkpoints(configuration: dict[str, str]) -> dict[str, str]:
    """Settings for checkpoints of any size, that are there when they are needed.

    Where nothing is configured they stay in the memory of the JobManager. There, the first one in which the state of a
    subtask has more than 5 MB fails, and so does the job.

    Raises:
        SystemExit: nothing is configured, and this machine is not that of the cluster.
    """
    configured = configuration_of_cluster(configuration) | configuration
    if {DIRECTORY, OLD_DIRECTORY} & configured.keys():
        # By default Flink deletes the last checkpoint of a job that has failed for good, or was cancelled.
        return {} if RETENTION in configured else {RETENTION: "RETAIN_ON_CANCELLATION"}
    address = configuration.get("kubernetes.cluster-id") or address_of_cluster(configuration)
    if address not in ("localhost", "127.0.0.1", "::1"):
        name = f"a folder that all its machines see: flink run -D {DIRECTORY}=URI (or in its config.yaml)"
        sys.exit(f"The cluster at {address} keeps checkpoints in memory, where 5 MB are too much; name {name}")
    return {
        DIRECTORY: Path(tempfile.mkdtemp(prefix="checkpoints-")).as_uri(),
        # Flink keeps the last one where the job fails, and deletes it where somebody cancels the job.
        RETENTION: "DELETE_ON_CANCELLATION",
    }


def address_of_cluster(configuration: dict[str, str]) -> str:
    """Where the JobManager is. Flink takes the address for RPC where there is none for REST."""
    address = configuration.get("jobmanager.rpc.address", "localhost")
    return address if in_application_mode(configuration) else configuration.get("rest.address", address)


def configuration_of_cluster(configuration: dict[str, str]) -> dict[str, str]:
    """What a standalone cluster that runs already says of itself."""
    if configuration.get("execution.target") != "remote":
        return {}
    url = f"http://{address_of_cluster(configuration)}:{configuration.get('rest.port', 8081)}"
    try:
        return {setting["key"]: setting["value"] for setting in get_json(f"{url}/jobmanager/config")}
    except (OSError, HTTPException, ValueError):
        return {}  # Flink says so when the job is submitted
