"""The rules of the house: who may import whom, and that only kafka_job/flink/ touches what Flink does not promise."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support import LITERAL, ROOT, SCRIPT

LIBRARY = ROOT / "kafka_job"
WALL = LIBRARY / "flink"
SCRIPTS = [SCRIPT, *sorted((ROOT / "examples").glob("*.py"))]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in LIBRARY.rglob("*.py")
    if "hide_beam" not in file.parts  # no module of ours: it takes the place of another one
}
# Each imports only what stands after it.
FLOORS = ["execution", "resume", "pipeline", "kafka", "flink", "options terminal"]
INSIDES = re.compile(r"_j_|getDeclaredField|get_gateway|pyflink\.java_gateway|org\.apache\.flink|\bprivate\(|\._origin")


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """What a file imports, as (module, name); the name is empty where it is a whole module."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def modules_of_ours(file: Path) -> set[str]:
    """The modules of kafka_job that a file imports."""
    found = {f"{module}.{name}" if f"{module}.{name}" in MODULES else module for module, name in imports(file)}
    return {module for module in found if module.partition(".")[0] == "kafka_job"}


def floor(module: str) -> int:
    """The number of a module's floor; the highest is that of execution."""
    [number] = [number for number, names in enumerate(reversed(FLOORS)) if module.split(".")[1] in names.split()]
    return number


@pytest.mark.parametrize(
    "file",
    [*SCRIPTS, *(file for file in MODULES.values() if WALL not in file.parents)],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_only_flink_touches_what_flink_does_not_promise(file: Path) -> None:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        assert not INSIDES.search(line), f"line {number}: this belongs into kafka_job/flink/"
    for module, name in imports(file):
        private = [part for part in [*module.split("."), name] if re.match("_[^_]", part)]
        assert not (module.startswith("pyflink") and private), f"{module}: {private} belongs into kafka_job/flink/"


@pytest.mark.parametrize("module", [module for module in MODULES if module != "kafka_job"])
def test_arrows_go_down(module: str) -> None:
    above = {
        other for other in modules_of_ours(MODULES[module]) if other == "kafka_job" or floor(other) > floor(module)
    }
    assert not above


def test_there_are_no_circles() -> None:
    order = TopologicalSorter({module: modules_of_ours(file) for module, file in MODULES.items()})
    order.prepare()  # raises CycleError, which names them


def test_each_module_of_the_wall_says_what_it_leans_on() -> None:
    silent = [file.name for file in WALL.glob("*.py") if not re.search("^Leans on: ", file.read_text("utf-8"), re.M)]
    assert silent == ["__init__.py"]


def test_the_library_knows_no_script() -> None:
    ours = {file.stem for folder in (".", "examples", "tools", "tests") for file in (ROOT / folder).glob("*.py")}
    for file in MODULES.values():
        assert not {module.partition(".")[0] for module, _ in imports(file)} & ours


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_stand_alone(script: Path) -> None:
    """A copy beside kafka_job works; it imports no other script, and of the library what it offers to scripts."""
    modules = {module for module, _ in imports(script)}
    assert not modules & {other.stem for other in SCRIPTS}
    assert {module for module in modules if module.startswith("kafka_job")} == (
        set() if script == LITERAL else {"kafka_job"}
    )


def test_word_count_is_soon_read() -> None:
    names = [name for module, name in imports(SCRIPT) if module == "kafka_job"]
    assert len(names) <= 6
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 150
