package kafka_job;

import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.api.common.eventtime.*;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.types.Row;

/**
 * Gives each part the time that Python has read in its records, and lets the source know how far each partition is.
 *
 * <p>So the watermarks are the source's, one for each partition, with all that Flink does for them: it waits for a
 * partition that has said nothing yet, and leaves out an idle one.
 */
public class EventTime extends AbstractStreamOperator implements OneInputStreamOperator {
    /** Of each task that runs in this JVM, by partition: the newest time that was read. */
    private static final Map NEWEST = new ConcurrentHashMap();

    private transient Map newest;

    static String task(org.apache.flink.metrics.MetricGroup metrics) {
        return (String) metrics.getAllVariables().get("<task_attempt_id>");
    }

    public void open() throws Exception {
        super.open();
        newest = new ConcurrentHashMap();
        NEWEST.put(task(getMetricGroup()), newest);
    }

    public void close() throws Exception {
        NEWEST.remove(task(getMetricGroup()));
        super.close();
    }

    /** A row of a key and a part: (shard, ..., time), or (-1 - partition, ..., newest time). */
    public void processElement(StreamRecord record) {
        Tuple3 part = (Tuple3) ((Row) record.getValue()).getField(1);
        int number = ((Integer) part.f0).intValue();
        long time = ((Long) part.f2).longValue();
        if (number >= 0) {
            output.collect(record.replace(record.getValue(), time));
            return;
        }
        Integer partition = Integer.valueOf(-1 - number);
        Long before = (Long) newest.get(partition);
        if (before == null || before.longValue() < time) {
            newest.put(partition, part.f2);
        }
    }

    /** Watermarks of one partition: the newest time that was read, less a delay in milliseconds. */
    public static class Watermarks implements WatermarkStrategy {
        private final long delay;

        public Watermarks(long delay) {
            this.delay = delay;
        }

        public WatermarkGenerator createWatermarkGenerator(WatermarkGeneratorSupplier.Context context) {
            Map newest = (Map) NEWEST.get(task(context.getMetricGroup()));
            if (newest == null) {
                throw new IllegalStateException("From the source to EventTime all steps must be one chain, in one task");
            }
            return new Generator(newest, delay);
        }
    }

    private static class Generator implements WatermarkGenerator {
        private final Map newest;
        private final long delay;
        private Object partition;

        Generator(Map newest, long delay) {
            this.newest = newest;
            this.delay = delay;
        }

        public void onEvent(Object record, long timestamp, WatermarkOutput output) {
            partition = ((Tuple3) record).f0;
        }

        public void onPeriodicEmit(WatermarkOutput output) {
            Long time = partition == null ? null : (Long) newest.get(partition);
            if (time != null) {
                output.emitWatermark(new Watermark(time.longValue() - delay - 1));
            }
        }
    }
}
