import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringTokenizer;
import java.util.TreeMap;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.util.Collector;

/**
 * The same word count as a Java DataStream job, for comparison.
 *
 * <pre>WordCount BOOTSTRAP_SERVERS TOPIC OUTPUT CHECKPOINTS [pre-aggregate] [follow]</pre>
 *
 * <p>With pre-aggregate it counts in front of keyBy, as the Python job does: what remains between the two is the
 * language. Where the Python job does more (null values, late words), this one does not. With follow it has no end.
 */
public class WordCount {
    static final long WINDOW = 5_000; // milliseconds

    /** A line as a String; the benchmark's lines are ASCII words with spaces between them. */
    public static class Line extends AbstractDeserializationSchema<String> {
        @Override
        public String deserialize(byte[] value) {
            return new String(value, StandardCharsets.UTF_8);
        }
    }

    public static class Split implements FlatMapFunction<String, Tuple2<String, Long>> {
        @Override
        public void flatMap(String line, Collector<Tuple2<String, Long>> out) {
            StringTokenizer words = new StringTokenizer(line);
            while (words.hasMoreTokens()) {
                out.collect(Tuple2.of(words.nextToken(), 1L));
            }
        }
    }

    /**
     * Counts the words of a window until a checkpoint, a watermark that closes the window, or the end.
     *
     * <p>It splits lines itself: a tuple for each word, as Split makes it, would only cost time.
     */
    public static class PreAggregate extends AbstractStreamOperator<Tuple2<String, Long>>
            implements OneInputStreamOperator<String, Tuple2<String, Long>> {
        static final int LIMIT = 200_000; // different words, of all windows together

        static class Count {
            long value;
        }

        private transient TreeMap<Long, HashMap<String, Count>> windows; // last millisecond of a window -> its words
        private transient int size;

        @Override
        public void open() throws Exception {
            super.open();
            windows = new TreeMap<>();
        }

        @Override
        public void processElement(StreamRecord<String> line) {
            long end = (Math.floorDiv(line.getTimestamp(), WINDOW) + 1) * WINDOW - 1;
            HashMap<String, Count> counts = windows.computeIfAbsent(end, key -> new HashMap<>());
            int before = counts.size();
            StringTokenizer words = new StringTokenizer(line.getValue());
            while (words.hasMoreTokens()) {
                counts.computeIfAbsent(words.nextToken(), key -> new Count()).value++;
            }
            size += counts.size() - before;
            if (size > LIMIT) {
                flush(Long.MAX_VALUE);
            }
        }

        /** Hands on the counts of the windows that end before or at a time. */
        private void flush(long time) {
            while (!windows.isEmpty() && windows.firstKey() <= time) {
                Map.Entry<Long, HashMap<String, Count>> window = windows.pollFirstEntry();
                size -= window.getValue().size();
                window.getValue().forEach((word, count) ->
                        output.collect(new StreamRecord<>(Tuple2.of(word, count.value), window.getKey())));
            }
        }

        @Override
        public void processWatermark(Watermark watermark) throws Exception {
            flush(watermark.getTimestamp());
            super.processWatermark(watermark);
        }

        @Override
        public void processWatermarkStatus(WatermarkStatus status) throws Exception {
            flush(Long.MAX_VALUE);
            super.processWatermarkStatus(status);
        }

        @Override
        public void prepareSnapshotPreBarrier(long checkpointId) {
            flush(Long.MAX_VALUE);
        }

        @Override
        public void finish() {
            flush(Long.MAX_VALUE);
        }
    }

    public static class FormatRows implements WindowFunction<Tuple2<String, Long>, String, String, TimeWindow> {
        @Override
        public void apply(
                String word, TimeWindow window, Iterable<Tuple2<String, Long>> pairs, Collector<String> out) {
            for (Tuple2<String, Long> pair : pairs) {
                out.collect(Instant.ofEpochMilli(window.getStart()) + "\t" + word + "\t" + pair.f1);
            }
        }
    }

    /** The settings of the Python job; checkpoints in files, since in memory Flink keeps no more than 5 MB of state. */
    static Configuration settings(String checkpoints) {
        Configuration configuration = new Configuration();
        configuration.setString("execution.checkpointing.interval", "3 s");
        configuration.setString("execution.checkpointing.dir", "file://" + checkpoints);
        configuration.setString("parallelism.default", "1");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("restart-strategy.type", "none");
        configuration.setString("rest.port", "0");
        return configuration;
    }

    static KafkaSource<String> source(String servers, String topic, boolean follow) {
        KafkaSourceBuilder<String> source = KafkaSource.<String>builder()
                .setBootstrapServers(servers)
                .setTopics(topic)
                .setGroupId("java-" + topic)
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new Line());
        return (follow ? source : source.setBounded(OffsetsInitializer.latest())).build();
    }

    public static void main(String[] arguments) throws Exception {
        boolean preAggregate = List.of(arguments).contains("pre-aggregate");
        boolean follow = List.of(arguments).contains("follow");
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.getExecutionEnvironment(settings(arguments[3]));
        SingleOutputStreamOperator<String> lines =
                environment.fromSource(
                        source(arguments[0], arguments[1], follow), WatermarkStrategy.forMonotonousTimestamps(), "Kafka");
        SingleOutputStreamOperator<Tuple2<String, Long>> counts =
                preAggregate
                        ? lines.transform("pre-aggregate", Types.TUPLE(Types.STRING, Types.LONG), new PreAggregate())
                        : lines.flatMap(new Split()).returns(Types.TUPLE(Types.STRING, Types.LONG));
        counts.keyBy(pair -> pair.f0)
                .window(TumblingEventTimeWindows.of(Duration.ofMillis(WINDOW)))
                .reduce((left, right) -> Tuple2.of(left.f0, left.f1 + right.f1), new FormatRows())
                .sinkTo(
                        FileSink.forRowFormat(new Path(arguments[2]), new SimpleStringEncoder<String>("UTF-8"))
                                .withRollingPolicy(OnCheckpointRollingPolicy.build())
                                .build());
        environment.execute("Java word count");
    }
}
