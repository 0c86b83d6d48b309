package kafka_job;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Writes values for Python's pickle, see pickletools.py there: it reads them faster than Python code could. */
class Pickle {
    static final int FITS_CACHE = 200000; // bytes
    private byte[] bytes = new byte[64];
    private int size;

    private void makeRoom(int more) {
        if (size + more > bytes.length) {
            bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, size + more));
        }
    }

    int size() {
        return size;
    }

    void write(char code) {
        makeRoom(1);
        bytes[size++] = (byte) code;
    }

    private void putNumber(long number, int length) {
        makeRoom(length);
        for (int i = 0; i < length; i++) {
            bytes[size++] = (byte) (number >> 8 * i);
        }
    }

    /** A value that was pickled before. */
    void add(byte[] pickled) {
        makeRoom(pickled.length);
        System.arraycopy(pickled, 0, bytes, size, pickled.length);
        size += pickled.length;
    }

    void put(byte[] value) {
        if (value == null) {
            write('N');
        } else {
            write('B');
            putNumber(value.length, 4);
            add(value);
        }
    }

    void put(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        write('X');
        putNumber(utf8.length, 4);
        add(utf8);
    }

    void put(int number) {
        write('J');
        putNumber(number, 4);
    }

    void put(long number) {
        putNumber(0x088a, 2); // a number of eight bytes
        putNumber(number, 8);
    }

    void mark() {
        write('(');
    }

    void endTuple() {
        write('t');
    }

    void list() {
        write(']');
        mark();
    }

    void endList() {
        write('e');
    }

    void stop() {
        write('.');
    }

    /** What was written since the last call. */
    byte[] take() {
        byte[] taken = Arrays.copyOf(bytes, size);
        size = 0;
        return taken;
    }
}
