package kafka_job;

import java.io.IOException;
import java.util.TreeMap;
import org.apache.flink.api.common.operators.ProcessingTimeService.ProcessingTimeCallback;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;

/**
 * Hands records on in batches, each of one partition: for Python a tuple of the partition, and a list of pieces.
 *
 * <p>A piece is a pickled list of values, and one of the rest, which costs little where nobody reads it. It fits the
 * processor's cache, with all that Python makes of it.
 *
 * <p>It has no state: a batch waits a fifth of a second, and goes on before each checkpoint.
 */
public class BatchRecords extends AbstractStreamOperator implements OneInputStreamOperator, ProcessingTimeCallback {
    private static final long PAUSE = 200; // milliseconds
    private transient TreeMap batches; // partition -> Batch
    private transient int size; // bytes

    public void open() throws Exception {
        super.open();
        batches = new TreeMap();
        wake();
    }

    private void wake() {
        getProcessingTimeService().registerTimer(getProcessingTimeService().getCurrentProcessingTime() + PAUSE, this);
    }

    public void onProcessingTime(long timestamp) throws IOException {
        flush();
        wake();
    }

    public void processElement(StreamRecord record) throws Exception {
        Tuple3 parts = (Tuple3) record.getValue();
        byte[] value = (byte[]) parts.f1;
        byte[] rest = (byte[]) parts.f2;
        if (value.length == 0) {
            output.collect(BatchLines.NULL_VALUES, new StreamRecord(Long.valueOf(1)));
            return;
        }
        Batch batch = (Batch) batches.get(parts.f0);
        if (batch == null) {
            batch = new Batch(((Integer) parts.f0).intValue());
            batches.put(parts.f0, batch);
        }
        batch.add(value, rest);
        size += value.length + rest.length;
        if (size > BatchLines.LIMIT) {
            flush();
        }
    }

    private void flush() throws IOException {
        for (Object batch : batches.values()) {
            output.collect(new StreamRecord(((Batch) batch).take()));
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

    public void prepareSnapshotPreBarrier(long checkpointId) throws IOException {
        flush();
    }

    public void finish() throws IOException {
        flush();
    }

    private static class Batch {
        private final Pickle batch = new Pickle();
        private final Pickle values = new Pickle();
        private final Pickle rests = new Pickle();

        Batch(int partition) throws IOException {
            batch.write(Pickle.MARK);
            batch.put(partition);
            batch.list();
        }

        void add(byte[] value, byte[] rest) throws IOException {
            if (values.length() == 0) {
                values.list();
                rests.list();
            }
            values.write(value);
            rests.write(rest);
            if (values.length() > Pickle.FITS_CACHE) {
                endPiece();
            }
        }

        private void endPiece() throws IOException {
            batch.write(Pickle.MARK);
            for (Pickle list : new Pickle[] {values, rests}) {
                list.write(Pickle.APPENDS);
                list.write(Pickle.STOP);
                batch.put(list.take());
            }
            batch.write(Pickle.TUPLE);
        }

        byte[] take() throws IOException {
            if (values.length() > 0) {
                endPiece();
            }
            batch.write(Pickle.APPENDS);
            batch.write(Pickle.TUPLE);
            batch.write(Pickle.STOP);
            return batch.take();
        }
    }
}
