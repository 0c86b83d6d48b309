"""Make terminal.svg and live.svg: what 'make demo' shows in a terminal, from a real run.

    .venv/bin/python -m pip install --target /tmp/pictures pyte
    PYTHONPATH=/tmp/pictures .venv/bin/python docs/pictures/terminal.py

It needs what 'make' sets up, and a free port 19092. pyte is the terminal, rich makes a picture of it.
"""

import io
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
COLUMNS, LINES = 88, 60

# Bright on dark, in Okabe and Ito's colours.
ANSI = {
    "black": (34, 34, 34),
    "red": (213, 94, 0),
    "green": (0, 158, 115),
    "yellow": (230, 159, 0),
    "blue": (86, 180, 233),
    "magenta": (204, 121, 167),
    "cyan": (86, 180, 233),
    "white": (230, 230, 230),
}
THEME = TerminalTheme((27, 31, 38), ANSI["white"], [*ANSI.values()])
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"


def screens(command: list[str | Path]) -> Iterator[pyte.Screen]:
    """A terminal in which a command runs, again and again, whenever something has changed in it."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | size, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        while printed := read(ours):
            stream.feed(printed)
            yield screen
    os.close(ours)
    if run.returncode:
        raise SystemExit("\n".join(screen.display).strip())


def read(terminal: int) -> bytes:
    """What a program has printed; nothing once it has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when nobody has the other side open any more
        return b""


def lines_of(screen: pyte.Screen) -> list[Text]:
    """What a terminal shows, without the empty lines at its end."""
    lines = []
    for number in range(LINES):
        line = Text()
        for column in range(COLUMNS):
            char = screen.buffer[number][column]
            line.append(char.data, Style(color=color_of(char.fg), bold=char.bold, italic=char.italics))
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def color_of(name: str) -> str | None:
    """pyte's name of a colour as rich's."""
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, re.sub("^bright", "bright_", name))


def save(command: str, lines: list[Text], file: Path) -> None:
    """A command, and what it has printed, as a picture in a font that every machine has: rich's is on the web."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {command}", "bold"), *lines, sep="\n")
    code = re.sub(r"@font-face \{\{.*?\}\}|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    code = code.replace("Fira Code, monospace", FONTS).replace("arial", "sans-serif")
    svg = console.export_svg(title=command, theme=THEME, code_format=code, unique_id=file.stem)
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n", "utf-8")


def main() -> None:
    shown: list[Text] = []
    for screen in screens([PYTHON, "tools/demo.py"]):
        if re.search(
            r"records, about [1-9].*clock", "\n".join(screen.display), re.DOTALL
        ):  # the live table is complete
            shown = lines_of(screen)
    start = next(number for number, line in enumerate(shown) if line.plain.startswith("Running for"))
    command = shown[start].plain.partition(": ")[2]
    save("make demo", shown[: start - 1], FOLDER / "terminal.svg")
    save(command, shown[start + 1 :], FOLDER / "live.svg")


if __name__ == "__main__":
    main()
