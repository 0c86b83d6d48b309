"""The sums of examples/orders.py in Flink's SQL, for comparison: orders_sql.py BOOTSTRAP_SERVERS TOPIC OUTPUT."""

import sys

from kafka_job.flink.connector import connector_jars

from pyflink.table import EnvironmentSettings, TableEnvironment

ORDERS = """
CREATE TABLE orders (customer STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH (
  'connector' = 'kafka', 'properties.bootstrap.servers' = '{servers}', 'topic' = '{topic}',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')
"""
SUMS = """
CREATE TABLE sums (`window` STRING, customer STRING, orders BIGINT, total DOUBLE, greatest DOUBLE) WITH (
  'connector' = 'filesystem', 'path' = '{output}', 'format' = 'csv', 'csv.field-delimiter' = '\\t')
"""
QUERY = """
INSERT INTO sums
SELECT DATE_FORMAT(window_start, 'yyyy-MM-dd''T''HH:mm:ss''Z'''), customer, COUNT(*), SUM(amount), MAX(amount)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, customer
"""


def main() -> None:
    servers, topic, output = sys.argv[1:]
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    settings = {
        "pipeline.jars": ";".join(jar.as_uri() for jar in connector_jars()),
        "parallelism.default": "1",
        "table.local-time-zone": "UTC",
        "pipeline.object-reuse": "true",
        "table.optimizer.agg-phase-strategy": "TWO_PHASE",
    }
    for key, value in settings.items():
        tables.get_config().set(key, value)
    tables.execute_sql(ORDERS.format(servers=servers, topic=topic))
    tables.execute_sql(SUMS.format(output=output))
    tables.execute_sql(QUERY).wait()


if __name__ == "__main__":
    main()
