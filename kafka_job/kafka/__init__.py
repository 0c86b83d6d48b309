"""Kafka: how to reach a broker, what is wrong with it, and what it knows of a topic and a group."""
