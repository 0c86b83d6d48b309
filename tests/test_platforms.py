"""Macs and Linux on ARM, as far as they can be tried on another machine: what has a package, and what is built."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
BUILT = ["apache-beam", "crcmod", "dill", "docopt", "hdfs"]  # all but the first are pure Python where need be
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {
    "UV_PYTHON_DOWNLOADS": "never"
}


def pretend(folder: Path, system: str, machine: str) -> dict[str, str]:
    """The environment in which Python takes this machine for another one."""
    (folder / "sitecustomize.py").write_text(
        f"import platform, sys\nsys.platform = {system!r}\nplatform.machine = lambda: {machine!r}\n"
    )
    return ENVIRONMENT | {"PYTHONPATH": str(folder)}


@pytest.fixture
def uv_command() -> str:
    """The command that installs the packages, as 'make' runs it."""
    dry_run = ["make", "--dry-run", "--always-make", ".venv/ready"]
    recipe = subprocess.run(dry_run, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)
    [command] = re.findall(r"^.*uv pip install.* --requirement requirements\.txt$", recipe.stdout, re.MULTILINE)
    return command


@pytest.fixture
def package_index(tmp_path: Path) -> None:
    """Skips the test where packages cannot be had."""
    resolve = [sys.executable, "-m", "uv", "pip", "compile", "--cache-dir", tmp_path / "index", "-"]
    if subprocess.run(resolve, input="six", text=True, capture_output=True, timeout=120).returncode:
        pytest.skip("no package index answers")


def install(command: str, arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command of 'make' with something else to install."""
    command = command.replace("--requirement requirements.txt", arguments)
    return subprocess.run(
        command, shell=True, cwd=ROOT, env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=1200
    )


def test_linux_on_arm_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "constraints.txt", "build-constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("connectors", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.jar"))
    for target in ("demo", "test"):
        command = ["make", target, f"PYTHON={sys.executable}"]
        env = pretend(tmp_path, "linux", "aarch64")
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2
        assert ended.stdout == (
            "apache-flink has no wheel for Linux on aarch64: use a machine with an x86-64 processor\n"
        )
        assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("system", "machine", "refused"),
    [("linux", "x86_64", 0), ("linux", "aarch64", 1), ("darwin", "arm64", 0), ("darwin", "x86_64", 0)],
)
def test_what_is_refused(system: str, machine: str, refused: int, tmp_path: Path) -> None:
    [check] = re.findall(r"^PACKAGED := (.*)$", MAKEFILE, re.MULTILINE)
    env = pretend(tmp_path, system, machine)
    assert subprocess.run([sys.executable, "-c", check], env=env, timeout=60).returncode == refused


def test_a_package_that_needs_pkg_resources_can_be_built(uv_command: str, package_index: None, tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("import pkg_resources, setuptools\nsetuptools.setup(name='old', version='1')\n")
    ended = install(uv_command, f"--dry-run {tmp_path}")  # a dry run builds what it must know, and installs nothing
    assert ended.returncode == 0, ended.stderr
    assert "+ old @" in ended.stderr


@pytest.mark.chaos
def test_beam_can_be_built(uv_command: str, package_index: None, tmp_path: Path) -> None:
    """Takes a minute. Only Apple silicon needs it, since elsewhere there are wheels."""
    [beam] = re.findall(r"^apache-beam==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    target = tmp_path / "built"
    ended = install(
        uv_command,
        f"--target {target} --no-deps --no-cache --no-binary apache-beam {beam}",
        CFLAGS="-O0",  # half the time
    )
    assert ended.returncode == 0, ended.stderr
    assert list(target.glob("apache_beam/coders/coder_impl*.so")), "it was not compiled"


@pytest.mark.chaos
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("platform", ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"])
def test_all_else_has_wheels(platform: str, python: str, package_index: None) -> None:
    """Only Beam needs a compiler, and only on Apple silicon."""
    built = BUILT if platform == "aarch64-apple-darwin" else BUILT[1:]
    sources = [argument for package in built for argument in ("--no-binary", package)]
    target = ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:", *sources]
    resolve = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *target, "requirements.txt"]
    resolved = subprocess.run(resolve, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert resolved.returncode == 0, resolved.stderr
