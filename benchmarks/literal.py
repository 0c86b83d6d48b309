"""The word count as PyFlink's tutorials write it, with PyFlink's default settings: what everything is compared with.

    python benchmarks/literal.py BOOTSTRAP_SERVERS TOPIC OUTPUT

Only what the comparison needs is added: the end of the topic as the end of the job, checkpoints (else no file is ever
visible), one subtask, and a row that names its window.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runner

from pyflink.common import Configuration, Time, Types, WatermarkStrategy
from pyflink.common.serialization import Encoder, SimpleStringSchema
from pyflink.datastream import ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, RollingPolicy
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource
from pyflink.datastream.window import TumblingEventTimeWindows


class FormatRows(ProcessWindowFunction):
    def process(
        self, word: str, context: ProcessWindowFunction.Context, pairs: Iterable[tuple[str, int]]
    ) -> Iterator[str]:
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(context.window().start // 1000))
        for _, count in pairs:
            yield f"{start}\t{word}\t{count}"


def main() -> None:
    servers, topic, output = sys.argv[1:]
    os.environ["JAVA_HOME"] = runner.find_java()
    configuration = Configuration()
    settings = {"execution.checkpointing.interval": "3 s", "parallelism.default": "1"}
    for key, value in (settings | {"python.executable": sys.executable, "rest.port": "0"}).items():
        configuration.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.add_jars(runner.find_connector().as_uri())
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(servers)
        .set_topics(topic)
        .set_group_id(f"literal-{topic}")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_bounded(KafkaOffsetsInitializer.latest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    rows = (
        environment.from_source(source, WatermarkStrategy.for_monotonous_timestamps(), "Kafka")
        .flat_map(lambda line: line.split(), output_type=Types.STRING())
        .map(lambda word: (word, 1), output_type=Types.TUPLE([Types.STRING(), Types.LONG()]))
        .key_by(lambda pair: pair[0], key_type=Types.STRING())
        .window(TumblingEventTimeWindows.of(Time.seconds(5)))
        .reduce(lambda left, right: (left[0], left[1] + right[1]), FormatRows(), output_type=Types.STRING())
    )
    sink = (
        FileSink.for_row_format(output, Encoder.simple_string_encoder("UTF-8"))
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    rows.sink_to(sink)
    environment.execute("literal word count")


if __name__ == "__main__":
    main()
