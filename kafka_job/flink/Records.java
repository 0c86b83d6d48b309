package kafka_job;

import java.io.IOException;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.*;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.api.java.typeutils.TupleTypeInfo;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.util.Collector;

/**
 * A record of Kafka as its partition, and twice as bytes that Python's pickle reads: the value; and the rest, as (key,
 * headers, offset, timestamp). No bytes: its value is null.
 */
public class Records implements KafkaRecordDeserializationSchema {
    private transient Pickle value;
    private transient Pickle rest;

    public void open(DeserializationSchema.InitializationContext context) {
        value = new Pickle();
        rest = new Pickle();
    }

    public void deserialize(ConsumerRecord record, Collector out) throws IOException {
        if (record.value() != null) {
            value.put((byte[]) record.value());
            rest.write(Pickle.MARK);
            rest.put((byte[]) record.key());
            rest.write(Pickle.MARK);
            for (Header header : record.headers().toArray()) {
                rest.write(Pickle.MARK);
                rest.put(header.key());
                rest.put(header.value());
                rest.write(Pickle.TUPLE);
            }
            rest.write(Pickle.TUPLE);
            rest.put(record.offset());
            rest.put(record.timestamp());
            rest.write(Pickle.TUPLE);
        }
        out.collect(Tuple3.of(Integer.valueOf(record.partition()), value.take(), rest.take()));
    }

    public TypeInformation getProducedType() {
        TypeInformation bytes = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
        return new TupleTypeInfo(new TypeInformation[] {BasicTypeInfo.INT_TYPE_INFO, bytes, bytes});
    }
}
