"""What any Flink job needs that reads a Kafka topic; it knows nothing of what the job computes.

A script says its flags as a kind of JobOptions, builds its pipeline in a function that is given a Plan, and hands both
to `run`. Of the packages each imports only those that stand below it:

    execution/   run a job: on a Flink of our own, or on the cluster of `flink run`; live.py shows a table meanwhile
    resume/      go on: the folder of checkpoints, and the plan of a run that is made from it
    pipeline/    parts that scripts put together: source, batches, watermarks, windows, counts, report, rows, SQL
    kafka/       how to reach a broker, what is wrong with it, what it knows of a topic and a group
    flink/       the wall: all that leans on what Flink does not promise
    options.py, terminal.py   the flags that every job has; what is said at the screen
"""

import signal
import sys
from importlib.util import find_spec
from threading import current_thread, main_thread

# Most often the environment is not active. This says so before a stack trace does.
if not (3, 10) <= sys.version_info[:2] <= (3, 12) or not find_spec("pyflink"):
    sys.exit(f"No PyFlink in {sys.executable}; it needs Python 3.10 to 3.12: make, then source .venv/bin/activate")

# The imports take half a second, in which Ctrl-C would end with a stack trace.
if ctrl_c_raises := current_thread() is main_thread() and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from kafka_job.execution.entry import run
from kafka_job.execution.local import Stop
from kafka_job.flink.operators import query
from kafka_job.options import JobOptions, ToTopic, WithRejected
from kafka_job.pipeline.parts import SHARDS, Part
from kafka_job.pipeline.records import JsonFields, Record, milliseconds, read_records, write_rejected
from kafka_job.pipeline.sinks import Message, message, write_messages, write_rows
from kafka_job.pipeline.source import Plan, read_lines
from kafka_job.pipeline.steps import batch_lines, keep_watermark, report, report_late, tables_with_lines
from kafka_job.pipeline.windows import aggregate, count_rows, count_values, session, sliding, split, tumbling
from kafka_job.terminal import utc

if ctrl_c_raises:
    signal.signal(signal.SIGINT, signal.default_int_handler)
