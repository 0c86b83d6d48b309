import java.util.ArrayList;
import java.util.TreeMap;
import org.apache.flink.streaming.api.graph.StreamConfig;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Output;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.tasks.ProcessingTimeService;
import org.apache.flink.streaming.runtime.tasks.StreamTask;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.table.data.RowData;

/**
 * Hands lines on in batches: the lines of one window, as byte[][], null for a null value.
 *
 * <p>It has no state: a batch goes on before each checkpoint, and before a watermark that closes its window, so no
 * line is lost, and none is late that would not be late by itself. Flink's SQL batches in the same way.
 */
public class BatchLines extends AbstractStreamOperator implements OneInputStreamOperator {
    private final long window; // milliseconds
    private final int limit; // bytes, of all batches together
    private final TreeMap batches = new TreeMap(); // last millisecond of a window -> its lines
    private int size; // bytes

    public BatchLines(
            Object[] references, StreamTask task, StreamConfig config, Output output, ProcessingTimeService time)
            throws Exception {
        window = ((Number) references[0]).longValue();
        limit = ((Number) references[1]).intValue();
        setup(task, config, output);
    }

    public void processElement(StreamRecord record) throws Exception {
        RowData row = (RowData) record.getValue();
        byte[] line = row.isNullAt(0) ? null : row.getBinary(0);
        Long end = Long.valueOf((Math.floorDiv(record.getTimestamp(), window) + 1) * window - 1);
        ArrayList lines = (ArrayList) batches.get(end);
        if (lines == null) {
            lines = new ArrayList();
            batches.put(end, lines);
        }
        lines.add(line);
        size += 32 + (line == null ? 0 : line.length); // 32: about what Java adds
        if (size > limit) {
            flush(Long.MAX_VALUE);
        }
    }

    /** Hands on the batches of the windows that end before or at a time. */
    private void flush(long time) {
        while (!batches.isEmpty() && ((Long) batches.firstKey()).longValue() <= time) {
            long end = ((Long) batches.firstKey()).longValue();
            ArrayList lines = (ArrayList) batches.remove(batches.firstKey());
            output.collect(new StreamRecord(lines.toArray(new byte[0][]), end));
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
}
