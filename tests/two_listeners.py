"""The embedded broker with the two listeners that Redpanda has in docker-compose.yml.

    PYTHONPATH=tools python tests/two_listeners.py ADVERTISED HOST

ADVERTISED is what Redpanda's --advertise-kafka-addr says. The first listener is for containers, which share the
broker's network, and find it on localhost. The second one listens on the address HOST, which leads to this network
from another one.
"""

import sys
from pathlib import Path

from broker import Broker, data_folder, end_on_signals, free_port, running

# Properties that come later in the file win over those of the plain broker.
PROPERTIES = """
controller.quorum.voters=1@localhost:{controller_port}
listeners=internal://localhost:{internal},external://{host}:{external},CONTROLLER://localhost:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map=internal:PLAINTEXT,external:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=internal
"""


class TwoListeners(Broker):
    def __init__(self, folder: Path, advertised: str, host: str) -> None:
        ports = {address.partition(":")[0]: int(address.rpartition(":")[2]) for address in advertised.split(",")}
        super().__init__(folder, ports["internal"])
        self.doors = PROPERTIES.format(controller_port=free_port(), advertised=advertised, host=host, **ports)

    def properties(self) -> str:
        return super().properties() + self.doors

    def answers(self) -> bool:
        """Nobody can ask from here, where neither of the advertised addresses is right."""
        return True


if __name__ == "__main__":
    end_on_signals()
    with data_folder(None) as data, running(TwoListeners(data, *sys.argv[1:])) as broker:
        broker.wait()
