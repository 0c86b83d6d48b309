"""interim"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from kafka_job.flink.connector import kafka_class
from kafka_job.kafka.config import Properties

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway


class Refused(Exception):
    def __init__(self, error: Py4JJavaError) -> None:
        cause = error.java_exception
        while cause.getCause():  # the last one says most
            cause = cause.getCause()
        self.kind = cause.getClass().getSimpleName()  # UnknownMemberIdException
        message = str(cause.getMessage())
        super().__init__(f"{self.kind}: {message}")


@dataclass(frozen=True)
class Broker:
    bootstrap_servers: str
    properties: Properties = field(default_factory=dict, repr=False)

    @contextlib.contextmanager
    def admin(self, timeout: float) -> Iterator[JavaObject]:
        jvm = get_gateway().jvm
        properties = jvm.java.util.Properties()
        for name, value in self.properties.items():
            properties.setProperty(name, value)
        properties.setProperty("bootstrap.servers", self.bootstrap_servers)
        properties.setProperty("request.timeout.ms", str(int(timeout * 1000)))
        properties.setProperty("default.api.timeout.ms", str(int(timeout * 1000)))
        try:
            admin = kafka_class("clients.admin.AdminClient").create(properties)
            try:
                yield admin
            finally:
                admin.close(jvm.java.time.Duration.ofSeconds(1))
        except Py4JJavaError as error:
            raise Refused(error) from None
