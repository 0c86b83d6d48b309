package kafka_job;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.core.memory.DataOutputSerializer;

/** Writes values for Python's pickle, see pickletools.py there: it reads them faster than Python code could. */
class Pickle extends DataOutputSerializer {
    static final int FITS_CACHE = 200000; // bytes
    static final int MARK = '(', TUPLE = 't', EMPTY_LIST = ']', APPENDS = 'e', STOP = '.'; // as they are called there

    Pickle() {
        super(64); // bytes, to begin with
    }

    void put(byte[] value) throws IOException {
        if (value == null) {
            write('N');
        } else {
            putBytes('B', value);
        }
    }

    void put(String text) throws IOException {
        putBytes('X', text.getBytes(StandardCharsets.UTF_8));
    }

    private void putBytes(int code, byte[] bytes) throws IOException {
        write(code);
        writeInt(Integer.reverseBytes(bytes.length)); // in Python's pickle the lowest byte comes first
        write(bytes);
    }

    void put(int number) throws IOException {
        write('J');
        writeInt(Integer.reverseBytes(number));
    }

    void put(long number) throws IOException {
        write(0x8a);
        write(8); // bytes
        writeLong(Long.reverseBytes(number));
    }

    void list() throws IOException {
        write(EMPTY_LIST);
        write(MARK);
    }

    /** What was written since the last call. */
    byte[] take() {
        byte[] taken = getCopyOfBuffer();
        clear();
        return taken;
    }
}
