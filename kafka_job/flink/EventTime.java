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
    /** Of each task that runs in this JVM, by partition: the newest time that was read, and how often something was. */
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
        long[] before = (long[]) newest.get(partition);
        long[] first = {time, 1};
        newest.put(partition, before == null ? first : new long[] {Math.max(before[0], time), before[1] + 1});
    }

    /**
     * Watermarks of one partition: the newest time that was read, less a delay.
     *
     * <p>Idle is also one whose records cannot be read, for so long: else it would hold all windows back.
     */
    public static class Watermarks implements WatermarkStrategy {
        private final long delay; // milliseconds
        private final long idleTimeout; // milliseconds; 0: never

        public Watermarks(long delay, long idleTimeout) {
            this.delay = delay;
            this.idleTimeout = idleTimeout;
        }

        public WatermarkGenerator createWatermarkGenerator(WatermarkGeneratorSupplier.Context context) {
            Map newest = (Map) NEWEST.get(task(context.getMetricGroup()));
            if (newest == null) {
                throw new IllegalStateException("All steps from the source to EventTime must be one chain");
            }
            return new Generator(newest);
        }

        private class Generator implements WatermarkGenerator {
            private final Map newest;
            private Object partition;
            private long read; // how often something was read
            private long since; // nanoseconds: when a record came, after which nothing was read yet; 0: none has come

            Generator(Map newest) {
                this.newest = newest;
            }

            public void onEvent(Object record, long timestamp, WatermarkOutput output) {
                partition = ((Tuple3) record).f0;
                if (since == 0) {
                    since = System.nanoTime();
                }
            }

            public void onPeriodicEmit(WatermarkOutput output) {
                long[] found = partition == null ? null : (long[]) newest.get(partition);
                if (found != null && found[1] > read) {
                    read = found[1];
                    since = 0;
                }
                if (idleTimeout > 0 && since != 0 && (System.nanoTime() - since) / 1000000 > idleTimeout) {
                    output.markIdle();
                } else if (found != null) {
                    output.emitWatermark(new Watermark(found[0] - delay - 1));
                }
            }
        }
    }
}
