"""The pages of the documentation: their blocks, and the console blocks run as a reader would.

    python tests/docs.py docs/tutorial.md                # run the console blocks of one page
    python tests/docs.py --keep-going docs/tutorial.md   # and go on after one that prints something else

A block is what stands between two lines of three backticks. Marks are comments on the lines before it:

    <!-- from: FILE -->        the block is a run of lines of that file
    <!-- drawing -->           it is a picture, nobody runs it
    <!-- apply -->             a diff, which the reader applies
    <!-- terminal: NAME -->    of a console block: a shell of its own, where this is not the reader's first one
    <!-- type -->              what comes after the command is typed into it
    <!-- wait: SECONDS -->     the reader takes so long before the block
    <!-- not run: REASON -->   a console block that cannot be run here

In a console block a line that begins with "$ " is a command, which goes on in lines that begin with "> "; ^C and ^D are
keys, and all else is what is printed, where "..." stands for anything. A command whose block is continued by another
one goes on in its terminal meanwhile.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pexpect

from support import STILL_STOPPING

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for folder in (".", "docs", "deploy") for page in sorted((ROOT / folder).glob("*.md"))]
PROMPT = "<<the prompt of a terminal>>"
TIMEOUT = 180.0  # seconds that a command has
# A network of its own: the pages name ports, which may be taken outside. All that runs in it ends with the page.
ISOLATED = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
# What Beam says at times at the end of a good run of plain PyFlink, whose Python functions it calls.
BEAM = re.compile(r"^Exception in thread read_grpc_client_inputs:\n(?:.*\n)*?>\n?", re.MULTILINE)
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # to switch on a network's loopback device, as in Linux's sockios.h and if.h


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is the number of its first line, `marks` are the comments before it."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), 1))
    marks: dict[str, str] = {}
    for number, line in lines:
        if mark := re.fullmatch(r"<!-- ([\w ]+?)(?:: (.*))? -->", line):
            marks[mark[1]] = mark[2] or ""
        elif line.startswith("```"):
            body = [text for _, text in takewhile(lambda numbered: numbered[1] != "```", lines)]
            yield Block(page, number + 1, line[3:], "\n".join(body), marks)
            marks = {}
        elif line:
            marks = {}


def pattern(expected: str) -> re.Pattern[str]:
    """What a printed text must look like: "..." is anything in a line, and a line of "..." any lines, or none."""
    text = re.escape(expected).replace("\\\n", "\n")
    text = re.sub(r"^\\\.\\\.\\\.\n", r"(?:.*\\n)*?", text, flags=re.MULTILINE)
    text = re.sub(r"\n\\\.\\\.\\\.\Z", r"(?s:(?:\\n.*)?)", text)
    text = re.sub(r"\A\\\.\\\.\\\.\Z", r"(?s:.*)", text)
    return re.compile(text.replace(r"\.\.\.", ".*?"))


def sort_rows(text: str) -> str:
    """The text with the rows of each window sorted: they come in any order.

    What was not counted is said on stderr, and comes before or after the last rows, which are on stdout: here, after.
    """
    rows = r"^(\S+Z)\t.*\n(?:\1\t.*\n)*"
    text = re.sub(r"^((?:.* not counted .*\n)+)((?:\S+Z\t.*\n)+)", r"\2\1", text, flags=re.MULTILINE)
    return re.sub(rows, lambda found: "".join(sorted(found[0].splitlines(keepends=True))), text, flags=re.MULTILINE)


class Terminal:
    """A shell in a terminal of 120 columns; `printed` is what nobody has compared yet."""

    def __init__(self, folder: Path, home: Path) -> None:
        environment = {
            "HOME": str(home),
            "JVM_ARGS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData",  # as in conftest.py
            "FLINK_PID_DIR": str(home),  # else in the environment, which others use, too
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TERM": "dumb",
            "COLUMNS": "120",
            "LANG": "C.UTF-8",
            "PS1": PROMPT,
            "PS2": "",
            "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        }
        command = ["--norc", "--noprofile", "--noediting", "-i"]
        self.shell = pexpect.spawn(
            "bash",
            command,
            cwd=str(folder),
            env=environment,
            echo=False,
            encoding="utf-8",
            dimensions=(40, 120),
            preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),  # Python ignores it
        )
        self.printed = ""
        self.running = True
        self.wait_for_prompt()

    def send(self, text: str) -> None:
        """Type a line."""
        self.shell.sendline(text)

    def read(self, timeout: float) -> None:
        """Read some of what is printed, if anything is within `timeout` seconds."""
        try:
            self.printed += self.shell.read_nonblocking(100_000, timeout).replace("\r\n", "\n")
            self.printed = STILL_STOPPING.sub("", self.printed)
        except pexpect.TIMEOUT:
            return
        if self.printed.endswith(PROMPT):
            self.printed = self.printed.removesuffix(PROMPT)
            self.running = False

    def interrupt(self) -> None:
        """Press Ctrl-C if a command still runs, and forget what was printed."""
        if self.running:
            self.shell.sendintr()
            self.wait_for_prompt()
        self.printed = ""

    def wait_for_prompt(self) -> str:
        """All that is printed until the command has ended.

        Raises:
            TimeoutError: it has not ended within TIMEOUT seconds.
        """
        deadline = time.monotonic() + TIMEOUT
        while self.running:
            self.read(1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the command still runs; it has printed:\n{self.printed}")
        printed, self.printed = self.printed, ""
        return printed

    def wait_for_text(self, expected: str) -> None:
        """Wait until a command that goes on has printed a text.

        Raises:
            TimeoutError: that was not within TIMEOUT seconds.
        """
        deadline = time.monotonic() + TIMEOUT
        sorted_rows = sort_rows(expected + "\n").removesuffix("\n")
        # With its line end, which may come later than the text: it must not be taken for the start of what follows.
        any_end = expected.split("\n")[-1] in ("", "...")
        whole_lines = re.compile(pattern(sorted_rows).pattern + ("" if any_end else "\n"))
        while not (found := whole_lines.match(self.printed)):
            if not self.running or time.monotonic() > deadline:
                raise TimeoutError(f"expected:\n{expected}\nprinted:\n{self.printed}")
            self.read(1)
            self.printed = sort_rows(self.printed)
        self.printed = self.printed[found.end() :]


def compare(expected: str, printed: str) -> None:
    """Raise AssertionError where a command has printed something else."""
    printed = BEAM.sub("", f"{printed}\n")
    printed, expected = (sort_rows(f"{text.rstrip()}\n").rstrip() for text in (printed, expected))
    printed = "\n".join(line.rstrip() for line in printed.split("\n"))
    assert pattern(expected).fullmatch(printed), f"expected:\n{expected}\nprinted:\n{printed}"


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands and keys of a console block, each with what is printed after it; the first may be no command: ""."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in block.text.split("\n"):
        command, printed = found[-1]
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line in ("^C", "^D"):
            found.append((line, []))
        elif line.startswith("> ") and command and not printed:
            found[-1] = (f"{command}\n{line[2:]}", [])
        else:
            printed.append(line)
    steps = [(command, "\n".join(printed)) for command, printed in found]
    return steps if steps[0][1] else steps[1:]


def run_block(block: Block, terminal: Terminal, goes_on: bool) -> None:
    """Do what a console block says, and compare what is printed.

    Args:
        goes_on: whether its last command is still running when the block ends.

    Raises:
        AssertionError, TimeoutError: something else was printed, or nothing.
    """
    steps = commands(block)
    time.sleep(float(block.marks.get("wait", 0)))  # event time goes by
    for number, (command, expected) in enumerate(steps, 1):
        if command == "^C":
            terminal.shell.sendintr()
        elif command == "^D":
            terminal.shell.sendeof()
        elif command:
            terminal.send(command)
            terminal.running = True
        last = number == len(steps)
        if "type" in block.marks and command not in ("^C", "^D"):
            for line in expected.split("\n"):
                terminal.send(line)
        elif (last and goes_on) or (not last and steps[number][0] in ("^C", "^D")):
            terminal.wait_for_text(expected)
        else:
            compare(expected, terminal.wait_for_prompt())


def copy_of_repository(folder: Path) -> None:
    """What a clone of the repository would be, if all was committed; the environment and the connector are links."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
    for name in names:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
            os.utime(folder / name, (0, 0))  # old, so that make never takes .venv, which is a link, for out of date
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for jar in (ROOT / "connectors").glob("*.jar"):
        (folder / "connectors" / jar.name).symlink_to(jar)
    git = ["git", "-c", "user.name=reader", "-c", "user.email=reader@localhost"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "a copy"]):
        subprocess.run([*git, *command], cwd=folder, check=True)


def run_page(page: Path, keep_going: bool = False) -> list[str]:
    """Run the console blocks of a page, in their order; what was not as the page says."""
    shown = [block for block in read_blocks(page) if {"console", "diff"} & {block.language}]
    shown = [block for block in shown if "not run" not in block.marks]
    faults = []
    with tempfile.TemporaryDirectory(prefix="docs-") as temporary:
        folder, home = Path(temporary, "copy"), Path(temporary, "home")
        folder.mkdir()
        home.mkdir()
        copy_of_repository(folder)
        terminals: dict[str, Terminal] = {}
        for number, block in enumerate(shown):
            print(f"{time.strftime('%X')} {block.place}", flush=True)
            name = block.marks.get("terminal", "main")
            try:
                if block.language == "diff":
                    subprocess.run(["git", "apply", "-"], cwd=folder, input=f"{block.text}\n", text=True, check=True)
                    continue
                terminal = terminals.get(name) or terminals.setdefault(name, Terminal(folder, home))
                later = (one for one in shown[number + 1 :] if one.marks.get("terminal", "main") == name)
                following = next((one for one in later if one.language == "console"), None)
                goes_on = not following.text.startswith("$ ") if following else name != "main"
                run_block(block, terminal, goes_on)
            except (AssertionError, TimeoutError, subprocess.CalledProcessError, pexpect.EOF) as error:
                faults.append(f"{block.place}: {error}")
                print(faults[-1], flush=True)
                if not keep_going:
                    break
                if name in terminals:
                    terminals[name].interrupt()
        for terminal in terminals.values():
            with contextlib.suppress(TimeoutError):
                terminal.interrupt()
            terminal.shell.close(force=True)
    return faults


def can_be_isolated() -> bool:
    """Whether the machine lets us have a network of our own."""
    return bool(shutil.which(ISOLATED[0])) and subprocess.run([*ISOLATED, "true"], capture_output=True).returncode == 0


def isolate() -> None:
    """Go on in a network of our own, where that can be had."""
    if "DOCS_ISOLATED" not in os.environ and can_be_isolated():
        os.environ["DOCS_ISOLATED"] = "1"
        # Its first process, which takes over those whose parents have ended, must notice when they end: bash does.
        os.execvp(ISOLATED[0], [*ISOLATED, "bash", "-c", '"$0" "$@"; exit $?', sys.executable, *sys.argv])
    if "DOCS_ISOLATED" in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            up = struct.pack("16sh14x", b"lo", IFF_UP)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, up)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the console blocks of pages.")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--keep-going", action="store_true", help="go on after a block that prints something else")
    arguments = parser.parse_args()
    isolate()
    faults = [fault for page in arguments.pages for fault in run_page(page.resolve(), arguments.keep_going)]
    sys.exit(f"{len(faults)} blocks are not as their page says" if faults else 0)


if __name__ == "__main__":
    main()
