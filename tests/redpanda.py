"""A stand-in for Redpanda: a proxy in front of the embedded broker that offers what Redpanda offers, and no more.

Redpanda has fewer Kafka APIs than Apache Kafka, and not their newest versions. A client asks with ApiVersions what
there is: the proxy takes out of the answer what Redpanda has not. Who asks for that still is refused: the connection is
closed.

As with Redpanda, a topic that is deleted and created again has no id that tells so: no test can ask for that here.
What the proxy cannot show: Redpanda may answer a request in a way of its own. Here all answers are Apache Kafka's.
"""

import asyncio
import contextlib
import re
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Iterator

from broker import embedded_broker, free_port

# From Redpanda's sources, src/v/kafka/server/handlers: the key of an API, its name, the versions. It has no others.
REDPANDA = """
0 Produce 0-7, 1 Fetch 4-11, 2 ListOffsets 0-4, 3 Metadata 0-8, 8 OffsetCommit 1-8, 9 OffsetFetch 1-7,
10 FindCoordinator 0-3, 11 JoinGroup 0-6, 12 Heartbeat 0-4, 13 LeaveGroup 0-4, 14 SyncGroup 0-4,
15 DescribeGroups 0-5, 16 ListGroups 0-4, 17 SaslHandshake 0-1, 18 ApiVersions 0-3, 19 CreateTopics 0-6,
20 DeleteTopics 0-5, 21 DeleteRecords 0-2, 22 InitProducerId 0-3, 23 OffsetForLeaderEpoch 0-4,
24 AddPartitionsToTxn 0-3, 25 AddOffsetsToTxn 0-1, 26 EndTxn 0-3, 28 TxnOffsetCommit 0-3, 29 DescribeAcls 0-2,
30 CreateAcls 0-2, 31 DeleteAcls 0-2, 32 DescribeConfigs 0-4, 33 AlterConfigs 0-2, 35 DescribeLogDirs 0-2,
36 SaslAuthenticate 0-2, 37 CreatePartitions 0-3, 42 DeleteGroups 0-2, 44 IncrementalAlterConfigs 0-1,
61 DescribeProducers 0-0, 65 DescribeTransactions 0-0, 66 ListTransactions 0-0
"""
OFFERED = {
    int(key): (name, int(first), int(last))
    for key, name, first, last in re.findall(r"(\d+) (\w+) (\d+)-(\d+)", REDPANDA)
}
API_VERSIONS = 18
UNSUPPORTED_VERSION = 35


def narrow(answer: bytes, version: int) -> bytes:
    """An answer to ApiVersions without what Redpanda has not.

    The layout: correlation id, error; an array of (key, first, last version); from version 1 on the throttle time. From
    version 3 on the array's length is a varint, and empty tags follow each of its items. The tags at the very end are
    the features of Apache Kafka, which are left out.
    """
    if version < 3:
        [length], start, item = struct.unpack_from(">i", answer, 6), 10, struct.Struct(">hhh")
    else:
        length, start = read_varint(answer, 6)
        length, item = length - 1, struct.Struct(">hhhx")  # x: no tags
    end = start + length * item.size
    kept = []
    for key, first, last in item.iter_unpack(answer[start:end]):
        _, offered_first, offered_last = OFFERED.get(key, ("", 0, -1))
        first, last = max(first, offered_first), min(last, offered_last)
        if first <= last:
            kept.append(item.pack(key, first, last))
    # The varint of a number below 128 is one byte; OFFERED has fewer.
    new_length = struct.pack(">i", len(kept)) if version < 3 else bytes([len(kept) + 1])
    throttle_time = answer[end : end + 4] if version > 0 else b""
    no_tags = b"\0" if version >= 3 else b""
    return answer[:6] + new_length + b"".join(kept) + throttle_time + no_tags


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, the lowest ones first; and where it ends."""
    value = 0
    for number, byte in enumerate(data[start:]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, start + number + 1
    raise ValueError("a varint is cut off")


async def read_frame(reader: StreamReader) -> bytes:
    """A request or an answer, without its length."""
    [length] = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def write_frame(writer: StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)


class Redpanda:
    """The proxy: an asyncio server on a free port of localhost."""

    def __init__(self, broker_port: int) -> None:
        self.broker_port = broker_port
        self.refused: list[str] = []  # what clients have asked for, though it was not offered to them: 'Metadata 13'
        self.port = 0

    @property
    def bootstrap_servers(self) -> str:
        return f"localhost:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections, and listen no more."""
        self.server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, from_client: StreamReader, to_client: StreamWriter) -> None:
        asked: dict[int, int] = {}  # correlation id of a request ApiVersions -> its version
        ends = (asyncio.CancelledError, OSError, EOFError)  # by `stop`, or by one of the two sides
        with contextlib.closing(to_client), contextlib.suppress(*ends):
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.broker_port)
            with contextlib.closing(to_broker):
                await asyncio.gather(
                    self._pass_requests(asked, from_client, to_broker, to_client),
                    self._pass_answers(asked, from_broker, to_client),
                )

    async def _pass_requests(
        self, asked: dict[int, int], from_client: StreamReader, to_broker: StreamWriter, to_client: StreamWriter
    ) -> None:
        while True:
            request = await read_frame(from_client)
            key, version, correlation_id = struct.unpack_from(">hhi", request)
            name, first, last = OFFERED.get(key, (f"API {key}", 0, -1))
            if key == API_VERSIONS and version > last:
                # The one request that may be too new: how else should a client know? The answer is one of version 0.
                answer = struct.pack(">ihihhh", correlation_id, UNSUPPORTED_VERSION, 1, API_VERSIONS, first, last)
                write_frame(to_client, answer)
                continue
            if not first <= version <= last:
                self.refused.append(f"{name} {version}")
                raise ConnectionRefusedError(self.refused[-1])
            if key == API_VERSIONS:
                asked[correlation_id] = version
            write_frame(to_broker, request)
            await to_broker.drain()

    async def _pass_answers(self, asked: dict[int, int], from_broker: StreamReader, to_client: StreamWriter) -> None:
        while True:
            answer = await read_frame(from_broker)
            [correlation_id] = struct.unpack_from(">i", answer)
            if correlation_id in asked:
                answer = narrow(answer, asked.pop(correlation_id))
            write_frame(to_client, answer)
            await to_client.drain()


@contextlib.contextmanager
def proxy_of(broker_port: int) -> Iterator[Redpanda]:
    """The proxy alone, in a thread of its own, in front of a broker that need not be up yet."""
    proxy = Redpanda(broker_port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="redpanda")

    def in_thread(coroutine: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    thread.start()
    try:
        in_thread(proxy.start())
        try:
            yield proxy
        finally:
            in_thread(proxy.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def redpanda() -> Iterator[Redpanda]:
    """A running broker that looks like Redpanda, and ends with the `with` block."""
    with proxy_of(free_port()) as proxy, embedded_broker(proxy.broker_port, advertised_port=proxy.port):
        yield proxy
