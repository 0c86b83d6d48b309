"""A broker: how to reach it, and Kafka's client in Java, which asks it the questions of a program, not of a stream."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kafka_job.flink.connector import kafka_class
from kafka_job.flink.java import java_class
from kafka_job.kafka.config import Properties

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError

Address = tuple[str, int]  # host, port


class Refused(Exception):
    """A broker does not answer the Java client, or refuses what it asks for; the message is Kafka's."""

    def __init__(self, error: Py4JJavaError) -> None:
        self.causes: dict[str, str] = {}  # Java's exceptions by name, and what they say; each is caused by the next one
        self.kind = ""  # the name of the last one, which says most: UnknownMemberIdException
        cause = error.java_exception
        while cause:
            message = str(cause.getMessage())
            if re.search(r"JAAS config\b", message):  # it quotes what may be a part of a password
                message = re.sub("'.*'", "'...'", message, flags=re.DOTALL)
            message = message.partition("\n")[0]  # some have a stack trace in them
            self.kind = cause.getClass().getSimpleName()
            self.causes[self.kind] = message
            cause = cause.getCause()
        super().__init__(f"{self.kind}: {message}")


class Unusable(Refused):
    """The Java client cannot be made with these properties, or for these addresses."""


@dataclass(frozen=True)
class Broker:
    """How to reach a broker, or one of several."""

    bootstrap_servers: str  # HOST:PORT[,...]
    properties: Properties = field(default_factory=dict, repr=False)  # of --kafka-config, with secrets

    @property
    def protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return self.properties.get("security.protocol", "PLAINTEXT").upper()

    @contextlib.contextmanager
    def admin(self, timeout: float = 15) -> Iterator[JavaObject]:
        """Kafka's Java AdminClient, whose calls take at most `timeout` seconds; raises Unusable. See `result_of`.

        (A JVM that has just started, on a busy machine, takes some of them for its first TLS.)
        """
        milliseconds = str(int(timeout * 1000))
        settings = {
            "socket.connection.setup.timeout.ms": "2000",  # one of several machines may be off; by default 10 s
            "socket.connection.setup.timeout.max.ms": "2000",
            **self.properties,
            "bootstrap.servers": self.bootstrap_servers,
            "request.timeout.ms": milliseconds,  # may not be longer than the next one
            "default.api.timeout.ms": milliseconds,
        }
        try:
            admin = kafka_class("clients.admin.AdminClient").create(settings)
        except Py4JJavaError as error:
            raise Unusable(error) from None
        try:
            yield admin
        finally:
            admin.close(java_class("java.time.Duration").ZERO)


def result_of(call: JavaObject) -> Any:
    """What a call of the Java client brings, a future of Kafka's; raises Refused."""
    try:
        return call.get()
    except Py4JJavaError as error:
        raise Refused(error) from None
