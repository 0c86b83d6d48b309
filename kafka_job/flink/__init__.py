"""The wall: all that leans on what Flink, PyFlink or the Kafka connector do not promise; see tests/test_seams.py."""
