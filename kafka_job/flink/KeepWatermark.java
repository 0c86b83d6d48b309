import java.util.Collections;
import java.util.Iterator;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.graph.StreamConfig;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Output;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.tasks.ProcessingTimeService;
import org.apache.flink.streaming.runtime.tasks.StreamTask;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;

/**
 * Hands all records on, and keeps two promises about the watermark that Flink does not keep.
 *
 * <p>It is in state. Flink forgets it, so after a restart a late record would open a window that was written already.
 *
 * <p>Its end is never lost. Where a job is drained, the last watermark closes all windows; Flink 2.2 drops it where the
 * source is idle at that moment (FLINK-40499).
 *
 * <p>Flink's compiler, Janino, wants raw types; the arguments of the constructor are those that Flink passes.
 */
public class KeepWatermark extends AbstractStreamOperator implements OneInputStreamOperator {
    private ListState state;
    private long latest = Long.MIN_VALUE;

    public KeepWatermark(
            Object[] references, StreamTask task, StreamConfig config, Output output, ProcessingTimeService time)
            throws Exception {
        setup(task, config, output);
    }

    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        // The least of all subtasks: a key may come from any of them where their number has changed.
        ListStateDescriptor descriptor = new ListStateDescriptor("watermark", BasicTypeInfo.LONG_TYPE_INFO);
        state = context.getOperatorStateStore().getUnionListState(descriptor);
        Iterator watermarks = ((Iterable) state.get()).iterator();
        if (watermarks.hasNext()) {
            latest = Long.MAX_VALUE;
        }
        while (watermarks.hasNext()) {
            latest = Math.min(latest, ((Long) watermarks.next()).longValue());
        }
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
