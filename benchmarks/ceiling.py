"""The source of word_count.py alone: what Flink's Kafka connector delivers when nobody counts. The same flags."""

import argparse

from kafka_job import JobParser, Plan, run

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from word_count import SETTINGS, read_lines


def build(environment: StreamExecutionEnvironment, options: argparse.Namespace, plan: Plan) -> None:
    """Source, and a sink that throws all away."""
    lines = read_lines(environment, options, plan)
    sinks = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2
    lines._j_data_stream.sinkTo(sinks.DiscardingSink())


if __name__ == "__main__":
    run("ceiling", build, JobParser("Read a Kafka topic, and count nothing.").parse_args(), SETTINGS, state="none")
