"""The wall: all that leans on what Flink, PyFlink or the Kafka connector do not promise; each module says on what.

Nothing outside of it touches Flink's insides: a test refuses that. At an upgrade run tests/test_seams.py first.
"""
