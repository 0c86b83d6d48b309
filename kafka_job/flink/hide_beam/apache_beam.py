"""In the place of Apache Beam, with which PyFlink talks to Python processes; see kafka_job/flink/gateway.py.

Python inside the JVM looks for it when it starts, so this is where it learns that warnings of functions are for the
screen, too; all that they log is in Flink's log.
"""

import logging

SCREEN = "screen"
if SCREEN not in {handler.name for handler in logging.getLogger().handlers}:  # each look runs this file
    screen = logging.StreamHandler()
    screen.name = SCREEN
    screen.setLevel(logging.WARNING)
    logging.getLogger().addHandler(screen)

raise ImportError("Beam is left out; see kafka_job/flink/gateway.py")
