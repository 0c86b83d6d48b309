"""Bring the pinned Kafka connector jar into this folder: `python connectors/fetch.py`.

This file is the one place for the connector's version. That version ends in the Flink minor version the jar is built
for (5.0.0-2.2 is for Flink 2.2.x), so change it together with apache-flink in pyproject.toml.
"""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

CONNECTOR = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"  # Maven coordinates: group, artifact, version
SHA256 = "5605c691d11a501382c383fecba37a7a552467da5ab7ba904ef5d6f3d62c5616"
FOLDER = Path(__file__).resolve().parent


class WrongChecksum(Exception):
    """A jar is not, byte for byte, the one that is pinned."""


def jar_path(folder: Path = FOLDER) -> Path:
    """Where the pinned jar belongs."""
    _, artifact, version = CONNECTOR.split(":")
    return folder / f"{artifact}-{version}.jar"


def verify(jar: Path, sha256: str = SHA256) -> None:
    """Compare a jar with the pinned sum.

    Raises:
        WrongChecksum: the file's SHA-256 is another one.
    """
    actual = hashlib.sha256(jar.read_bytes()).hexdigest()
    if actual != sha256:
        raise WrongChecksum(f"{jar} has SHA-256 {actual}, but {sha256} is pinned")


def download(coordinates: str, folder: Path) -> Path:
    """Download one artifact from Maven Central into `folder`; the path of the jar.

    Raises:
        RuntimeError: there is no such artifact.
        requests.RequestException: the repository cannot be reached.
    """
    from jgo.maven import MavenContext  # imported late: a jar that is already here needs nothing but Python

    group, artifact, version = coordinates.split(":")
    return MavenContext(repo_cache=folder).project(group, artifact).at_version(version).artifact().resolve()


def fetch(folder: Path = FOLDER, sha256: str = SHA256) -> Path:
    """The pinned jar in `folder`, downloaded if it is not there yet.

    Raises:
        WrongChecksum: the jar that is there, or the downloaded one, has another SHA-256. A wrong download is discarded.
    """
    jar = jar_path(folder)
    if not jar.exists():
        print(f"Downloading {CONNECTOR} ...", flush=True)
        with TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            downloaded = download(CONNECTOR, Path(temporary))
            verify(downloaded, sha256)
            downloaded.replace(jar)  # atomic: an interrupted download never looks like a jar
    verify(jar, sha256)
    return jar


def main() -> None:
    try:
        print(f"Kafka connector: {fetch()}")
    except WrongChecksum as error:
        sys.exit(f"{error}. If the file is damaged, delete it and run: python connectors/fetch.py")
    except ImportError:
        sys.exit("jgo is not installed in this Python; run: pip install -r requirements.txt")
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        sys.exit(f"Cannot download {CONNECTOR}: {error}. Check the network, then run: python connectors/fetch.py")


if __name__ == "__main__":
    main()
