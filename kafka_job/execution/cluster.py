"""A run on the cluster of 'flink run'; or in application mode, as on Kubernetes, where a JobManager runs the script."""

import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kafka_job.execution.job import RESTARTS, Job, said_in_one_sentence
from kafka_job.flink.connector import java_class
from kafka_job.flink.running import get_json
from kafka_job.kafka.broker import TopicOffsets, ask_for_offsets, check_group
from kafka_job.pipeline.source import Plan
from kafka_job.resume.folder import record_start, taken
from kafka_job.resume.plans import Recovery, make_plan, plan_after, plan_in
from kafka_job.terminal import say

INTERVAL = "execution.checkpointing.interval"
DIRECTORY = "execution.checkpointing.dir"
OLD_DIRECTORY = "state.checkpoints.dir"  # its name before Flink 1.20, which is still valid
RETENTION = "execution.checkpointing.externalized-checkpoint-retention"
SAVEPOINT = "execution.state-recovery.path"  # of 'flink run -s'
OLD_SAVEPOINT = "execution.savepoint.path"  # its name before Flink 1.20, which the Kubernetes operator still writes
LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"  # the Kubernetes operator's word for it, where Flink knows the checkpoint
# A bounded job has an end, for which somebody may wait: a minute of tries.
FEWER_RESTARTS = {"restart-strategy.exponential-delay.attempts-before-reset-backoff": "10"}
WITHOUT_FOLDER = "so it does not go with --checkpoint-dir; leave out one of the two"
PAUSE = 10  # seconds between two looks at what is wrong
START_TIMEOUT = 10.0  # seconds that a cluster may take which was started just before
Result = TypeVar("Result")


def in_application_mode(configuration: Mapping[str, str]) -> bool:
    """Whether a JobManager runs the script, and its cluster this job alone, as on Kubernetes."""
    return configuration.get("execution.target") == "embedded"


def patiently(check: Callable[[], Result], configuration: Mapping[str, str]) -> Result:
    """What `check` returns. In application mode it is called again, PAUSE seconds later, as long as it exits."""
    while True:
        try:
            return check()
        except SystemExit as error:
            if not in_application_mode(configuration):
                raise
            # Nobody sits at a terminal, and Flink would take a script that exits for a job that has failed for good.
            say(f"{error} (looking again every {PAUSE} seconds)")
        time.sleep(PAUSE)


def submit(job: Job, configuration: Mapping[str, str]) -> None:
    """Hand the job to the cluster of 'flink run'; `configuration`: its config.yaml, and the flags of 'flink run'."""
    settings = {**restarts(configuration, job.options.bounded), **job.settings}
    # How often checkpoints are made is for whoever runs the cluster, and pays for them.
    settings |= {key: value for key, value in configuration.items() if key == INTERVAL}
    folder = Path(job.options.checkpoint_dir).resolve() if job.options.checkpoint_dir else None
    with contextlib.ExitStack() as held:  # the folder of checkpoints, for as long as this waits for the job
        plan, recovery = planned(job, configuration, folder, held)
        with said_in_one_sentence(folder):
            environment = job.pipeline(plan, settings, recovery)
            if folder:
                record_start(folder, plan.start, recovery.checkpoint)
        logging.getLogger().addHandler(logging.NullHandler())  # what py4j logs comes as an exception as well
        try:
            environment.execute(job.name)  # without --detached this waits for the end of the job
        except KeyboardInterrupt:
            sys.exit("Nobody waits for the job any more, but it goes on: flink list, flink cancel JOB_ID")


def planned(
    job: Job, configuration: Mapping[str, str], folder: Path | None, held: contextlib.ExitStack
) -> tuple[Plan, Recovery]:
    """The plan of a run on a cluster. If it is bounded, Flink itself ends it; others than this library may stop it."""
    options, savepoint = job.options, savepoint_in(configuration)
    check_cluster(configuration)
    if folder:
        refuse_beside_folder(job, configuration)
        with said_in_one_sentence(folder):
            held.enter_context(taken(folder))
            return plan_in(folder, options, job.broker, job.state, on_cluster=True)
    place = place_for_checkpoints(configuration)
    topic = patiently(lambda: ask_broker(job), configuration)
    if savepoint and savepoint != LAST_STATE:
        plan, recovery = plan_after(savepoint, options, job.broker, topic)
    else:
        plan, recovery = make_plan(options, job.broker, topic, None, by_flink=True), Recovery()
    return plan, replace(recovery, settings={**recovery.settings, **place})


def savepoint_in(configuration: Mapping[str, str]) -> str | None:
    """What Flink is told to go on from."""
    return configuration.get(SAVEPOINT, configuration.get(OLD_SAVEPOINT))


def is_highly_available(configuration: Mapping[str, str]) -> bool:
    """Whether another JobManager takes over where one ends."""
    return configuration.get("high-availability.type", configuration.get("high-availability", "NONE")).upper() != "NONE"


def rest_api(configuration: Mapping[str, str]) -> str | None:
    """Where the cluster of 'flink run' answers, as `flink` itself finds it; None where we cannot ask it."""
    hidden = is_highly_available(configuration)  # it may be another JobManager
    has_tls = configuration.get("security.ssl.rest.enabled", "false").lower() == "true"
    if configuration.get("execution.target") != "remote" or hidden or has_tls:
        return None
    address = configuration.get("rest.address", configuration.get("jobmanager.rpc.address", "localhost"))
    return f"{address}:{configuration.get('rest.port', 8081)}"


def check_cluster(configuration: Mapping[str, str]) -> None:
    """Wait for a cluster; exit with one sentence where none answers, say where it has too few slots."""
    lost = [argument for argument in sys.argv[1:] if "?" in argument]
    if lost and java_class("java.lang.System").getProperty("sun.jnu.encoding") != "UTF-8":
        sys.exit(f"Java knows only ASCII in this locale, and has taken {lost[0]}; run: export LC_ALL=C.UTF-8")
    if not (where := rest_api(configuration)):
        return
    needed, slots, deadline = int(configuration.get("parallelism.default", 1)), -1, time.monotonic() + START_TIMEOUT
    while True:
        with contextlib.suppress(OSError, LookupError, TypeError):  # it is something else that answers
            slots = get_json(f"http://{where}/overview")["slots-total"]
        if slots >= needed or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if slots < 0:
        sys.exit(f"No Flink cluster answers on {where}; start one: start-cluster.sh (or: flink run -m HOST:PORT)")
    if needed > slots:
        say(f"The job needs {needed} slots, the cluster has {slots}; it waits for more. (Or: flink run -p {slots})")


def refuse_beside_folder(job: Job, configuration: Mapping[str, str]) -> None:
    """Exit with one sentence where a cluster has something else to go on from, or keeps nothing."""
    if in_application_mode(configuration) and is_highly_available(configuration):
        sys.exit(f"With high availability Flink itself goes on from its checkpoints, {WITHOUT_FOLDER}")
    if savepoint := savepoint_in(configuration):
        sys.exit(f"-s {savepoint} names where to go on from, {WITHOUT_FOLDER}")
    if job.options.bounded:
        sys.exit(f"--bounded keeps no state when it ends on a cluster, {WITHOUT_FOLDER}")


def ask_broker(job: Job) -> TopicOffsets:
    """What the broker says of the topic, and of the group, which can be committed to; else exits with one sentence."""
    with said_in_one_sentence():
        topic = ask_for_offsets(job.broker, job.options.topic, job.options.group_id)
        check_group(job.broker, job.options.topic, job.options.group_id, topic)
        return topic


def restarts(configuration: Mapping[str, str], bounded: bool) -> dict[str, str]:
    """How often Flink tries again, where its configuration does not say so."""
    if any(key.startswith("restart-strategy") for key in configuration):
        return {}
    return RESTARTS | FEWER_RESTARTS if bounded else RESTARTS


def place_for_checkpoints(configuration: Mapping[str, str]) -> dict[str, str]:
    """Settings for checkpoints of any size, that are there when they are needed.

    Where nothing is configured they stay in the JobManager's memory, and one with more than 5 MB in a subtask fails.
    """
    address = configuration.get("jobmanager.rpc.address", "localhost")
    if not in_application_mode(configuration):
        address = configuration.get("rest.address", address)
    configured = configuration
    if where := rest_api(configuration):
        with contextlib.suppress(OSError):  # it has just ended: Flink says so when the job is submitted
            found = get_json(f"http://{where}/jobmanager/config")
            of_cluster = {setting["key"]: setting["value"] for setting in found}
            configured = of_cluster | configuration
            address = of_cluster.get("jobmanager.rpc.address", address)  # ours may be that of a port that is forwarded
    if {DIRECTORY, OLD_DIRECTORY} & configured.keys():
        # By default Flink deletes the last checkpoint of a job that has failed for good, or was cancelled.
        return {RETENTION: configured.get(RETENTION, "RETAIN_ON_CANCELLATION")}  # Flink looks for it in the job's own
    address = configuration.get("kubernetes.cluster-id") or address
    if address not in ("localhost", "127.0.0.1", "::1"):
        name = f"a folder that all its machines see: flink run -D {DIRECTORY}=URI (or in its config.yaml)"
        sys.exit(f"The cluster at {address} keeps checkpoints in memory, where 5 MB are too much; name {name}")
    return {
        DIRECTORY: Path(tempfile.mkdtemp(prefix="checkpoints-")).as_uri(),
        # Flink keeps the last one where the job fails, and deletes it where somebody cancels the job.
        RETENTION: "DELETE_ON_CANCELLATION",
    }
