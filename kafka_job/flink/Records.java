package kafka_job;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.*;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.typeutils.TupleTypeInfo;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.util.Collector;

/**
 * A record of Kafka as its partition, and bytes that Python's pickle reads: the value, or a tuple of all that there is of
 * it. No bytes: its value is null.
 */
public class Records implements KafkaRecordDeserializationSchema {
    private final boolean all;
    private transient Pickle pickle;

    public Records(boolean all) {
        this.all = all;
    }

    public void deserialize(ConsumerRecord record, Collector out) throws IOException {
        byte[] value = (byte[]) record.value();
        if (pickle == null) {
            pickle = new Pickle();
        }
        if (value != null) {
            if (all) {
                pickle.mark();
            }
            pickle.put(value);
            if (all) {
                pickle.put((byte[]) record.key());
                pickle.list();
                pickle.mark();
                for (Header header : record.headers().toArray()) {
                    pickle.mark();
                    pickle.put(header.key());
                    pickle.put(header.value());
                    pickle.endTuple();
                }
                pickle.endList();
                pickle.put(record.partition());
                pickle.put(record.offset());
                pickle.put(record.timestamp());
                pickle.endTuple();
            }
        }
        out.collect(Tuple2.of(Integer.valueOf(record.partition()), pickle.take()));
    }

    public TypeInformation getProducedType() {
        return new TupleTypeInfo(
                new TypeInformation[] {
                    BasicTypeInfo.INT_TYPE_INFO, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO
                });
    }
}
