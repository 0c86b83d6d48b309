import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Sends lines of ten words at a steady rate, with the time of now; prints how many each window has got.
 *
 * <pre>Pace LINES_A_SECOND SECONDS BOOTSTRAP_SERVERS TOPIC</pre>
 */
public class Pace {
    static final long WINDOW = 5_000; // milliseconds

    public static void main(String[] arguments) throws Exception {
        long rate = Long.parseLong(arguments[0]);
        long lines = rate * Long.parseLong(arguments[1]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[2]);
        properties.put("linger.ms", "5");
        properties.put("batch.size", "262144");
        SplittableRandom random = new SplittableRandom(1);
        TreeMap<Long, Long> windows = new TreeMap<>();
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, bytes, bytes)) {
            long start = System.nanoTime();
            for (long number = 0; number < lines; number++) {
                while (System.nanoTime() - start < number * 1_000_000_000 / rate) {
                    Thread.sleep(1);
                }
                StringBuilder line = new StringBuilder();
                for (int word = 0; word < 10; word++) {
                    line.append("word").append(random.nextInt(1000)).append(' ');
                }
                long now = System.currentTimeMillis();
                byte[] value = line.toString().getBytes(StandardCharsets.UTF_8);
                producer.send(new ProducerRecord<>(arguments[3], 0, now, null, value));
                windows.merge(now / WINDOW * WINDOW, 1L, Long::sum);
            }
        }
        windows.forEach((window, count) -> System.out.println(window + "\t" + count));
    }
}
