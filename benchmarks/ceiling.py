"""The job's source alone: what Flink's Kafka connector delivers when nobody counts.

python benchmarks/ceiling.py BOOTSTRAP_SERVERS TOPIC
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runner
import word_count

from pyflink.java_gateway import get_gateway


def main() -> None:
    servers, topic = sys.argv[1:]
    arguments = argparse.Namespace(
        bootstrap_servers=servers, topic=topic, group_id=f"ceiling-{topic}", start="earliest", bounded=True
    )
    plan = runner.make_plan(arguments, runner.prepare_local_run(word_count.SETTINGS), None)
    environment = word_count.create_environment(plan.settings)
    environment.add_jars(runner.find_connector().as_uri())
    source = word_count.kafka_source(topic, servers, arguments.group_id, plan)
    lines = environment.from_source(source, word_count.watermarks(0, 0), "Kafka")
    sinks = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2
    lines._j_data_stream.sinkTo(sinks.DiscardingSink())
    environment.execute("ceiling")


if __name__ == "__main__":
    main()
