"""`examples/json_lines.py`: its rows are compared with an independent count, its side topic with what was malformed."""

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Job, Topic
from examples import json_lines
from support import (
    ROOT,
    START,
    Counts,
    Record,
    checkpoints,
    expected_counts,
    read_files,
)

JSON = ROOT / "examples" / "json_lines.py"
MALFORMED = [
    b"",
    b" ",
    b"/home",
    b'"page"',
    b'"/home"',
    b"7",
    b"null",
    b"[]",
    b'["page"]',
    b'[{"page": "/home"}]',
    b"{}",
    b'{"user": "ann"}',
    b'{"Page": "/home"}',
    b'{"page": null}',
    b'{"page": 7}',
    b'{"page": ["/home"]}',
    b'{"page": "/hom',
    b'{"page": "/home"} {"page": "/home"}',
    b"{'page': '/home'}",
    b'{"page": "\xff"}',
    b'{"page": "/home", "user": "\xff"}',
    '{"page": "/home"}'.encode("utf-16-le"),
    b'{"page": "/one"}\n{"page": "/two"}',  # a record is one object
    b'{"page": "a\tb"}',  # in JSON a tab is \t
    b"[" * 100_000,
    b'{"page": "/home", "number": ' + b"9" * 10_000 + b"}",  # Python refuses so long a number
]


@pytest.mark.parametrize("line", MALFORMED, ids=lambda line: ascii(line[:40]))
def test_malformed_lines(line: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        json_lines.value_of(line, "page")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"page": "/home"}', "/home"),
        (b' {"user": {"page": "/no"}, "page": "/home"}\r', "/home"),
        (b'{"page": ""}', ""),
        (b'{\n"page":\n"/home"\n}\n', "/home"),
        ('\ufeff{"page": "/home"}'.encode(), "/home"),
        ('{"page": "/дом/\\u5bb6"}'.encode(), "/дом/家"),
        (b'{"page": "a\\tb\\n\\"c\\"\\\\"}', 'a\\tb\\n\\"c\\"\\\\'),
        (b'{"page": "\\ud83d\\ude00 \\ud83d"}', "\U0001f600 \\ud83d"),
    ],
)
def test_values(line: bytes, value: str) -> None:
    assert json_lines.value_of(line, "page") == value


@given(st.text(st.characters(codec=None)))
def test_any_value_fits_into_a_row_and_stays_another(value: str) -> None:
    found = json_lines.value_of(json.dumps({"page": value}).encode(), "page")
    assert not set(found) & set("\t\n\r")
    found.encode()
    assert json.loads(f'"{found}"') == value


# --- Runs -----------------------------------------------------------------------------------------------------------


def good(pages: Iterable[str], every: int = 50, start: int = START, partitions: int = 1) -> list[Record]:
    """Records of these pages, `every` milliseconds apart, dealt out to the partitions in turn."""
    return [
        Record(
            json.dumps({"user": f"user{number}", "page": page}).encode(), start + number * every, number % partitions
        )
        for number, page in enumerate(pages)
    ]


def expected_pages(records: Iterable[Record]) -> Counts:
    """The independent count: what is a page's name is a word, too."""
    return expected_counts(
        Record(json.loads(record.value)["page"].encode(), record.timestamp) for record in records if record.value
    )


def random_pages(seed: int, number: int) -> list[str]:
    return random.Random(seed).choices(["/home", "/about", "/дом", *(f"/page/{n}" for n in range(300))], k=number)


def values_in(topic: Topic) -> list[bytes]:
    """The values of all records that a topic has."""
    return [record.value for record in topic.records()]


def said(sentence: str, stderr: str) -> int:
    """The sum of the numbers at the end of the lines that begin with a sentence, one for each subtask."""
    found = [line.rpartition(": ")[2] for line in stderr.splitlines() if line.startswith(sentence)]
    return sum(int(number) for number in found if not number.endswith(" so far"))


def test_bounded(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """All kinds of malformed records between good ones; a uid is asked of each operator."""
    topic, side = new_topic(partitions=2), new_topic(partitions=2)
    records = good(random_pages(1, 2_000), partitions=2)
    odd = [Record(line, START + number * 1_000, number % 2) for number, line in enumerate(MALFORMED)]
    null = Record(None, START, 1, key=b"key")
    over_lines = Record(b'{\n"page": "/home"\n}\n', START + 500, 1)  # a record, though of several lines
    topic.produce(sorted([*records, *odd, null, over_lines], key=lambda record: record.timestamp))

    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--bounded", "--output", str(tmp_path / "out")]
    ended = start_job(*arguments, script=JSON, settings={"pipeline.auto-generate-uids": "false"}).wait()
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr
    assert read_files(tmp_path / "out") == expected_pages([*records, over_lines])
    assert Counter(values_in(side)) == Counter(MALFORMED)
    assert said(f"Rejected records, not counted, sent to topic {side.name}", ended.stderr) == len(MALFORMED)
    assert said("Records with a null value", ended.stderr) == 1


def test_stop(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """Ctrl-C writes the open window and what is malformed; what came too late is told from it. Another field."""
    topic, side = new_topic(), new_topic()
    records = topic.produce(good(["closed"] * 5 + ["open"], every=1_000))
    output = tmp_path / "out"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(output), "--field", "user"]
    job = start_job(*arguments, script=JSON)
    users = [Record(json.loads(record.value)["user"].encode(), record.timestamp) for record in records]
    job.until(lambda: read_files(output) == expected_counts(users[:5]), "the rows of the closed window")
    topic.produce(
        [*good(["/late"] * 3), Record(b"late, and malformed", START), Record(b'{"page": "/"}', START + 6_000)]
    )
    job.wait_for_checkpoint_of(11)
    assert values_in(side) == [b"late, and malformed", b'{"page": "/"}'], "a checkpoint has not waited for the broker"
    job.process.send_signal(signal.SIGINT)
    ended = job.wait()
    assert ended.code == 0, ended.stderr
    assert read_files(output) == expected_counts(users)
    assert said("Rejected records", ended.stderr) == 2
    assert said("Records that came after their windows had closed, not counted (--max-delay)", ended.stderr) == 3


def test_kill_and_resume(new_topic: Callable[..., Topic], start_job: Callable[..., Job], tmp_path: Path) -> None:
    """The rows, and the number of malformed records, are exact; the malformed records are there at least once."""
    topic, side = new_topic(partitions=2), new_topic()
    records = good(random_pages(2, 6_000), partitions=2)
    malformed = [Record(f"malformed {number}".encode(), START + number * 1_000, number % 2) for number in range(300)]
    topic.produce(sorted(records + malformed, key=lambda record: record.timestamp))
    output, folder = tmp_path / "out", tmp_path / "checkpoints"
    arguments = [*topic.arguments(), "--rejected-topic", side.name, "--output", str(output)]
    arguments += ["--checkpoint-dir", str(folder), "--bounded"]
    job = start_job(*arguments, script=JSON, slow=True)
    job.until(lambda: checkpoints(folder), "a checkpoint")
    sent = len(values_in(side))
    job.until(lambda: len(values_in(side)) > sent, "malformed records after it")
    job.end()
    assert read_files(output) != expected_pages(records), "it was over before it was killed"

    records += topic.produce(good(["/after"], start=START + 500_000))
    ended = start_job(*arguments, script=JSON).wait()
    assert ended.code == 0, ended.stderr
    assert "Going on from" in ended.stderr
    assert read_files(output) == expected_pages(records)
    assert set(values_in(side)) == {record.value for record in malformed}
    assert said("Rejected records", ended.stderr) == len(malformed)


def test_side_topics_that_will_not_do(new_topic: Callable[..., Topic], start_job: Callable[..., Job]) -> None:
    topic = new_topic()
    missing = start_job(*topic.arguments(), script=JSON).wait()
    assert missing.code == 1
    assert missing.stderr.startswith(f"There is no topic {topic.name}-rejected on {topic.bootstrap_servers}")
    assert f"topics create --topic {topic.name}-rejected" in missing.stderr
    assert missing.stderr.count("\n") == 1
    same = start_job(*topic.arguments(), "--rejected-topic", topic.name, script=JSON).wait()
    assert same.code == 2
    assert same.stderr.endswith("is the topic that is read: the job would read them again\n")
