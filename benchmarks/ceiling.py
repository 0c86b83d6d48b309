"""The source of word_count.py alone: what Flink's Kafka connector delivers when nobody counts. The same flags."""

from kafka_job import JobOptions, Plan, read_lines, run
from kafka_job.flink.connector import java_class

from pyflink.datastream import StreamExecutionEnvironment


def build(environment: StreamExecutionEnvironment, options: JobOptions, plan: Plan) -> None:
    """Source, and a sink that throws all away."""
    lines = read_lines(environment, options, plan)
    sink = java_class("org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink")
    lines._j_data_stream.sinkTo(sink())


if __name__ == "__main__":
    run("ceiling", build, JobOptions.parse("Read a Kafka topic, and count nothing."), state="none")
