package kafka_job;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/** Writes values for Python's pickle, see pickletools.py there: it reads them faster than Python code could. */
class Pickle {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

    void put(byte[] value) {
        if (value == null) {
            bytes.write('N');
            return;
        }
        bytes.write('B');
        putNumber(value.length, 4);
        bytes.write(value, 0, value.length);
    }

    void put(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        bytes.write('X');
        putNumber(utf8.length, 4);
        bytes.write(utf8, 0, utf8.length);
    }

    void put(int number) {
        bytes.write('J');
        putNumber(number, 4);
    }

    void put(long number) {
        bytes.write(0x8a);
        bytes.write(8);
        putNumber(number, 8);
    }

    private void putNumber(long number, int size) {
        for (int i = 0; i < size; i++) {
            bytes.write((int) (number >> 8 * i));
        }
    }

    void mark() {
        bytes.write('(');
    }

    void endTuple() {
        bytes.write('t');
    }

    void list() {
        bytes.write(']');
    }

    void endList() {
        bytes.write('e');
    }

    void stop() {
        bytes.write('.');
    }

    /** What was written since the last call. */
    byte[] take() {
        byte[] taken = bytes.toByteArray();
        bytes.reset();
        return taken;
    }
}
