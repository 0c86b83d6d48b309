import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The same word count by hand: one loop, no Flink, no checkpoint. A crash loses all; it is the limit of this machine.
 *
 * <pre>ByHand BOOTSTRAP_SERVERS TOPIC OUTPUT</pre>
 */
public class ByHand {
    static final long WINDOW = 5_000; // milliseconds

    /** Counts of words, which stay bytes: a hash table with open addressing. */
    static class Counts {
        byte[][] words = new byte[1 << 12][];
        int[] hashes = new int[words.length];
        long[] values = new long[words.length];
        int size;

        void add(byte[] line, int from, int to, int hash) {
            int place = hash & words.length - 1;
            while (words[place] != null) {
                byte[] word = words[place];
                if (hashes[place] == hash && java.util.Arrays.equals(word, 0, word.length, line, from, to)) {
                    values[place]++;
                    return;
                }
                place = place + 1 & words.length - 1;
            }
            put(java.util.Arrays.copyOfRange(line, from, to), hash, 1);
            if (size * 2 > words.length) {
                grow();
            }
        }

        private void put(byte[] word, int hash, long value) {
            int place = hash & words.length - 1;
            while (words[place] != null) {
                place = place + 1 & words.length - 1;
            }
            words[place] = word;
            hashes[place] = hash;
            values[place] = value;
            size++;
        }

        private void grow() {
            byte[][] oldWords = words;
            int[] oldHashes = hashes;
            long[] oldValues = values;
            words = new byte[oldWords.length * 2][];
            hashes = new int[words.length];
            values = new long[words.length];
            size = 0;
            for (int i = 0; i < oldWords.length; i++) {
                if (oldWords[i] != null) {
                    put(oldWords[i], oldHashes[i], oldValues[i]);
                }
            }
        }
    }

    static void count(byte[] line, Counts counts) {
        int from = 0;
        int hash = 0;
        for (int i = 0; i <= line.length; i++) {
            if (i < line.length && line[i] != ' ') {
                hash = hash * 31 + line[i];
                continue;
            }
            if (i > from) {
                counts.add(line, from, i, hash ^ hash >>> 15);
            }
            from = i + 1;
            hash = 0;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("max.poll.records", "100000");
        properties.put("fetch.max.bytes", "52428800");
        properties.put("max.partition.fetch.bytes", "16777216");
        TreeMap<Long, Counts> windows = new TreeMap<>();
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            TopicPartition partition = new TopicPartition(arguments[1], 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<byte[], byte[]> line : consumer.poll(Duration.ofSeconds(1))) {
                    long window = Math.floorDiv(line.timestamp(), WINDOW) * WINDOW;
                    count(line.value(), windows.computeIfAbsent(window, start -> new Counts()));
                }
            }
        }
        Path folder = Files.createDirectories(Path.of(arguments[2]));
        try (BufferedWriter rows = Files.newBufferedWriter(folder.resolve("counts"), StandardCharsets.UTF_8)) {
            for (Map.Entry<Long, Counts> window : windows.entrySet()) {
                Counts counts = window.getValue();
                String start = Instant.ofEpochMilli(window.getKey()).toString();
                for (int i = 0; i < counts.words.length; i++) {
                    if (counts.words[i] != null) {
                        String word = new String(counts.words[i], StandardCharsets.UTF_8);
                        rows.write(start + "\t" + word + "\t" + counts.values[i] + "\n");
                    }
                }
            }
        }
    }
}
