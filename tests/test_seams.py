"""Each thing that kafka_job/flink/ leans on and Flink does not promise: that it is there, and that it is used.

    pytest tests/test_seams.py         # run this first at an upgrade of Flink, PyFlink or the connector

One JVM, one small job that goes on while it is asked, two that end at once, and no broker. A test that fails names the
class, and the name that it should have. What it cannot see is a change of meaning: that is for the other tests.
"""

import os
import re
import struct
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from kafka_job.execution import cluster, entry, job, live, local
from kafka_job.flink import gateway, running
from kafka_job.flink.connector import CONNECTOR, SHADED, java_class, kafka_class, known_brokers, private
from kafka_job.flink.environment import (
    FOUND,
    JOB_ID,
    configuration_of,
    create_environment,
    operator_ids,
    take_modules_along,
    without_server,
)
from kafka_job.flink.gateway import HIDE_BEAM, HOME, REFUSE_UPLOADS, Jvm
from kafka_job.flink.operators import KEY_SELECTOR, SOURCES, compiled, number_steps_anew, query, raw_values
from kafka_job.flink.output import to_stdout
from kafka_job.flink.running import get_json, why_it_failed
from kafka_job.flink.snapshots import METADATA, Split, number_of, operators_in, split_of
from kafka_job.kafka.broker import Broker
from kafka_job.kafka.checks import closed_connections
from kafka_job.pipeline.source import Plan
from kafka_job.pipeline.steps import keep_watermark, report
from kafka_job.resume.folder import checkpoint_settings

import pytest
from py4j.java_gateway import JavaObject, JavaPackage
from py4j.protocol import Py4JError, Py4JJavaError
from pyflink.common import JobClient, Time, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaSink, KafkaSource
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.window import TumblingEventTimeWindows
from pyflink.java_gateway import Watchdog, get_gateway
from pyflink.table import DataTypes, StreamTableEnvironment

from support import wait_for

SERVER = "python.loopback-server.address"  # the key under which PyFlink notes the server that it has started
FAILS_AT_ONCE = {"restart-strategy.type": "none"}


def fields_of(name: str) -> set[str]:
    """The names of the fields of a Java class, private ones too."""
    return {field.getName() for field in java_class("java.lang.Class").forName(name).getDeclaredFields()}


def jars() -> list[Path]:
    """Those on the JVM's class path."""
    return [Path(jar) for jar in java_class("java.lang.System").getProperty("java.class.path").split(os.pathsep)]


def environment_with(settings: dict[str, str]) -> StreamExecutionEnvironment:
    take_modules_along()
    with without_server():
        return create_environment({**local.SETTINGS, **entry.SETTINGS, **settings})


class Seconds(TimestampAssigner):
    """A number is a second of event time."""

    def extract_timestamp(self, value: int, record_timestamp: int) -> int:
        return value * 1000


def slowly(number: int) -> int:
    time.sleep(0.001)
    return number


def draw(folder: Path) -> StreamExecutionEnvironment:
    """A job with a source that does not end soon, operators of ours, and a window."""
    environment = environment_with({**checkpoint_settings(folder), **FAILS_AT_ONCE, cluster.INTERVAL: "1 h"})
    source = NumberSequenceSource(0, 2**40)
    numbers = environment.from_source(source, WatermarkStrategy.no_watermarks(), "numbers", Types.LONG()).uid("numbers")
    watermarks = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(Seconds())
    stamped = numbers.map(slowly, Types.LONG()).uid("slowly").assign_timestamps_and_watermarks(watermarks).uid("stamps")
    keyed = stamped.key_by(lambda number: number % 3, key_type=Types.LONG())
    windows = keep_watermark(keyed).window(TumblingEventTimeWindows.of(Time.seconds(5)))
    sums = windows.reduce(lambda left, right: left + right, output_type=Types.LONG()).name("sums").uid("sums")
    report(sums, "numbersAdded", "Numbers")
    return environment


@pytest.fixture(scope="module", autouse=True)
def jvm() -> Jvm:
    return gateway.start(has_python=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For checkpoints."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[JobClient]:
    """The client of a job that runs; its Flink ends with the tests, as in a crash."""
    client = draw(folder).execute_async("seams")
    yield client
    running.crash(client)
    assert not running.mini_cluster(client).isRunning()


@pytest.fixture(scope="module")
def checkpoint(client: JobClient) -> str:
    """The path of a checkpoint of that job. There is no other one: it would take this one's place."""

    def made() -> str | None:
        asked = running.trigger_checkpoint(client)
        wait_for(lambda: running.has_ended(client) or asked.isDone(), "a checkpoint")
        return None if asked.isCompletedExceptionally() else asked.get()  # not all tasks run yet

    return wait_for(made, "a checkpoint that is complete").removeprefix("file:")


# --- gateway.py: the JVM --------------------------------------------------------------------------------------------


def test_pyflink_uses_the_jvm_that_we_have_started(jvm: Jvm) -> None:
    assert java_class("java.lang.ProcessHandle").current().pid() == jvm.process.pid
    assert gateway.PORT not in os.environ, "a job that this process starts would take our JVM for its own"


@pytest.mark.slow
def test_jvm_asks_again_and_again_whether_this_process_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not, PythonGatewayServer ends; the tests that kill Python see that."""
    asked: list[bool] = []
    monkeypatch.setattr(Watchdog, "ping", lambda self: asked.append(True) or True)
    wait_for(lambda: len(asked) > 1, "PythonGatewayServer, which calls pyflink.java_gateway.Watchdog.ping", 20)


def test_a_job_finds_all_classes_whatever_ran_before(jvm: Jvm) -> None:
    thread = java_class("java.lang.Thread").currentThread()
    thread.setContextClassLoader(java_class("java.lang.ClassLoader").getPlatformClassLoader())
    gateway.start(has_python=True)
    assert kafka_class("common.config.types.Password")("secret")


def test_java_is_asked_once_where_a_class_is(jvm: Jvm, monkeypatch: pytest.MonkeyPatch) -> None:
    """By py4j, which asks for each part of a name; and again where it was not there, as a jar may be added."""
    asked: list[str] = []
    client = get_gateway()._gateway_client
    send = client.send_command

    def counted(command: str, **others: Any) -> str:
        if command.startswith("r\nu\n"):  # a name; the collector of garbage calls as well
            asked.append(command.split("\n")[2])
        return send(command, **others)

    monkeypatch.setattr(client, "send_command", counted)
    for _ in range(2):
        java_class("org.apache.flink.api.common.BatchShuffleMode")
        assert isinstance(java_class("org.apache.flink.NotThere"), JavaPackage)
    assert asked == ["org.apache.flink.api.common.BatchShuffleMode", *["org.apache.flink.NotThere"] * 2]


def test_class_path_and_options_are_flinks() -> None:
    machine = java_class("java.lang.management.ManagementFactory").getRuntimeMXBean()
    command = gateway.command("java")
    assert machine.getClassPath() == command[command.index("-cp") + 1]
    names = " ".join(jar.name for jar in jars())
    for part in ("flink-dist", "flink-python", "flink-table-runtime", "flink-sql-connector-kafka", "log4j-core"):
        assert part in names, f"{HOME} has no jar {part}"
    opened = {option for option in machine.getInputArguments() if option.startswith("--add-opens=java.base/")}
    assert len(opened) > 5, f"{HOME}/conf/config.yaml has no such env.java.opts.all"
    assert opened <= {*command}


def test_what_the_jvm_prints_is_utf8_and_comes_through(jvm: Jvm) -> None:
    printed: list[bytes] = []
    jvm.stdout.hand_on = printed.append
    java_class("java.lang.System").out.println("wörld")
    jvm.wait_for_output()
    jvm.stdout.hand_on = to_stdout
    assert b"".join(printed) == "wörld\n".encode()


def look_around(module: str) -> str:
    """What a Python function inside the JVM finds: its process, a module, and Beam."""
    there = [str(os.getpid()), str(find_spec(module))]
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        there.append(str(error).partition(";")[0])
    return "|".join(there)


def test_functions_run_inside_the_jvm_without_beam(jvm: Jvm) -> None:
    """And without this module: the function has travelled with its code, as cloudpickle was told."""
    environment = environment_with(FAILS_AT_ONCE)
    names = environment.from_collection([__name__], Types.STRING())
    with names.map(look_around, Types.STRING()).execute_and_collect() as found:
        assert [*found] == [f"{jvm.process.pid}|None|Beam is left out"]
    assert java_class("java.lang.System").getenv("PYTHONPATH").split(os.pathsep)[0] == str(HIDE_BEAM)
    from pyflink.fn_execution import PYFLINK_CYTHON_ENABLED  # here: it was imported when the JVM was started

    assert not PYFLINK_CYTHON_ENABLED, "this process has found Beam"


# --- environment.py -------------------------------------------------------------------------------------------------


def test_no_server_is_started_while_a_pipeline_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    service = ModuleType("pyflink.fn_execution.beam.beam_worker_pool_service")
    service.BeamFnLoopbackWorkerPoolServicer = lambda: SimpleNamespace(start=lambda: "a server")
    monkeypatch.setitem(sys.modules, service.__name__, service)

    def servers() -> list[str | None]:
        environment = create_environment({})
        tables = StreamTableEnvironment.create(create_environment({}))
        return [configuration_of(environment).get(SERVER), tables.get_config().get(SERVER, None)]

    assert servers() == ["a server"] * 2, "PyFlink starts none any more: without_server() has no use"
    with without_server():
        assert servers() == [None] * 2, "_python_worker_execution_mode has no effect any more"


def test_flink_knows_each_setting() -> None:
    """Of one that it does not know it says nothing."""
    known = b""
    for jar in jars():
        if not re.match(r"flink-(dist|python)-", jar.name):
            continue
        with zipfile.ZipFile(jar) as opened:
            options = [name for name in opened.namelist() if re.search(r"/flink/.*Options(Internal)?\.class$", name)]
            known += b"".join(map(opened.read, options))
    recovery = {"execution.state-recovery.ignore-unclaimed-state", "execution.state-recovery.claim-mode"}
    clusters = {
        cluster.INTERVAL,
        cluster.DIRECTORY,
        cluster.RETENTION,
        cluster.SAVEPOINT,
        cluster.OLD_SAVEPOINT,
        "execution.target",
    }
    ours = {*local.SETTINGS, *job.RESTARTS, *entry.SETTINGS, *entry.PROCESS_MODE, *checkpoint_settings(Path("/"))}
    assert [key for key in sorted(ours | recovery | clusters) if key.encode() not in known] == []


def test_operators_are_found_by_their_uids(checkpoint: str, folder: Path) -> None:
    """Whatever draws the pipeline."""
    in_checkpoint = {operator.id: operator.uid for operator in operators_in(checkpoint) if operator.uid}
    assert {*in_checkpoint.values()} >= {"numbers", "keep-watermark", "sums", "report-numbersAdded"}
    assert in_checkpoint.keys() <= operator_ids(draw(folder))


# --- running.py, and what execution/ asks for -------------------------------------------------------------------------


def test_mini_cluster_behind_a_client(client: JobClient) -> None:
    assert running.mini_cluster(client).getClass().getName() == "org.apache.flink.runtime.minicluster.MiniCluster"
    assert get_json(f"{running.rest_address(client)}/jobs")["jobs"][0]["id"] == str(client.get_job_id())
    assert not running.has_ended(client)
    waiting = private(client._j_job_client, "jobResultFuture").getNumberOfDependents
    before = waiting()
    assert not any(running.has_ended(client) for _ in range(10))
    assert waiting() == before, "each question is kept until the job ends"


def test_stop_with_savepoint_takes_three_arguments() -> None:
    """In Java; PyFlink's own method gives two."""
    methods = java_class("java.lang.Class").forName("org.apache.flink.core.execution.JobClient").getMethods()
    [stop] = [method for method in methods if method.getName() == "stopWithSavepoint"]
    taken = [kind.getSimpleName() for kind in stop.getParameterTypes()]
    assert taken == ["boolean", "String", "SavepointFormatType"]


def test_what_a_stop_fails_with() -> None:
    assert java_class("java.lang.Class").forName(running.STOPPING)


def test_what_a_checkpoint_fails_with_that_is_no_news() -> None:
    reason = java_class("org.apache.flink.runtime.checkpoint.CheckpointFailureReason")
    ends = ("COORDINATOR_SUSPEND", "COORDINATOR_SHUTDOWN", "DECLINED_TASK_NOT_READY", "DECLINED_TASK_CLOSING")
    others = ("NOT_ALL_REQUIRED_TASKS_RUNNING", "TASK_FAILURE", "JOB_FAILOVER_REGION")
    for name in (*(f"CHECKPOINT_{end}" for end in ends), *others):
        assert running.NO_NEWS.search(reason.valueOf(name).message())
    assert not running.NO_NEWS.search(reason.IO_EXCEPTION.message())


def test_records_that_a_source_hands_on_are_counted(client: JobClient) -> None:
    wait_for(lambda: running.records_handed_on(client) > 0, "write-records of the first vertex", 20)


def test_metrics_have_their_names(client: JobClient) -> None:
    expected = {
        r"Source__numbers.*\.numRecordsIn",
        r".*\.currentInputWatermark",
        r"sums\.numLateRecordsDropped",
        r"report_numbersAdded\.numbersAdded",
    }

    def missing() -> set[str]:
        found = {metric["id"] for metric in running.metrics_of(running.job_url(client), live.METRICS)}
        return {name for name in expected if not any(re.fullmatch(name, one) for one in found)}

    wait_for(lambda: not missing(), f"metrics {expected}", 30)
    metrics = running.metrics_of(running.job_url(client), live.METRICS)
    assert live.progress(metrics, live.Progress(), 1).reported["numbersAdded"] >= 0


def test_uploads_are_refused(client: JobClient) -> None:
    """A part of a form, as `flink run` sends jars to a web UI that takes them."""
    form = b'--x\r\nContent-Disposition: form-data; name="jarfile"; filename="a.jar"\r\n\r\na jar\r\n--x--\r\n'
    before = sorted(REFUSE_UPLOADS.rglob("*"))
    assert [file.name for file in before if file.is_file()] == ["flink-web-upload"]
    for path in ("/jars/upload", "/jars"):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        upload = urllib.request.Request(f"{running.rest_address(client)}{path}", form, headers)
        with pytest.raises((urllib.error.HTTPError, ConnectionError)):
            urllib.request.urlopen(upload, timeout=10)
    assert sorted(REFUSE_UPLOADS.rglob("*")) == before


def test_a_call_that_java_does_not_know_has_a_trace() -> None:
    """By which execution/job.py tells a fault of ours from a JVM that has ended."""
    with pytest.raises(Py4JError, match="Trace:") as raised:
        java_class("java.lang.Object")().noSuchMethod()
    assert not isinstance(raised.value, Py4JJavaError)


# --- running.py: failures ---------------------------------------------------------------------------------------------


def inner(number: int) -> int:
    return 1 // number


def outer(number: int) -> int:
    return inner(number)


def test_failure_in_a_python_function_is_its_traceback() -> None:
    environment = environment_with(FAILS_AT_ONCE)
    environment.from_collection([0], Types.LONG()).map(outer, Types.LONG()).print()
    with pytest.raises(Py4JJavaError) as raised:
        environment.execute("fails")
    said = why_it_failed(str(raised.value))
    frames = re.findall(r'^  File "(.*)", line \d+, in (\w+)$', said, re.MULTILINE)
    assert frames[-2:] == [(__file__, "outer"), (__file__, "inner")], said
    assert said.splitlines()[-1].startswith("ZeroDivisionError: ")


# --- snapshots.py ---------------------------------------------------------------------------------------------------


def test_number_of_a_checkpoint_is_in_its_head(checkpoint: str) -> None:
    assert Path(checkpoint).name == f"chk-{number_of(Path(checkpoint, METADATA))}"


def test_state_of_a_source(checkpoint: str) -> None:
    """Any source has it in these places; what is in there is the connector's business."""
    [source] = [operator._state for operator in operators_in(checkpoint) if operator.uid == "numbers"]
    version, _, length = struct.unpack(">iii", bytes(source.getCoordinatorState().getData())[:12])
    assert version == 1, "SourceCoordinatorSerdeUtils writes another version"
    assert length > 0
    names = [
        name
        for subtask in source.getStates().toArray()
        for handle in subtask.getManagedOperatorState().toArray()
        for name in handle.getStateNameToPartitionOffsets()
    ]
    assert names == ["SourceReaderState"], "the state of SourceOperator has another name"


def partition_split(partition: int, *offsets: int) -> JavaObject:
    return java_class(f"{CONNECTOR}.split.KafkaPartitionSplit")(
        kafka_class("common.TopicPartition")("input", partition), *offsets
    )


def test_partitions_of_the_connectors_source() -> None:
    assert split_of(partition_split(3, 7)) == Split("input", 3, 7, has_end=False)
    assert split_of(partition_split(3, 7, 9)) == Split("input", 3, 7, has_end=True)
    assert split_of(partition_split(3, 7, 9), at_end=True) == Split("input", 3, 9, has_end=True)
    serializer = java_class(f"{CONNECTOR}.split.KafkaPartitionSplitSerializer")()
    again = serializer.deserialize(serializer.getVersion(), serializer.serialize(partition_split(3, 7, 9)))
    assert split_of(again) == Split("input", 3, 7, has_end=True)


def test_a_source_may_not_leave_records_out() -> None:
    plan = Plan(Broker("localhost:1"), "input", start={0: 3})
    builder = KafkaSource.builder().set_bootstrap_servers("localhost:1").set_topics("input").set_group_id("any")
    environment = create_environment({})
    lines = plan.read(environment, builder, WatermarkStrategy.no_watermarks())._j_data_stream.getTransformation()
    source = lines.getInputs()[0]
    assert private(source.getSource(), "props").getProperty("auto.offset.reset") == "none"


def test_state_of_the_connectors_enumerator() -> None:
    state_of = java_class(f"{CONNECTOR}.enumerator.KafkaSourceEnumState")
    assigned, unassigned = java_class("java.util.HashSet")(), java_class("java.util.HashSet")()
    assigned.add(partition_split(3, 7))
    unassigned.add(partition_split(4, 8))
    serializer = java_class(f"{CONNECTOR}.enumerator.KafkaSourceEnumStateSerializer")()
    written = serializer.serialize(state_of(assigned, unassigned, True))
    read = serializer.deserialize(serializer.getVersion(), written)
    assert [split_of(split) for split in read.assignedSplits().toArray()] == [Split("input", 3, 7, False)]
    assert [split_of(split) for split in read.unassignedSplits().toArray()] == [Split("input", 4, 8, False)]


# --- operators.py ---------------------------------------------------------------------------------------------------


def test_flink_compiles_our_classes() -> None:
    """Those of the set-up are compiled in the same way."""
    ours = {f"kafka_job/{source.stem}.class" for source in SOURCES.glob("*.java")}
    assert len(ours) > 5
    assert ours <= compiled().keys()


def test_our_classes_are_found_while_a_pipeline_is_drawn() -> None:
    environment_with({})
    assert java_class("kafka_job.Tally")("metric", "sentence", False).getClass().getName() == "kafka_job.Tally"


def test_builders_take_what_pyflink_cannot_say() -> None:
    for builder, method in ((KafkaSource.builder(), "setDeserializer"), (KafkaSink.builder(), "setRecordSerializer")):
        assert method in {one.getName() for one in builder._j_builder.getClass().getMethods()}
    assert java_class("java.lang.Class").forName(KEY_SELECTOR)
    assert hasattr(WatermarkStrategy.no_watermarks(), "_timestamp_assigner")


def test_keyed_stream_has_what_makes_one_like_it() -> None:
    """That it can be used again, and is executed, `draw` shows."""
    stream = environment_with({}).from_collection([1], Types.LONG())
    keyed = stream.key_by(lambda number: number, key_type=Types.LONG())
    for name in ("_origin_stream", "_original_data_type_info", "_j_data_stream"):
        assert hasattr(keyed, name), f"pyflink.datastream.KeyedStream has no {name}"


# --- operators.py: SQL ------------------------------------------------------------------------------------------------


def test_raw_values_know_null_from_empty() -> None:
    schema = raw_values("line")._j_deserialization_schema
    assert schema.getClass().getName() == "org.apache.flink.formats.raw.RawFormatDeserializationSchema"
    schema.open(None)
    assert schema.deserialize(None).isNullAt(0)
    assert bytes(schema.deserialize(b"\xff").getBinary(0)) == b"\xff"
    assert str(schema.getProducedType().toRowType()) == "ROW<`line` BYTES>"


def test_values_of_a_query_are_no_rows() -> None:
    with without_server():
        tables = StreamTableEnvironment.create(create_environment({}))
    values = query(tables, "SELECT 'hello'", DataTypes.STRING())
    assert str(values.get_type()) == "String"


def test_steps_of_sql_have_the_same_numbers_in_each_job() -> None:
    def names() -> list[str]:
        with without_server():
            environment = create_environment({})
            tables = StreamTableEnvironment.create(environment)
        number_steps_anew(tables)
        query(tables, "SELECT 'hello'", DataTypes.STRING()).print()
        nodes = environment._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
        return sorted(node.getOperatorName() for node in nodes)

    assert names() == names(), "ExecNodeContext counts on"


# --- environment.py: application mode ---------------------------------------------------------------------------------


def test_job_manager_that_has_taken_over_is_known() -> None:
    environment = create_environment({})
    assert private(environment._j_stream_execution_environment, "executorServiceLoader")
    loader = "org.apache.flink.client.deployment.application.executors.EmbeddedExecutorServiceLoader"
    for names in FOUND:
        assert {*names} & fields_of(loader), f"{loader} has no field {' or '.join(names)}"
    options = java_class("org.apache.flink.configuration.PipelineOptionsInternal")
    assert options.PIPELINE_FIXED_JOB_ID.key() == JOB_ID


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(
        AttributeError, match=r"^java\.lang\.Object has no field one or other; see tests/test_seams\.py$"
    ):
        private(java_class("java.lang.Object")(), "one", "other")


# --- connector.py ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "clients.admin.DescribeTopicsOptions",
        "clients.admin.ListOffsetsOptions",
        "clients.admin.OffsetSpec",
        "clients.consumer.OffsetAndMetadata",
        "common.IsolationLevel",
        "common.TopicPartition",
        "common.security.plain.PlainLoginModule",
        "common.security.scram.ScramLoginModule",
    ],
)
def test_kafkas_classes_have_their_names(name: str) -> None:
    assert java_class("java.lang.Class").forName(f"{SHADED}org.apache.kafka.{name}")


@pytest.fixture
def admin() -> Iterator[Any]:
    """Kafka's client, of a broker that is not there."""
    admin = kafka_class("clients.admin.AdminClient").create({"bootstrap.servers": "localhost:1"})
    yield admin
    admin.close(java_class("java.time.Duration").ZERO)


def test_brokers_that_a_client_knows(admin: JavaObject) -> None:
    for owner, name in ((admin, "metadataManager"), (private(admin, "metadataManager"), "cluster")):
        assert private(owner, name)
    cluster = private(private(admin, "metadataManager"), "cluster")
    assert [(node.host(), node.id()) for node in cluster.nodes().toArray()] == [("localhost", -1)], "told to it by us"
    assert known_brokers(admin) == []


def test_connections_that_a_client_has_lost_are_counted(admin: JavaObject) -> None:
    wait_for(lambda: closed_connections(admin) > 0, "Kafka's metric connection-close-total", 30)
