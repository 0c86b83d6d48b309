package kafka_job;

import java.util.*;
import org.apache.flink.api.common.operators.ProcessingTimeService.ProcessingTimeCallback;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.util.OutputTag;

/**
 * Hands records on in batches, each of one partition: for Python a tuple of the partition, a list of values, and a pickle
 * of a list of the rest, which costs little where nobody reads it.
 *
 * <p>It has no state: a batch waits a fifth of a second, and goes on before each checkpoint.
 */
public class BatchRecords extends AbstractStreamOperator implements OneInputStreamOperator, ProcessingTimeCallback {
    private static final long PAUSE = 200; // milliseconds
    private final int limit; // bytes, of all batches together
    private final OutputTag nullValues;
    private transient TreeMap batches; // partition -> two Pickles: values, and the rest
    private transient int size; // bytes

    public BatchRecords(int limit, OutputTag nullValues) {
        this.limit = limit;
        this.nullValues = nullValues;
    }

    public void open() throws Exception {
        super.open();
        batches = new TreeMap();
        wake();
    }

    private void wake() {
        getProcessingTimeService().registerTimer(getProcessingTimeService().getCurrentProcessingTime() + PAUSE, this);
    }

    public void onProcessingTime(long timestamp) {
        flush();
        wake();
    }

    public void processElement(StreamRecord record) throws Exception {
        Tuple3 parts = (Tuple3) record.getValue();
        byte[] value = (byte[]) parts.f1;
        byte[] rest = (byte[]) parts.f2;
        if (value.length == 0) {
            output.collect(nullValues, new StreamRecord(Long.valueOf(1)));
            return;
        }
        Pickle[] batch = (Pickle[]) batches.get(parts.f0);
        if (batch == null) {
            batch = new Pickle[] {new Pickle(), new Pickle()};
            batches.put(parts.f0, batch);
            batch[0].mark();
            batch[0].put(((Integer) parts.f0).intValue());
            batch[0].list();
            batch[1].list();
        }
        batch[0].add(value);
        batch[1].add(rest);
        size += value.length + rest.length;
        if (size > limit) {
            flush();
        }
    }

    private void flush() {
        for (Object pair : batches.values()) {
            Pickle[] batch = (Pickle[]) pair;
            batch[1].endList();
            batch[1].stop();
            batch[0].endList();
            batch[0].put(batch[1].take());
            batch[0].endTuple();
            batch[0].stop();
            output.collect(new StreamRecord(batch[0].take()));
        }
        batches.clear();
        size = 0;
    }

    public void processWatermark(Watermark watermark) throws Exception {
        flush(); // the last one closes all windows
        super.processWatermark(watermark);
    }

    public void processWatermarkStatus(WatermarkStatus status) throws Exception {
        flush();
        super.processWatermarkStatus(status);
    }

    public void prepareSnapshotPreBarrier(long checkpointId) {
        flush();
    }

    public void finish() {
        flush();
    }
}
