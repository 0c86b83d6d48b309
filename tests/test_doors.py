"""Who can reach a local run and the embedded broker: this machine only, and nobody can give Flink another job."""

import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from conftest import Cluster, Job, Topic
from support import SCRIPT, expected_counts, get_json, lines, read_files
from test_cluster import job_id

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
Sockets = dict[int, ipaddress.IPv4Address | ipaddress.IPv6Address]  # port -> address

UPLOAD = b"""\
--cut\r
Content-Disposition: form-data; name="request"\r
\r
{"jobGraphFileName": "job"}\r
--cut\r
Content-Disposition: form-data; name="file_0"; filename="job"\r
Content-Type: application/octet-stream\r
\r
what Java would read as a job\r
--cut--\r
"""


def process_tree(root: int) -> set[int]:
    """The ids of a process and of all its descendants."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def listening(root: int) -> Sockets:
    """What a process and its descendants listen on."""
    inodes = set()
    for pid in process_tree(root):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(descriptor.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
    found: Sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in inodes:
                address, port = local.split(":")
                words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
                ip = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
                found[int(port, 16)] = getattr(ip, "ipv4_mapped", None) or ip
    return found


def assert_local(sockets: Sockets) -> None:
    assert all(address.is_loopback for address in sockets.values()), sockets


def answer(url: str, body: bytes | None = None) -> tuple[int, Message, str]:
    """The status, headers and text of the answer to a GET, or to a POST of a body in several parts."""
    request = urllib.request.Request(url, body, {"Content-Type": "multipart/form-data; boundary=cut"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@linux
def test_a_door_to_the_network_would_be_seen() -> None:
    opened = "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1], flush=True); input()"
    command = ["sh", "-c", '"$0" -c "$1"; exit', sys.executable, opened]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        with pytest.raises(AssertionError, match=rf"{port}: IPv4Address\('0\.0\.0\.0'\)"):
            assert_local(listening(process.pid))
        process.communicate(b"\n", timeout=10)


def test_runs_at_once_are_for_this_machine_and_take_no_jobs(
    new_topic: Callable[..., Topic], start_process: Callable[..., Job], tmp_path: Path
) -> None:
    """Each run finds a port of its own, and all of them end well; in processes, whose ports are looked at.

    They end as by systemd, or a container's init, and as by a terminal that is closed: Java gets the signal as well.
    """
    topic = new_topic()
    records = topic.produce(lines(*["closed"] * 5, "open"))
    outputs = [tmp_path / f"out-{number}" for number in range(2)]
    flags = ["--start", "earliest", "--output"]
    jobs = [start_process(*topic.arguments(), *flags, str(output)) for output in outputs]

    addresses = [job.web_ui() for job in jobs]
    assert len(set(addresses)) == len(jobs)
    for job, address, output in zip(jobs, addresses, outputs, strict=True):
        job.until(lambda output=output: read_files(output) == expected_counts(records[:5]), "the closed window")
        if sys.platform == "linux":
            sockets = listening(job.process.pid)
            assert int(address.rpartition(":")[2]) in sockets
            assert len(sockets) >= 4, "web UI, blob server, and Java and Python to call each other"
            assert_local(sockets)
    assert_takes_no_jobs(addresses[0])

    for job, number in zip(jobs, (signal.SIGTERM, signal.SIGHUP), strict=True):
        os.killpg(job.process.pid, number)
    for job, output in zip(jobs, outputs, strict=True):
        ended = job.wait()
        assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (0, "", 2), ended.stderr
        assert ended.stderr.endswith("\nStopped: open windows are written, files and offsets are committed.\n")
        assert read_files(output) == expected_counts(records)
        assert not [file for file in output.rglob("*") if "inprogress" in file.name]


def assert_takes_no_jobs(web_ui: str) -> None:
    """Neither another user of this machine nor a page in a browser can let this Flink run code."""
    status, headers, _ = answer(f"{web_ui}/config")
    assert status == 200
    assert not headers["Access-Control-Allow-Origin"]
    features = get_json(f"{web_ui}/config")["features"]
    assert not [name for name, enabled in features.items() if enabled]

    before = get_json(f"{web_ui}/jobs")
    for path in ("/jars", "/jars/upload", "/v1/jars/upload"):
        assert answer(web_ui + path, UPLOAD)[0] in (400, 404), path
    for path in ("/jobs", "/v1/jobs"):
        status, _, text = answer(web_ui + path, UPLOAD)
        assert (status, text) == (500, '{"errors":["File upload failed."]}')
    assert get_json(f"{web_ui}/jobs") == before


# What docs/operations.md says of a cluster.
FOR_THIS_MACHINE = {
    "rest.bind-address": "localhost",
    "jobmanager.bind-host": "localhost",
    "taskmanager.bind-host": "localhost",
}


@linux
@pytest.mark.chaos
def test_a_cluster_for_this_machine(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, settings=FOR_THIS_MACHINE)
    topic = new_topic()
    records = topic.produce(lines("for this machine"))
    try:
        cluster.start()
        run = ["--python", SCRIPT, "--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
        job_id(cluster.flink("run", *run))
        pids = [int(pid) for file in cluster.pids.iterdir() for pid in file.read_text().split()]
        assert len(pids) == 2
        for pid in pids:
            assert listening(pid)
            assert_local(listening(pid))
    finally:
        cluster.stop()
    assert read_files(tmp_path / "out") == expected_counts(records)


@pytest.mark.chaos
def test_a_cluster_that_asks_for_certificates(new_topic: Callable[..., Topic], tmp_path: Path) -> None:
    """JobManager, TaskManagers and 'flink run' have one; nobody else is let in."""
    authority = trustme.CA()
    own = authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)  # which Flink's cipher suites are for
    key = serialization.load_pem_private_key(own.private_key_pem.bytes(), None)
    certificates = [x509.load_pem_x509_certificate(pem.bytes()) for pem in (own.cert_chain_pems[0], authority.cert_pem)]
    secret = serialization.BestAvailableEncryption(b"changeit")
    store = pkcs12.serialize_key_and_certificates(b"flink", key, certificates[0], [certificates[1]], secret)
    (tmp_path / "flink.p12").write_bytes(store)
    trusted = [pkcs12.PKCS12Certificate(certificates[1], b"authority")]
    (tmp_path / "trusted.p12").write_bytes(pkcs12.serialize_java_truststore(trusted, secret))
    settings = {"security.ssl.rest.authentication-enabled": "true"}
    for door in ("internal", "rest"):
        settings |= {
            f"security.ssl.{door}.enabled": "true",
            f"security.ssl.{door}.keystore": tmp_path / "flink.p12",
            f"security.ssl.{door}.keystore-password": "changeit",
            f"security.ssl.{door}.key-password": "changeit",
            f"security.ssl.{door}.truststore": tmp_path / "trusted.p12",
            f"security.ssl.{door}.truststore-password": "changeit",
        }
    cluster = CertificateCluster(tmp_path, settings=settings)
    topic = new_topic()
    records = topic.produce(lines("who are you"))
    try:
        cluster.start()
        run = ["--python", SCRIPT, "--bounded", "--output", str(tmp_path / "out"), *topic.arguments()]
        job_id(cluster.flink("run", *run))
        stranger = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        with pytest.raises(OSError, match="certificate"):
            urllib.request.urlopen(f"https://localhost:{cluster.rest_port}/overview", timeout=10, context=stranger)
    finally:
        cluster.stop()
    assert read_files(tmp_path / "out") == expected_counts(records)


class CertificateCluster(Cluster):
    """A cluster whose REST API lets in only whom it knows; 'flink list' is one of these."""

    def _has_slots(self) -> bool:
        registered = "Registering TaskManager with ResourceID"
        logs = "".join(file.read_text() for file in self.logs.glob("*standalonesession*.log"))
        return registered in logs and self.flink("list").code == 0
