"""deploy/kubernetes.yaml against the schemas of Kubernetes and of Flink's operator, and against what it names.

No cluster is to be had here. The packages have the schemas as code: those of the operator's resources at its version
1.14.0, and those of Kubernetes itself.
"""

import copy
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import PYFLINK
from support import ROOT
from test_project import requirements

PACKAGES = ["@kubernetes-models/flink@1.0.1", "kubernetes-models@4.5.1"]
SCHEMA = Path(__file__).with_name("kubernetes_schema.mjs")
RESOURCES = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")))
DEPLOYMENT = RESOURCES[0]
FLINK = requirements["apache-flink"]

Refused = Callable[[Any], list[str]]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """What is wrong with some resources; skips the test where the schemas cannot be had."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip("no npm, which brings the schemas")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text("{}")  # else npm looks for one further up
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("npm could not bring the schemas")

    def check(resources: Any) -> list[str]:
        ended = subprocess.run(
            [node, SCHEMA], input=json.dumps(resources), cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split("\n")[:-1] if ended.stdout.strip() else []

    return check


@pytest.mark.slow  # npm brings the schemas
def test_manifest_is_valid(refused: Refused) -> None:
    assert [(one["apiVersion"], one["kind"]) for one in RESOURCES] == [
        ("flink.apache.org/v1beta1", "FlinkDeployment"),
        ("v1", "Service"),
    ]
    assert refused(RESOURCES) == []


MISTAKES = {
    "spec/job/upgrademode": ("upgradeMode", "/spec/job/upgrademode is unknown"),
    "spec/taskManager/resource/cpus": ("cpu", "/spec/taskManager/resource/cpus is unknown"),
    "spec/podTemplate/spec/volume": ("volumes", "/spec/podTemplate/spec/volume is unknown"),
    "spec/flinkConfig": ("flinkConfiguration", "/spec/flinkConfig is unknown"),
}


@pytest.mark.slow  # npm brings the schemas
def test_misspelt_keys_and_wrong_values_are_refused(refused: Refused) -> None:
    """The schemas themselves let a key pass, and so does an API server that is not told to be strict."""
    resources = [misspelt(path, right) for path, (right, _) in MISTAKES.items()]
    resources.append(copy.deepcopy(DEPLOYMENT))
    resources[-1]["spec"]["flinkVersion"] = "v9_9"
    resources[-1]["spec"]["job"]["parallelism"] = "two"
    *misspelt_keys, version, parallelism = refused(resources)
    assert misspelt_keys == [sentence for _, sentence in MISTAKES.values()]
    assert version.startswith("/spec/flinkVersion enum {")
    assert parallelism.startswith("/spec/job/parallelism type {")


def misspelt(path: str, right: str) -> Any:
    """The manifest with a wrong name for a key, at the end of the path."""
    *parents, wrong = path.split("/")
    inside = resource = copy.deepcopy(DEPLOYMENT)
    for key in parents:
        inside = inside[key]
    inside[wrong] = inside.pop(right)
    return resource


def test_flink_knows_what_is_configured() -> None:
    """The operator's schema lets any key pass, and Flink says nothing of one that it does not know."""
    with zipfile.ZipFile(PYFLINK / "lib" / f"flink-dist-{FLINK}.jar") as jar:
        options = b"".join(jar.read(name) for name in jar.namelist() if re.search(r"/flink/.*Options\.class$", name))
    configured = DEPLOYMENT["spec"]["flinkConfiguration"]
    unknown = [key for key in configured if key.encode() not in options]
    # Metrics have a name of the user's own in their keys.
    assert unknown == ["metrics.reporter.prometheus.factory.class", "metrics.reporter.prometheus.port"]
    factory = configured["metrics.reporter.prometheus.factory.class"]
    with zipfile.ZipFile(next((PYFLINK / "plugins" / "metrics-prometheus").glob("*.jar"))) as jar:
        assert f"{factory.replace('.', '/')}.class" in jar.namelist()


def test_versions_and_paths_are_those_of_the_image() -> None:
    spec = DEPLOYMENT["spec"]
    major, minor, _ = FLINK.split(".")
    assert spec["flinkVersion"] == f"v{major}_{minor}"
    assert spec["job"]["jarURI"] == f"local:///opt/flink/opt/flink-python-{FLINK}.jar"
    pods = spec["podTemplate"]["spec"]
    [container] = pods["containers"]
    assert [one["value"] for one in container["env"]] == [f"flink-s3-fs-hadoop-{FLINK}.jar"]

    image = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    [folder] = re.findall(r"^WORKDIR (\S+)", image, re.MULTILINE)
    assert spec["job"]["args"][:2] == ["--python", f"{folder}/word_count.py"]
    assert re.findall(r"^USER (\d+)", image, re.MULTILINE)[-1] == str(pods["securityContext"]["runAsUser"])


def test_the_secret_is_where_the_job_looks_for_it() -> None:
    args, pods = DEPLOYMENT["spec"]["job"]["args"], DEPLOYMENT["spec"]["podTemplate"]["spec"]
    folder, file = args[args.index("--kafka-config") + 1].rsplit("/", 1)
    [mount], [volume] = pods["containers"][0]["volumeMounts"], pods["volumes"]
    assert (mount["mountPath"], mount["name"]) == (folder, volume["name"])
    create = f"kubectl create secret generic {volume['secret']['secretName']} --from-file={file}"
    assert create in (ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")


def test_metrics_are_configured_as_on_other_clusters() -> None:
    """But for the port, which each pod has for itself."""
    other = yaml.safe_load((ROOT / "deploy" / "metrics.yaml").read_text("utf-8"))
    configured = DEPLOYMENT["spec"]["flinkConfiguration"]
    assert other.keys() <= configured.keys()
    assert [key for key in other if other[key] != configured[key]] == ["metrics.reporter.prometheus.port"]


def test_prometheus_asks_the_port_of_the_metrics() -> None:
    configured, service = DEPLOYMENT["spec"]["flinkConfiguration"], RESOURCES[1]["spec"]
    [port] = DEPLOYMENT["spec"]["podTemplate"]["spec"]["containers"][0]["ports"]
    [served] = service["ports"]
    assert int(configured["metrics.reporter.prometheus.port"]) == port["containerPort"] == served["port"]
    assert served["targetPort"] == port["name"]
    assert service["selector"]["app"] == DEPLOYMENT["metadata"]["name"]
