"""A process that has started Flink, and runs job after job in it, as `python SCRIPT` would run each: for conftest.py.

It reads a job as a line of JSON on its stdin, runs the script with its arguments, folder, environment and files for
what it prints, and writes the exit code to a file. The word crash ends the cluster of the job that runs, at once and
without a savepoint, as a kill does. What a job leaves behind that the next one would find is an error of that job.
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import queue
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka_job.execution import entry
from kafka_job.execution.local import Stop
from kafka_job.flink import environment, gateway, operators, running
from kafka_job.flink.connector import java_class

from py4j.protocol import Py4JJavaError
from pyflink.util.java_utils import to_jarray

from support import make_slow

FASTER = {"execution.checkpointing.interval": "500 ms"}  # than a script's: a test waits for what a checkpoint brings
stop = Stop()


def new_stop() -> Stop:
    """What asks the next job to stop; this process knows it, too."""
    global stop
    stop = Stop()
    return stop


def state() -> dict[str, Any]:
    """What a job must give back: signals, variables, log handlers, files and threads.

    Of files and threads some stay, as connections to Java that later jobs use; they must not become more and more.
    """
    return {
        "signals": {number: signal.getsignal(number) for number in gateway.SIGNALS},
        "variables": dict(os.environ),
        "log handlers": list(logging.getLogger().handlers),
        "open files": max(24, len(list(Path("/proc/self/fd").iterdir()))),
        "threads": max(10, threading.active_count()),
    }


@contextlib.contextmanager
def as_a_process(job: dict[str, Any]) -> Iterator[None]:
    """What a process of its own would have: arguments, folder, environment, stdin, stdout, stderr and modules."""
    streams, variables, folder, arguments = (
        [os.dup(number) for number in range(3)],
        dict(os.environ),
        Path.cwd(),
        sys.argv,
    )
    paths, modules = list(sys.path), set(sys.modules)
    for number, file in enumerate(["/dev/null", job["stdout"], job["stderr"]]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(job["folder"])
    os.environ.update(job["variables"])
    sys.argv, sys.path[0] = [job["script"], *job["arguments"]], str(Path(job["script"]).parent)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        sys.argv, sys.path[:] = arguments, paths
        for name in set(sys.modules) - modules:  # those beside the script
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(job["folder"]):
                del sys.modules[name]


@functools.cache
def slow_jar() -> Path:
    """Our Java classes, in which each record takes a millisecond."""
    folder = Path(tempfile.mkdtemp(prefix="slow-"))
    atexit.register(shutil.rmtree, folder)
    for source in operators.SOURCES.glob("*.java"):
        shutil.copy(source, folder)
    make_slow(folder)
    return jar_of(folder)


def jar_of(folder: Path) -> Path:
    """The jar of the Java classes in a folder."""
    sources, operators.SOURCES = operators.SOURCES, folder
    try:
        return operators.jar_of_classes.__wrapped__()
    finally:
        operators.SOURCES = sources


def share_rpc_system() -> None:
    """Let the Flinks of this process share what they need not have each for itself, see SharedRpcSystem.java."""
    jar = jar_of(Path(__file__).resolve().parent / "java")
    with zipfile.ZipFile(jar, "a") as services:
        services.writestr("META-INF/services/org.apache.flink.runtime.rpc.RpcSystemLoader", "SharedRpcSystem")
    urls = to_jarray(java_class("java.net.URL"), [java_class("java.net.URL")(jar.as_uri())])
    loader = java_class("java.net.URLClassLoader")(urls)
    start = gateway.start

    def start_with_loader(has_python: bool) -> gateway.Jvm:
        jvm = start(has_python)
        java_class("java.lang.Thread").currentThread().setContextClassLoader(loader)
        return jvm

    gateway.start = start_with_loader


def run(job: dict[str, Any]) -> int:
    """Run a script; its exit code."""
    jar_of_classes, python_mode = environment.jar_of_classes, entry.python_mode
    if job["slow"]:
        environment.jar_of_classes = slow_jar
    entry.python_mode = lambda settings: python_mode({**settings, **FASTER, **job["settings"]})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runpy.run_path(job["script"], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        environment.jar_of_classes, entry.python_mode = jar_of_classes, python_mode
    return 0


def listen(jobs: queue.Queue[dict[str, Any]]) -> None:
    """Take what comes on stdin."""
    for line in os.fdopen(os.dup(0)):
        if line.strip() == "crash":
            while not stop.running:  # it is about to start
                time.sleep(0.01)
            with contextlib.suppress(Py4JJavaError):  # as where nobody has read the answer to what Flink was asked
                running.crash(stop.running)
        else:
            jobs.put(json.loads(line))
    os._exit(0)  # nobody is there any more


def main() -> None:
    entry.Stop = new_stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gateway.start(has_python=True)
    share_rpc_system()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=listen, args=(jobs,), daemon=True).start()
    while True:
        job = jobs.get()
        before = state()
        with as_a_process(job):
            code = run(job)
        after = state()
        left = "\n".join(
            f"{what}: {before[what]}, then {after[what]}" for what in before if before[what] != after[what]
        )
        temporary = Path(f"{job['end']}.tmp")
        temporary.write_text(json.dumps({"code": code, "left": left}))
        temporary.replace(job["end"])


if __name__ == "__main__":
    main()
