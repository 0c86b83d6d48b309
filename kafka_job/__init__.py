"""What any Flink job needs that reads a Kafka topic; it knows nothing of what the job computes.

A script parses its command line with JobParser, builds its pipeline in a function that is given a Plan, and hands both
to `run`. What is behind them, one trade a module:

  what a user says, and whether it can be done
    options.py         the flags that every job has
    kafka_config.py    TLS, passwords and other properties, from a file (--kafka-config)
    clients.py         the two clients that talk to a broker: kafka-python, and Flink's in Java
    refusals.py        why a broker does not let us in
    checks.py          what is wrong with a set-up, one sentence each

  where to read, and what to go on from
    offsets.py         where to start and where to end: the Plan
    checkpoints.py     find them, read them, and go on from them

  running
    run.py             check a set-up, then run the job: on a cluster, or here
    job.py             the pipeline, and what travels with it
    local_run.py       a Flink of our own: start it, stop it in good order
    live.py            a table of the newest rows on the screen
    cluster.py         hand a job to the cluster of 'flink run'
    application.py     a cluster that runs the script by itself, as on Kubernetes
    rest.py            questions to Flink's REST API
    failures.py        why a job has failed

  parts of a pipeline
    batches.py         lines in batches for Python (BatchLines.java)
    watermarks.py      a watermark that survives a restart (KeepWatermark.java)
    report.py          what was not counted (Tally.java)
    sql.py             from lines to SQL, and back
    java_operators.py  how the Java operators become part of a job
"""

import sys
from importlib.util import find_spec

# Most often the environment is not active. This says so before a stack trace does.
if not (3, 10) <= sys.version_info[:2] <= (3, 12) or not find_spec("pyflink"):
    sys.exit(f"No PyFlink in {sys.executable}; it needs Python 3.10 to 3.12: make test, then source .venv/bin/activate")

from kafka_job.batches import batch_lines, line_schema
from kafka_job.kafka_config import set_properties
from kafka_job.offsets import Plan
from kafka_job.options import JobParser, positive
from kafka_job.report import report
from kafka_job.run import run
from kafka_job.sql import query, tables_with_lines
from kafka_job.watermarks import keep_watermark

__all__ = [
    "JobParser",
    "Plan",
    "batch_lines",
    "keep_watermark",
    "line_schema",
    "positive",
    "query",
    "report",
    "run",
    "set_properties",
    "tables_with_lines",
]
