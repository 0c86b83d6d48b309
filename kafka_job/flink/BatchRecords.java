package kafka_job;

import java.io.ByteArrayOutputStream;
import java.util.*;
import org.apache.flink.api.common.operators.ProcessingTimeService.ProcessingTimeCallback;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.util.OutputTag;

/**
 * Hands records on in batches, each of one partition: for Python a tuple of the partition and a list of its records.
 *
 * <p>It has no state: a batch waits a fifth of a second, and goes on before each checkpoint.
 */
public class BatchRecords extends AbstractStreamOperator implements OneInputStreamOperator, ProcessingTimeCallback {
    private static final long PAUSE = 200; // milliseconds
    private final int limit; // bytes, of all batches together
    private final OutputTag nullValues;
    private transient TreeMap batches; // partition -> pickled records
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
        Tuple2 pair = (Tuple2) record.getValue();
        byte[] pickled = (byte[]) pair.f1;
        if (pickled.length == 0) {
            output.collect(nullValues, new StreamRecord(Long.valueOf(1)));
            return;
        }
        ByteArrayOutputStream batch = (ByteArrayOutputStream) batches.get(pair.f0);
        if (batch == null) {
            batch = new ByteArrayOutputStream();
            batches.put(pair.f0, batch);
            Pickle start = new Pickle();
            start.mark();
            start.put(((Integer) pair.f0).intValue());
            start.list();
            start.mark();
            batch.writeBytes(start.take());
        }
        batch.write(pickled, 0, pickled.length);
        size += pickled.length;
        if (size > limit) {
            flush();
        }
    }

    private void flush() {
        for (Object batch : batches.values()) {
            Pickle end = new Pickle();
            end.endList();
            end.endTuple();
            end.stop();
            ((ByteArrayOutputStream) batch).writeBytes(end.take());
            output.collect(new StreamRecord(((ByteArrayOutputStream) batch).toByteArray()));
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
