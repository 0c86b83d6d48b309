package kafka_job;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.*;
import java.util.*;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.OutputTag;

/**
 * Hands lines on in batches: those of one window, for Python as a list of bytes, with a line feed after each line.
 *
 * <p>Each of these bytes fits the processor's cache, with all that Python makes of it.
 *
 * <p>It has no state: a batch goes on before each checkpoint, and before a watermark that closes its window, so no
 * line is lost, and none is late that would not be late by itself. Flink's SQL batches in the same way.
 *
 * <p>A null value is not a line. For each of them, and for each line that is not UTF-8, a 1 goes to a side output.
 */
public class BatchLines extends AbstractStreamOperator implements OneInputStreamOperator {
    static final int LIMIT = 8000000; // bytes, of all batches together: so many wait for the end of their window
    static final OutputTag NULL_VALUES = new OutputTag("nullValues", BasicTypeInfo.LONG_TYPE_INFO);
    private static final OutputTag INVALID_LINES = new OutputTag("invalidLines", BasicTypeInfo.LONG_TYPE_INFO);
    private final long window; // milliseconds
    private transient TreeMap batches; // last millisecond of a window -> Batch
    private transient CharsetDecoder decoder;
    private transient int size; // bytes

    public BatchLines(long window) {
        this.window = window;
    }

    public void open() throws Exception {
        super.open();
        batches = new TreeMap();
        decoder = StandardCharsets.UTF_8.newDecoder();
    }

    public void processElement(StreamRecord record) throws Exception {
        RowData row = (RowData) record.getValue();
        if (row.isNullAt(0)) {
            output.collect(NULL_VALUES, new StreamRecord(Long.valueOf(1)));
            return;
        }
        byte[] line = row.getBinary(0);
        if (!isUtf8(line)) {
            output.collect(INVALID_LINES, new StreamRecord(Long.valueOf(1)));
        }
        Long end = Long.valueOf((Math.floorDiv(record.getTimestamp(), window) + 1) * window - 1);
        Batch batch = (Batch) batches.get(end);
        if (batch == null) {
            batch = new Batch();
            batches.put(end, batch);
            size += 300; // about what Java adds
        }
        batch.add(line);
        size += line.length + 1;
        if (size > LIMIT) {
            flush(Long.MAX_VALUE);
        }
    }

    private boolean isUtf8(byte[] line) {
        int ascii = 0;
        while (ascii < line.length && line[ascii] >= 0) {
            ascii++;
        }
        try {
            decoder.decode(ByteBuffer.wrap(line, ascii, line.length - ascii));
            return true;
        } catch (CharacterCodingException invalid) {
            return false;
        }
    }

    /** Hands on the batches of the windows that end before or at a time. */
    private void flush(long time) throws IOException {
        while (!batches.isEmpty() && ((Long) batches.firstKey()).longValue() <= time) {
            Map.Entry first = batches.pollFirstEntry();
            output.collect(new StreamRecord(((Batch) first.getValue()).take(), ((Long) first.getKey()).longValue()));
        }
        if (batches.isEmpty()) {
            size = 0; // until then it is too high, which does no harm
        }
    }

    public void processWatermark(Watermark watermark) throws Exception {
        flush(watermark.getTimestamp());
        super.processWatermark(watermark);
    }

    public void processWatermarkStatus(WatermarkStatus status) throws Exception {
        flush(Long.MAX_VALUE); // without us, others decide how far event time has come
        super.processWatermarkStatus(status);
    }

    public void prepareSnapshotPreBarrier(long checkpointId) throws Exception {
        flush(Long.MAX_VALUE);
    }

    public void finish() throws Exception {
        flush(Long.MAX_VALUE);
    }

    private static class Batch {
        private final Pickle list = new Pickle();
        private final Pickle lines = new Pickle();

        Batch() throws IOException {
            list.list();
        }

        void add(byte[] line) throws IOException {
            lines.write(line);
            lines.write('\n');
            if (lines.length() > Pickle.FITS_CACHE) {
                list.put(lines.take());
            }
        }

        byte[] take() throws IOException {
            if (lines.length() > 0) {
                list.put(lines.take());
            }
            list.write(Pickle.APPENDS);
            list.write(Pickle.STOP);
            return list.take();
        }
    }
}
