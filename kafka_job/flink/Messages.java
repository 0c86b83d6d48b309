package kafka_job;

import java.util.*;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.types.Row;

/**
 * A row (key, value, names of headers, values of headers, timestamp) as a record for a topic.
 *
 * <p>Where the row has no timestamp, the record has that of the stream: of a result the last millisecond of its window. A
 * window that a stop has closed may end later than now: then it is now, since brokers refuse what is of the future.
 */
public class Messages implements KafkaRecordSerializationSchema {
    private final String topic;

    public Messages(String topic) {
        this.topic = topic;
    }

    public ProducerRecord serialize(Object element, KafkaSinkContext context, Long timestamp) {
        Row row = (Row) element;
        Long own = (Long) row.getField(4);
        if (own == null && timestamp != null) {
            own = Long.valueOf(Math.min(timestamp.longValue(), System.currentTimeMillis()));
        }
        Long valid = own == null || own.longValue() < 0 ? null : own; // null: the time of writing
        ProducerRecord record = new ProducerRecord(topic, null, valid, row.getField(0), row.getField(1));
        Object[] names = (Object[]) row.getField(2);
        Object[] values = (Object[]) row.getField(3);
        for (int i = 0; i < names.length; i++) {
            record.headers().add((String) names[i], (byte[]) values[i]);
        }
        return record;
    }
}
