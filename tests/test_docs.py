"""The documentation is true: its code is in a file, its links lead somewhere, its commands print what it shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import PAGES, ROOT, Block, compare, pattern, read_blocks

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
CONSOLE_PAGES = sorted({block.page for block in BLOCKS if block.language == "console"})


def without_code(page: Path) -> str:
    """The text of a page, without blocks and comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_block_is_from_a_file_or_is_run(block: Block) -> None:
    if "from" in block.marks:
        code = (ROOT / block.marks["from"]).read_text("utf-8").splitlines()
        shown = block.text.splitlines()
        runs = (code[start : start + len(shown)] for start in range(len(code)))
        assert shown in runs, f"{block.marks['from']} has no such lines"
    else:
        assert block.language == "console" or block.marks.keys() & {"apply", "drawing"}
        assert block.marks.get("not run") != "", "there is no reason"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    references = set(re.findall(r"\]\[([^\]]+)\]", text))
    assert references == set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    for link in links:
        file, _, anchor = link.partition("#")
        if "://" not in link:
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, name in re.findall(r"<!-- test: (\S+)::(\w+) -->", page.read_text("utf-8")):
        assert re.search(rf"^(def )?{name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_picture_says_what_it_shows(page: Path) -> None:
    assert all(len(text) > 20 for text in re.findall(r"!\[([^\]]*)\]", without_code(page)))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_is_plain(page: Path) -> None:
    text = re.sub(r"^(\|| *[-*] |#).*$", "", without_code(page), flags=re.MULTILINE)  # not tables, lists, headings
    assert not re.findall(r"(?:\n\n|[.!?] )`[^`]*`", text), "a sentence begins with code"
    assert not re.findall(r"(?i)\b(?:simply|just|easily|obviously|of course)\b", text)


def test_pages_are_short() -> None:
    """Each fact is there once, at the place where it is looked for."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
    words = {name_of(page): len(page.read_text("utf-8").split()) for page in PAGES}
    assert words.pop("deploy/README.md") <= 1_500
    assert words.pop("CONTRIBUTING.md") <= 800
    assert sum(words.values()) <= 16_000


def test_what_a_page_shows_is_compared() -> None:
    compare("a ... c\n...\nlast", "a b c\nlast")
    compare("a ... c\n...\nlast", "a b c\n1\n2\nlast \n")
    compare("first\n...", "first\n1\n2")
    for printed in ("a b\nlast", "a b c\nlas", "a b c\nlast\nmore", "a\nb c\nlast"):
        with pytest.raises(AssertionError):
            compare("a ... c\n...\nlast", printed)
    assert not pattern("a.c").fullmatch("abc")
    beam = "Exception in thread read_grpc_client_inputs:\nTraceback:\n  x\ngrpc: <RPC that ended with:\n\tstatus = 1\n>"
    compare("a\nb", f"a\n{beam}\nb")


@pytest.mark.docs
@pytest.mark.parametrize("page", CONSOLE_PAGES, ids=name_of)
def test_commands_of_the_page(page: Path) -> None:
    """In a copy of the repository, with an empty home; see docs.py."""
    command = [sys.executable, ROOT / "tests" / "docs.py", page]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stdout
