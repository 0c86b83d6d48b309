"""Running a job: on a Flink of our own, or on the cluster of `flink run`."""
