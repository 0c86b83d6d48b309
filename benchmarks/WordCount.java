import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.StringTokenizer;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The same word count as a Java DataStream job, for comparison: WordCount BOOTSTRAP_SERVERS TOPIC OUTPUT. */
public class WordCount {
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

    public static class FormatRows implements WindowFunction<Tuple2<String, Long>, String, String, TimeWindow> {
        @Override
        public void apply(
                String word, TimeWindow window, Iterable<Tuple2<String, Long>> pairs, Collector<String> out) {
            for (Tuple2<String, Long> pair : pairs) {
                out.collect(Instant.ofEpochMilli(window.getStart()) + "\t" + word + "\t" + pair.f1);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("execution.checkpointing.interval", "3 s");
        configuration.setString("parallelism.default", "1");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("rest.port", "0");
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        KafkaSource<String> source =
                KafkaSource.<String>builder()
                        .setBootstrapServers(arguments[0])
                        .setTopics(arguments[1])
                        .setGroupId("java-" + arguments[1])
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setBounded(OffsetsInitializer.latest())
                        .setValueOnlyDeserializer(new Line())
                        .build();
        environment
                .fromSource(source, WatermarkStrategy.forMonotonousTimestamps(), "Kafka")
                .flatMap(new Split())
                .returns(Types.TUPLE(Types.STRING, Types.LONG))
                .keyBy(pair -> pair.f0)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(5)))
                .reduce((left, right) -> Tuple2.of(left.f0, left.f1 + right.f1), new FormatRows())
                .sinkTo(
                        FileSink.forRowFormat(new Path(arguments[2]), new SimpleStringEncoder<String>("UTF-8"))
                                .withRollingPolicy(OnCheckpointRollingPolicy.build())
                                .build());
        environment.execute("Java word count");
    }
}
