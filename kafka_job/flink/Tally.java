package kafka_job;

import java.util.Collections;
import org.apache.flink.api.common.state.*;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.runtime.state.*;
import org.apache.flink.streaming.api.operators.*;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Adds up numbers: a metric while the job runs, a line on stderr when it ends, and if need be one at the first of them.
 *
 * <p>The sum is state, so it is as exact after a crash as what the job has counted. Each subtask has a sum of its own.
 */
public class Tally extends AbstractStreamOperator implements OneInputStreamOperator, Gauge {
    private final String metric;
    private final String sentence;
    private final boolean atOnce;
    private transient ListState state;
    private transient long sum;
    private transient boolean said;

    public Tally(String metric, String sentence, boolean atOnce) {
        this.metric = metric;
        this.sentence = sentence;
        this.atOnce = atOnce;
    }

    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        ListStateDescriptor descriptor = new ListStateDescriptor("sum", BasicTypeInfo.LONG_TYPE_INFO);
        state = context.getOperatorStateStore().getListState(descriptor);
        // Two where there were two subtasks, and now there is one.
        for (Object one : (Iterable) state.get()) {
            sum += ((Long) one).longValue();
        }
        getMetricGroup().gauge(metric, this);
    }

    public Object getValue() {
        return Long.valueOf(sum);
    }

    public void processElement(StreamRecord record) {
        sum += ((Number) record.getValue()).longValue();
        if (atOnce && !said && sum > 0) {
            System.err.println(sentence + ": " + sum + " so far");
            said = true;
        }
    }

    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        state.update(Collections.singletonList(Long.valueOf(sum)));
    }

    public void finish() {
        if (sum > 0) {
            System.err.println(sentence + ": " + sum);
        }
        sum = 0; // said: a run that goes on from here begins anew
    }
}
