"""In the place of Apache Beam, with which PyFlink talks to Python processes; see kafka_job/flink/gateway.py.

Python inside the JVM looks for it when it starts, so this is where it learns what else is for the screen: warnings of
functions, and what an exception was raised from, which pemja does not tell Java. All that they log is in Flink's log.
"""

import logging
import math
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

SCREEN = "screen"
if SCREEN not in {handler.name for handler in logging.getLogger().handlers}:  # each look runs this file
    screen = logging.StreamHandler()
    screen.name = SCREEN
    screen.setLevel(logging.WARNING)
    logging.getLogger().addHandler(screen)

    # As it will be without Beam: what is imported here asks for it.
    sys.modules["pyflink.fn_execution"].PYFLINK_CYTHON_ENABLED = False
    from pyflink.fn_execution.embedded.operations import FunctionOperation

    output_elements = FunctionOperation._output_elements
    logged: dict[str, float] = {}  # when; the job is tried again

    def output(operation: FunctionOperation, elements: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from output_elements(operation, elements)
        except Exception as error:
            before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
            text = before and "".join(traceback.format_exception(before)).removesuffix("\n")
            if text and time.monotonic() > logged.get(text, -math.inf) + 10:
                logged[text] = time.monotonic()
                logging.getLogger(__name__).warning("What a %s was raised from:\n%s", type(error).__name__, text)
            raise

    FunctionOperation._output_elements = output

raise ImportError("Beam is left out; see kafka_job/flink/gateway.py")
