package kafka_job;

import java.util.*;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.types.Row;

/**
 * A row (key, value, names of headers, values of headers, timestamp) as a record for a topic.
 *
 * <p>Where the row has no timestamp, the record has that of the stream: of a result the last millisecond of its window.
 * What is of the future, as the end of a window that a stop has closed, is now: brokers would refuse it.
 */
public class Messages implements KafkaRecordSerializationSchema {
    private final String topic;

    public Messages(String topic) {
        this.topic = topic;
    }

    public ProducerRecord serialize(Object element, KafkaSinkContext context, Long timestamp) {
        Row row = (Row) element;
        Long own = row.getField(4) == null ? timestamp : (Long) row.getField(4);
        boolean valid = own != null && own.longValue() >= 0 && own.longValue() <= System.currentTimeMillis();
        ProducerRecord record = new ProducerRecord(topic, null, valid ? own : null, row.getField(0), row.getField(1));
        Object[] names = (Object[]) row.getField(2);
        Object[] values = (Object[]) row.getField(3);
        for (int i = 0; i < names.length; i++) {
            record.headers().add((String) names[i], (byte[]) values[i]);
        }
        return record;
    }
}
