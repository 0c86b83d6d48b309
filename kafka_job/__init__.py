"""What any Flink job needs that reads a Kafka topic; it knows nothing of what the job computes.

A script parses its command line with JobParser, builds its pipeline in a function that is given a Plan, and hands both
to `run`. The rest is under the bonnet:

    options.py    the flags that every job has          checks.py       what is wrong with a set-up, in a sentence
    run.py        check, then run, here or on a cluster  local_run.py    a Flink of our own: start, Ctrl-C, drain
    offsets.py    where to start, where to end           checkpoints.py  find, lock, read, and go on from
    batches.py    lines in batches for Python            report.py       what was not counted
    job.py        the pipeline, and what travels with it failures.py     why a job has failed
    java_operators.py, BatchLines.java, Tally.java: the two operators behind batches.py and report.py
"""

import sys
from importlib.util import find_spec

if not (3, 10) <= sys.version_info[:2] <= (3, 12) or not find_spec("pyflink"):
    sys.exit(f"No PyFlink in {sys.executable}; it needs Python 3.10 to 3.12: make test, then source .venv/bin/activate")

from kafka_job.batches import batch_lines, line_schema
from kafka_job.offsets import Plan
from kafka_job.options import JobParser, positive
from kafka_job.report import report
from kafka_job.run import run

__all__ = ["JobParser", "Plan", "batch_lines", "line_schema", "positive", "report", "run"]
