"""In the place of Apache Beam, with which PyFlink talks to Python processes.

Where Python runs inside Flink's JVM there are none. PyFlink then does without Beam, and starts 1 to 2 seconds sooner.
"""

raise ImportError("Beam is left out; see kafka_job/flink/gateway.py")
