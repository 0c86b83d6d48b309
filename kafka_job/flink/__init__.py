"""The wall: all that leans on what Flink, PyFlink or the Kafka connector do not promise stands in this package.

Each module says in its first lines what it leans on, and tests/test_seams.py asserts that it is there. At an upgrade of
Flink run that test first. Nothing outside of this package touches Flink's insides; a test refuses it.
"""
