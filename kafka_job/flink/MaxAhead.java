package kafka_job;

import org.apache.flink.api.common.eventtime.*;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.util.OutputTag;

/**
 * Watermarks as of another strategy, which a record with a wrong clock does not move.
 *
 * <p>One record of the year 3000 would close all windows, and all that follows would be late.
 */
public class MaxAhead implements WatermarkStrategy {
    private static final long LAST = 253402300799999L; // of the year 9999: no window begins later, none can be written
    private final WatermarkStrategy strategy;
    private final long milliseconds; // that a record may be ahead of the wall clock; 0: no limit

    public MaxAhead(WatermarkStrategy strategy, long milliseconds) {
        this.strategy = strategy;
        this.milliseconds = milliseconds;
    }

    boolean isExceededBy(long timestamp) {
        return timestamp > (milliseconds > 0 ? System.currentTimeMillis() + milliseconds : LAST);
    }

    public WatermarkGenerator createWatermarkGenerator(WatermarkGeneratorSupplier.Context context) {
        final WatermarkGenerator generator = strategy.createWatermarkGenerator(context);
        return new WatermarkGenerator() {
            public void onEvent(Object event, long timestamp, WatermarkOutput output) {
                if (!isExceededBy(timestamp)) {
                    generator.onEvent(event, timestamp, output);
                }
            }

            public void onPeriodicEmit(WatermarkOutput output) {
                generator.onPeriodicEmit(output);
            }
        };
    }

    /** Leaves such records out; for each of them a 1 goes to a side output. */
    public static class Filter extends AbstractStreamOperator implements OneInputStreamOperator {
        private static final OutputTag TOO_FAR_AHEAD = new OutputTag("tooFarAhead", BasicTypeInfo.LONG_TYPE_INFO);
        private final MaxAhead maxAhead;

        public Filter(MaxAhead maxAhead) {
            this.maxAhead = maxAhead;
        }

        public void processElement(StreamRecord record) {
            if (maxAhead.isExceededBy(record.getTimestamp())) {
                output.collect(TOO_FAR_AHEAD, new StreamRecord(Long.valueOf(1)));
            } else {
                output.collect(record);
            }
        }
    }
}
