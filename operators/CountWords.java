import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.metrics.Counter;
import org.apache.flink.streaming.api.graph.StreamConfig;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.Output;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.tasks.ProcessingTimeService;
import org.apache.flink.streaming.runtime.tasks.StreamTask;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Splits lines as split_line in word_count.py does, and hands on the words of each window counted so far: rows (null,
 * word, count). What is not counted goes on as a row (name of a report, null, count), and is a metric of that name.
 *
 * <p>It has no state, as BatchLines has none.
 */
public class CountWords extends AbstractStreamOperator implements OneInputStreamOperator {
    private final long window; // milliseconds
    private final int limit; // how many different words of all windows wait at most
    private final TreeMap windows = new TreeMap(); // last millisecond of a window -> word -> count
    private final HashMap reports = new HashMap(); // name -> count, not handed on yet
    private final HashMap metrics = new HashMap(); // name -> counter
    private long watermark = Long.MIN_VALUE;
    private int size;

    public CountWords(
            Object[] references, StreamTask task, StreamConfig config, Output output, ProcessingTimeService time)
            throws Exception {
        window = ((Number) references[0]).longValue();
        limit = ((Number) references[1]).intValue();
        setup(task, config, output);
    }

    public void open() throws Exception {
        super.open();
        String[] names = {"lateWords", "nullValues", "invalidLines"};
        for (int i = 0; i < names.length; i++) {
            metrics.put(names[i], getMetricGroup().counter(names[i]));
        }
    }

    public void processElement(StreamRecord record) throws Exception {
        RowData row = (RowData) record.getValue();
        if (row.isNullAt(0)) {
            report("nullValues");
            return;
        }
        byte[] line = row.getBinary(0);
        String text = new String(line, StandardCharsets.UTF_8);
        if (text.indexOf('\uFFFD') >= 0 && !isUtf8(line)) {
            report("invalidLines");
            text = replaceInvalid(line);
        }
        Long end = Long.valueOf((Math.floorDiv(record.getTimestamp(), window) + 1) * window - 1);
        HashMap counts = (HashMap) windows.get(end);
        boolean late = end.longValue() <= watermark;
        if (counts == null && !late) {
            counts = new HashMap();
            windows.put(end, counts);
        }
        int length = text.length();
        int position = 0;
        while (true) {
            while (position < length && isSpace(text.charAt(position))) {
                position++;
            }
            if (position == length) {
                break;
            }
            int start = position;
            while (position < length && !isSpace(text.charAt(position))) {
                position++;
            }
            if (late) {
                report("lateWords");
            } else {
                add(counts, text.substring(start, position));
            }
        }
        if (size > limit) {
            flush(Long.MAX_VALUE);
        }
    }

    private void add(HashMap counts, String word) {
        long[] count = (long[]) counts.get(word);
        if (count == null) {
            counts.put(word, new long[] {1});
            size++;
        } else {
            count[0]++;
        }
    }

    private void report(String name) {
        Long before = (Long) reports.get(name);
        reports.put(name, Long.valueOf(before == null ? 1 : before.longValue() + 1));
        ((Counter) metrics.get(name)).inc();
    }

    /** What Python's str.split() takes for white space, and the two byte-order marks. */
    private static boolean isSpace(char c) {
        if (c <= ' ') {
            return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
        }
        return c >= 0x85
                && (c == 0x85
                        || c == 0xA0
                        || c == 0x1680
                        || (c >= 0x2000 && c <= 0x200A)
                        || c == 0x2028
                        || c == 0x2029
                        || c == 0x202F
                        || c == 0x205F
                        || c == 0x3000
                        || c == 0xFEFF
                        || c == 0xFFFE);
    }

    private static boolean isUtf8(byte[] line) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line));
            return true;
        } catch (CharacterCodingException error) {
            return false;
        }
    }

    /**
     * Decodes UTF-8 with U+FFFD for what is invalid, as many times as Python and the Unicode standard have it (section
     * 3.9, maximal subparts). Java has fewer for encoded surrogates.
     */
    private static String replaceInvalid(byte[] line) {
        StringBuilder text = new StringBuilder();
        int position = 0;
        while (position < line.length) {
            int first = line[position++] & 0xFF;
            int more = first < 0x80 ? 0 : first < 0xC2 ? -1 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : first < 0xF5 ? 3 : -1;
            int low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80; // of the second byte
            int high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
            int point = more <= 0 ? first : first & (0x3F >> more);
            while (more > 0 && position < line.length) {
                int next = line[position] & 0xFF;
                if (next < low || next > high) {
                    break;
                }
                point = point << 6 | next & 0x3F;
                low = 0x80;
                high = 0xBF;
                position++;
                more--;
            }
            text.appendCodePoint(more == 0 ? point : 0xFFFD);
        }
        return text.toString();
    }

    /** Hands on the counts of the windows that end before or at a time, and all reports. */
    private void flush(long time) {
        while (!windows.isEmpty() && ((Long) windows.firstKey()).longValue() <= time) {
            long end = ((Long) windows.firstKey()).longValue();
            HashMap counts = (HashMap) windows.remove(windows.firstKey());
            size -= counts.size();
            for (Iterator words = counts.entrySet().iterator(); words.hasNext(); ) {
                Map.Entry word = (Map.Entry) words.next();
                emit(null, (String) word.getKey(), ((long[]) word.getValue())[0], end);
            }
        }
        for (Iterator names = reports.entrySet().iterator(); names.hasNext(); ) {
            Map.Entry name = (Map.Entry) names.next();
            emit((String) name.getKey(), null, ((Long) name.getValue()).longValue(), 0);
        }
        reports.clear();
    }

    private void emit(String report, String word, long count, long timestamp) {
        GenericRowData row = new GenericRowData(3);
        row.setField(0, BinaryStringData.fromString(report));
        row.setField(1, BinaryStringData.fromString(word));
        row.setField(2, Long.valueOf(count));
        output.collect(new StreamRecord(row, timestamp));
    }

    public void processWatermark(Watermark mark) throws Exception {
        flush(mark.getTimestamp());
        watermark = mark.getTimestamp();
        super.processWatermark(mark);
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
