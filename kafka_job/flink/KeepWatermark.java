package kafka_job;

import java.util.Collections;
import org.apache.flink.api.common.state.*;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.runtime.state.*;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;

/**
 * Hands all records on, and keeps two promises about the watermark that Flink does not keep.
 *
 * <p>It is in state. Flink forgets it, so after a restart a late record would open a window that was written already.
 *
 * <p>Its end is never lost. Where a job is drained, the last watermark closes all windows; Flink 2.2 drops it where the
 * source is idle at that moment (FLINK-40499).
 */
public class KeepWatermark extends AbstractStreamOperator implements OneInputStreamOperator {
    private transient ListState state;
    private transient long latest;

    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        // The least of all subtasks: a key may come from any of them where their number has changed.
        ListStateDescriptor descriptor = new ListStateDescriptor("watermark", BasicTypeInfo.LONG_TYPE_INFO);
        state = context.getOperatorStateStore().getUnionListState(descriptor);
        long least = Long.MAX_VALUE;
        for (Object watermark : (Iterable) state.get()) {
            least = Math.min(least, ((Long) watermark).longValue());
        }
        latest = least < Long.MAX_VALUE ? least : Long.MIN_VALUE; // no state has the end of time, see processWatermark
    }

    public void open() throws Exception {
        super.open();
        if (latest > Long.MIN_VALUE) {
            output.emitWatermark(new Watermark(latest));
        }
    }

    public void processElement(StreamRecord record) {
        output.collect(record);
    }

    public void processWatermark(Watermark watermark) throws Exception {
        // After a restart the source begins anew: where a late record comes first, its watermark goes back.
        if (watermark.getTimestamp() < latest) {
            return;
        }
        // The end of time is no time: more records may come in a run that goes on from here.
        if (watermark.getTimestamp() < Long.MAX_VALUE) {
            latest = watermark.getTimestamp();
        }
        super.processWatermark(watermark);
    }

    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        state.update(Collections.singletonList(Long.valueOf(latest)));
    }

    public void finish() {
        output.emitWatermarkStatus(WatermarkStatus.ACTIVE);
        output.emitWatermark(Watermark.MAX_WATERMARK);
    }
}
