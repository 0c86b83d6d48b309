"""What a user says: the flags that every job has, as a frozen value. A script adds one in a line, as word_count.py."""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST = 10**10  # seconds in 317 years; a million times as many is more milliseconds than Java can count
Options = TypeVar("Options", bound="JobOptions")


def positive(text: str) -> int:
    """A whole number above zero, at most MOST; raises ValueError for anything else."""
    if not_negative(text) == 0:
        raise ValueError
    return int(text)


def not_negative(text: str) -> int:
    """A whole number from zero to MOST; raises ValueError for anything else."""
    if not 0 <= int(text) <= MOST:
        raise ValueError
    return int(text)


def host_and_port(text: str) -> tuple[str, int]:
    """An address, HOST:PORT, where HOST may be [IPv6]; raises ValueError where the port is not a number."""
    host, _, port = text.strip().rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def broker_list(text: str) -> str:
    """One or more addresses HOST:PORT, separated by commas; raises ValueError for anything else."""
    if not all(host and 0 < port < 65536 for host, port in map(host_and_port, text.split(","))):
        raise ValueError
    return text


def name(text: str) -> str:
    """A text that is not empty; raises ArgumentTypeError for one that is."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name; is a variable of the shell not set?")
    return text


def folder(text: str) -> str:
    """A folder of this machine as an absolute path; raises ArgumentTypeError for what cannot be one."""
    if "://" in text and not text.startswith("file://"):
        way = f"on a cluster: flink run -D execution.checkpointing.dir={text} (and -s to go on from one)"
        raise argparse.ArgumentTypeError(f"{text} is not a folder of this machine; {way}")
    return os.path.realpath(re.sub("^file:/+", "/", name(text)))  # Flink prints folders as file:/...


def folder_or_uri(text: str) -> str:
    """As `folder`; or a URI, which is the business of whoever writes there."""
    return text if "://" in text else folder(text)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The flags of a job that reads a Kafka topic; raises ValueError where two of them do not go together."""

    output: Annotated[str | None, "folder for the result files; None: print to stdout", folder_or_uri, "PATH"] = None
    live: Annotated[bool, "in a terminal, show the newest window as a table, instead of printing all rows"] = False
    topic: Annotated[str, "topic to read lines from"] = "input"
    bootstrap_servers: Annotated[str, "Kafka or Redpanda", broker_list, "HOST:PORT[,...]"] = "localhost:19092"
    kafka_config: Annotated[
        str | None,
        "properties of a Kafka client, as Kafka's own tools take them: TLS, user, password; None: plain Kafka",
        str,
        "FILE",
    ] = None
    group_id: Annotated[str, "consumer group to commit offsets to"] = "test_group"
    max_delay: Annotated[
        int,
        "how much older than the newest record of its partition a record may be and still count",
        not_negative,
        "SECONDS",
    ] = 0
    idle_timeout: Annotated[
        int, "when a partition without records no longer holds windows back; 0: never", not_negative, "SECONDS"
    ] = 5
    max_ahead: Annotated[
        int,
        "how much ahead of this machine's clock a record's time may be; others are not counted; 0: any time",
        not_negative,
        "SECONDS",
    ] = 3600
    start: Annotated[
        Literal["committed", "earliest", "latest"],
        "offsets to start from; committed: those of the group, earliest where it has none",
    ] = "committed"
    bounded: Annotated[bool, "stop at the offsets that are the end when the job starts, and close all windows"] = False
    checkpoint_dir: Annotated[
        str | None,
        "keep checkpoints here, and go on from the newest one; None: a crash loses open windows",
        folder,
        "DIR",
    ] = None
    no_drain: Annotated[
        bool, "on Ctrl-C leave open windows to the next run with this --checkpoint-dir, instead of writing them"
    ] = False

    def __post_init__(self) -> None:
        if self.no_drain and not self.checkpoint_dir:
            raise ValueError("--no-drain needs a --checkpoint-dir, where the next run finds the open windows")
        if self.live and self.rows_go_to():
            both = f"--live shows rows that are printed, and here they go to {self.rows_go_to()}"
            raise ValueError(f"{both}; leave out one of the two")

    def rows_go_to(self) -> str | None:
        """Where the job's rows go, which a checkpoint belongs to; None: they are printed."""
        return self.output

    @classmethod
    def parse(cls: type[Options], description: str, arguments: Sequence[str] | None = None) -> Options:
        """The options on the command line. Bad input ends the program with a usage message and exit code 2."""
        shows_defaults = argparse.ArgumentDefaultsHelpFormatter
        parser = argparse.ArgumentParser(description=description, formatter_class=shows_defaults)
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            add_flag(parser, field, hints[field.name])
        try:
            return cls(**vars(parser.parse_args(arguments)))
        except ValueError as error:
            parser.error(str(error))


@dataclass(frozen=True, kw_only=True)
class ToTopic(JobOptions):
    """Flags of a job that can write its results to a topic; raises ValueError where they do not go together."""

    to_topic: Annotated[str | None, "topic to write results to, in place of --output", str, "TOPIC"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to_topic and self.output:
            raise ValueError("results go to files or to a topic; leave out --output or --to-topic")
        if self.to_topic == self.topic:
            again = "the job would read what it has written"
            raise ValueError(f"--to-topic {self.topic} is the topic that is read: {again}")

    def rows_go_to(self) -> str | None:
        return f"kafka://{self.to_topic}" if self.to_topic else self.output

    def transactional_ids(self) -> str:
        """For `write_messages`. Who has a transaction's name may abort it: the next run does, after a crash."""
        return f"{self.topic}/{self.to_topic}/{self.group_id}"  # no topic's name has a slash


@dataclass(frozen=True, kw_only=True)
class WithRejected(JobOptions):
    """The flag of a job that sends some records on to a topic; raises ValueError where that has other records."""

    rejected_topic: Annotated[str | None, "where rejected records go; None: TOPIC-rejected", str, "TOPIC"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rejected_topic == self.topic:
            raise ValueError(f"--rejected-topic {self.topic} is the topic that is read: the job would read them again")
        if self.topic_of_rejected() == getattr(self, "to_topic", None):
            raise ValueError("results and rejected records go to topics of their own; mend --to-topic")

    def topic_of_rejected(self) -> str:
        return self.rejected_topic or f"{self.topic}-rejected"


def add_flag(parser: argparse.ArgumentParser, field: Field, hint: Any) -> None:
    """Add the flag of a field. `hint`: its type, Annotated with the help, what reads the value, the value's name."""
    annotated, help_text, *reads = get_args(hint)
    kinds = get_args(annotated) if get_origin(annotated) in (Union, UnionType) else (annotated,)
    [kind] = [one for one in kinds if one is not NoneType]
    flag = f"--{field.name.replace('_', '-')}"
    needed = field.default is MISSING
    common = {"help": help_text, "required": needed, "default": None if needed else field.default}
    if kind is bool:
        action = argparse.BooleanOptionalAction if field.default is True else "store_true"  # --FLAG and --no-FLAG
        parser.add_argument(flag, action=action, default=field.default is True, help=help_text)
    elif get_origin(kind) is Literal:
        parser.add_argument(flag, choices=get_args(kind), type=type(get_args(kind)[0]), **common)
    else:
        read: Callable[[str], Any] = reads[0] if reads else positive if kind is int else kind
        read = name if read is str else read
        parser.add_argument(flag, type=read, metavar=reads[1] if len(reads) > 1 else None, **common)
