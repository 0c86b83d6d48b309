"""Bring the pinned jars of the Kafka connector into this folder: `python connectors/fetch.py`.

This file is the one place for the connector's version. That version ends in the Flink minor version the jar is built
for (5.0.0-2.2 is for Flink 2.2.x), so change it together with apache-flink in pyproject.toml. The second jar reads and
writes records that are compressed with zstd: it is the one codec that the connector does not bring.
"""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

CONNECTOR = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"  # Maven coordinates: group, artifact, version
ZSTD = "com.github.luben:zstd-jni:1.5.6-10"  # the one that Kafka 4.2 names, whose client is in the connector
SHA256 = {
    CONNECTOR: "5605c691d11a501382c383fecba37a7a552467da5ab7ba904ef5d6f3d62c5616",
    ZSTD: "b6c3237e24b8252a5a9c3a0e1ae30ef8f323412e74bd358548b7a9e527d676df",
}
FOLDER = Path(__file__).resolve().parent


class WrongChecksum(Exception):
    """A jar is not, byte for byte, the one that is pinned."""


def jar_path(folder: Path = FOLDER, coordinates: str = CONNECTOR) -> Path:
    """Where a pinned jar belongs."""
    _, artifact, version = coordinates.split(":")
    return folder / f"{artifact}-{version}.jar"


def verify(jar: Path, sha256: str) -> None:
    """Compare a jar with the pinned sum; raises WrongChecksum: its SHA-256 is another one."""
    actual = hashlib.sha256(jar.read_bytes()).hexdigest()
    if actual != sha256:
        raise WrongChecksum(f"{jar} has SHA-256 {actual}, but {sha256} is pinned")


def download(coordinates: str, folder: Path) -> Path:
    """Download one artifact from Maven Central into `folder`; the path of the jar.

    Raises RuntimeError: there is no such artifact; requests.RequestException: the repository cannot be reached.
    """
    from jgo.maven import MavenContext  # imported late: a jar that is already here needs nothing but Python

    group, artifact, version = coordinates.split(":")
    return MavenContext(repo_cache=folder).project(group, artifact).at_version(version).artifact().resolve()


def fetch(folder: Path = FOLDER, sha256: str | None = None, coordinates: str = CONNECTOR) -> Path:
    """A pinned jar in `folder`, downloaded if it is not there yet. `sha256`: None: the pinned one.

    Raises WrongChecksum: the jar that is there, or the downloaded one, has another. A wrong download is discarded.
    """
    jar, pinned = jar_path(folder, coordinates), sha256 or SHA256[coordinates]
    if not jar.exists():
        print(f"Downloading {coordinates} ...", flush=True)
        with TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            downloaded = download(coordinates, Path(temporary))
            verify(downloaded, pinned)
            downloaded.replace(jar)  # atomic: an interrupted download never looks like a jar
    verify(jar, pinned)
    return jar


def main() -> None:
    for coordinates in SHA256:
        try:
            print(f"Kafka connector: {fetch(coordinates=coordinates)}")
        except WrongChecksum as error:
            sys.exit(f"{error}. If the file is damaged, delete it and run: python connectors/fetch.py")
        except ImportError:
            sys.exit("jgo is not installed in this Python; run: pip install -r requirements.txt")
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            mend = "Check the network, then run: python connectors/fetch.py"
            sys.exit(f"Cannot download {coordinates}: {error}. {mend}")


if __name__ == "__main__":
    main()
