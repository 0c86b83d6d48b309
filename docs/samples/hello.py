from kafka import KafkaAdminClient, KafkaProducer

KafkaAdminClient(bootstrap_servers="localhost:19092").create_topics(
    {"words": {"num_partitions": 1, "replication_factor": 1}}
)
KafkaProducer(bootstrap_servers="localhost:19092").send("words", b"hello world").get(10)
