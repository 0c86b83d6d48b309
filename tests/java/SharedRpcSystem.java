import java.lang.reflect.*;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.rpc.*;
import org.apache.flink.runtime.rpc.pekko.PekkoRpcSystemLoader;

/**
 * How the parts of a Flink talk to each other, loaded once for all Flinks of a JVM; each would load it anew from a jar
 * of 21 MB, which is a third of what a small job costs. For engine.py.
 */
public class SharedRpcSystem implements RpcSystemLoader, InvocationHandler {
    private static RpcSystem shared;

    public int getLoadPriority() {
        return Integer.MIN_VALUE; // before Flink's own
    }

    public synchronized RpcSystem loadRpcSystem(Configuration configuration) {
        if (shared == null) {
            shared = new PekkoRpcSystemLoader().loadRpcSystem(configuration);
        }
        Class[] type = {RpcSystem.class};
        return (RpcSystem) Proxy.newProxyInstance(RpcSystem.class.getClassLoader(), type, this);
    }

    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
        return method.getName().equals("close") ? null : method.invoke(shared, arguments);
    }
}
