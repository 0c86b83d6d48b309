"""word_count.py up to one of its steps, and nothing behind it: where its time goes. The same flags, and --up-to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from kafka_job import JobOptions, Plan, batch_lines, read_lines, run
from kafka_job.flink.connector import java_class

from pyflink.datastream import DataStream, StreamExecutionEnvironment

from word_count import SETTINGS, count_words, split

WINDOW = 5  # seconds
SOURCE, BATCHES = "source alone", "batches"
IN_PYTHON: dict[str, Callable[[list[bytes]], Any]] = {  # what is done with a batch there
    "the way to Python": len,
    "split": lambda batch: [len(split(lines)) for lines in batch],
    "Counter": count_words,
}
STEPS = (SOURCE, BATCHES, *IN_PYTHON)


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The command line."""

    up_to: Annotated[str, "the last step, one of STEPS"] = SOURCE


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """The steps, and a sink that throws all away."""
    stream: DataStream = read_lines(environment, options, plan)
    if options.up_to != SOURCE:
        stream = batch_lines(stream, WINDOW)
    if function := IN_PYTHON.get(options.up_to):
        stream = stream.map(function).filter(lambda result: False)
    sink = java_class("org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink")
    stream._j_data_stream.sinkTo(sink())


if __name__ == "__main__":
    run("part", build, Options.parse("Count words up to some step."), state="none", settings=SETTINGS)
