"""Runs each test of machines.py, which need a network of machines, inside such a network."""

import subprocess
import sys
from pathlib import Path

import pytest

import machines
from conftest import environment_with
from network import AWAY, why_not_here
from support import ROOT

TIMEOUT = 900  # seconds; the longest takes about three minutes


@pytest.fixture(scope="module")
def network_of_machines() -> None:
    """Skips the test where no such network can be had."""
    if reason := why_not_here():
        pytest.skip(reason)


@pytest.mark.chaos
@pytest.mark.usefixtures("network_of_machines")
@pytest.mark.parametrize("name", [name for name in vars(machines) if name.startswith("test_")])
def test_on_machines_of_their_own(name: str, tmp_path: Path) -> None:
    quiet = ["-q", "--show-capture=no", "-p", "no:cacheprovider"]  # Kafka's client logs much where a broker is away
    inside = [sys.executable, "-m", "pytest", *quiet, "--basetemp", tmp_path / "machines"]
    ended = subprocess.run(
        [*AWAY, *inside, f"{ROOT}/tests/machines.py::{name}"],
        env=environment_with(KAFKA_BOOTSTRAP_SERVERS=""),  # the one that is named there cannot be reached
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
