"""interim"""

import sys

from kafka_job.kafka.broker import Broker, Refused


def check_kafka(broker: Broker, topic: str, right: str = "READ") -> None:
    try:
        with broker.admin(3) as admin:
            admin.describeTopics([topic]).allTopicNames().get()
    except Refused as e:
        sys.exit(f"There is no topic {topic} on {broker.bootstrap_servers} {e}")
