"""The entry point of the stand-in for Redpanda: Kafka with the listeners that the arguments name."""

import re
import sys
from pathlib import Path

from broker import Broker, end_on_signals, free_port, running

# Properties that come later in the file win over those of the plain broker.
LISTENERS = """
controller.quorum.voters=1@localhost:{controller}
listeners={listening},CONTROLLER://localhost:{controller}
advertised.listeners={advertised}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
inter.broker.listener.name=internal
"""


class TwoListeners(Broker):
    """A broker whose first listener is for containers, and whose second one is for the machine that they run on."""

    def properties(self) -> str:
        given = dict(re.findall(r"--([\w-]*kafka-addr) (\S+)", " ".join(sys.argv)))
        names = [address.partition(":")[0] for address in given["kafka-addr"].split(",")]
        return super().properties() + LISTENERS.format(
            controller=free_port(),
            listening=given["kafka-addr"],
            advertised=given["advertise-kafka-addr"],
            protocols=",".join(f"{name}:PLAINTEXT" for name in names),
        )


if __name__ == "__main__":
    end_on_signals()
    with running(TwoListeners(Path("/var/lib/redpanda/data"), 9092)) as broker:
        print("Kafka is up", flush=True)
        broker.wait()
