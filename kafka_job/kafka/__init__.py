"""Kafka, for a job that is about to start: how to reach it, what is wrong with it, and the offsets of a topic."""
