"""The command line: the flags that every job has. A script adds its own with `add_argument`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kafka_job.application import is_recovered
from kafka_job.clients import host_and_port
from kafka_job.job import UNDER_FLINK_RUN
from kafka_job.kafka_config import read_config

BROKERS = "localhost:19092"


def positive(text: str) -> int:
    """A whole number above zero, for argparse; raises ValueError for anything else."""
    if int(text) <= 0:
        raise ValueError
    return int(text)


def not_negative(text: str) -> int:
    """A whole number, zero or above, for argparse; raises ValueError for anything else."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def broker_list(text: str) -> str:
    """One or more addresses HOST:PORT, separated by commas, for argparse; raises ValueError for anything else."""
    if not all(host and 0 < port < 65536 for host, port in map(host_and_port, text.split(","))):
        raise ValueError
    return text


def folder(text: str) -> str:
    """A folder, or file://, as an absolute path, for argparse: a cluster's processes have other working directories."""
    path = Path(text.removeprefix("file://")).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, not a folder")
    return str(path)


def folder_or_uri(text: str) -> str:
    """A folder of this machine, for argparse; or a URI, which is the cluster's business.

    Under 'flink run' that holds for file://, too: the folder may be there for the workers alone.
    """
    is_here = "://" not in text or (text.startswith("file://") and not UNDER_FLINK_RUN)
    return folder(text) if is_here else text


def local_folder(text: str) -> str:
    """A folder of this machine, for argparse: what is in it is read before the job starts."""
    if "://" in text and not text.startswith("file://"):
        way = f"on a cluster: flink run -D execution.checkpointing.dir={text} (and -s to go on from one)"
        raise argparse.ArgumentTypeError(f"{text} is not a folder of this machine; {way}")
    return folder(text)


class JobParser(argparse.ArgumentParser):
    """The command line of a job that reads a Kafka topic.

    Bad input ends the program with a usage message and exit code 2.
    """

    def __init__(self, description: str) -> None:
        """`description`: what the job does, in a sentence."""
        # The formatter adds each default to the help.
        super().__init__(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        option = self.add_argument
        option(
            "--output", type=folder_or_uri, metavar="PATH", help="folder for the result files; None: print to stdout"
        )
        option(
            "--live",
            action="store_true",
            help="in a terminal, show the newest window as a table, instead of printing all rows",
        )
        option("--topic", default="input", help="topic to read lines from")
        option(
            "--bootstrap-servers",
            type=broker_list,
            default=BROKERS,
            metavar="HOST:PORT[,...]",
            help="Kafka or Redpanda",
        )
        option(
            "--kafka-config",
            type=read_config,
            metavar="FILE",
            help="properties of a Kafka client, as Kafka's own tools take them: TLS, user, password; None: plain Kafka",
        )
        option("--group-id", default="test_group", help="consumer group to commit offsets to")
        option(
            "--max-delay",
            type=not_negative,
            default=0,
            metavar="SECONDS",
            help="how much older than the newest record of its partition a record may be and still count",
        )
        option(
            "--idle-timeout",
            type=not_negative,
            default=5,
            metavar="SECONDS",
            help="when a partition without records no longer holds windows back; 0: never",
        )
        option(
            "--start",
            choices=["committed", "earliest", "latest"],
            default="committed",
            help="offsets to start from; committed: those of the group, earliest where it has none",
        )
        option(
            "--bounded",
            action="store_true",
            help="stop at the offsets that are the end when the job starts, and close all windows",
        )
        option(
            "--checkpoint-dir",
            type=local_folder,
            metavar="DIR",
            help="keep checkpoints here, and go on from the newest one; None: a crash loses open windows",
        )
        option(
            "--no-drain",
            action="store_true",
            help="on Ctrl-C leave open windows to the next run with this --checkpoint-dir, instead of writing them",
        )

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """The options as values; `args` are those of the command line if None."""
        if is_recovered():  # the job goes on with what it was started with, whatever has become of a file since
            sys.exit()
        values = super().parse_args(args)
        values.kafka_config = values.kafka_config or {}
        if values.no_drain and not values.checkpoint_dir:
            self.error("--no-drain needs a --checkpoint-dir, where the next run finds the open windows")
        if values.live and values.output:
            self.error(
                "--live shows rows that are printed, and with --output they go to files; leave out one of the two"
            )
        return values
