"""In the place of Apache Beam, with which PyFlink talks to Python processes; see kafka_job/flink/gateway.py."""

raise ImportError("Beam is left out; see kafka_job/flink/gateway.py")
