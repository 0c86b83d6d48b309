"""Running totals: how often each word was seen since the job's first record, in place of counts per window.

    python examples/running_totals.py --output out/
    python examples/running_totals.py --output out/ --state-ttl 86400     # forget words not seen for a day
    flink run --python examples/running_totals.py

A row is a second of event time in which the word was counted (UTC), the word, and its total at the end of that second.
The highest total of a word is its newest, unless --state-ttl has forgotten the word in between. No word is late: it is
counted in the first second that is still open.

    2026-11-22T14:00:07Z    hello    9

Windows forget their words when they close. Totals must remember each word that was ever seen, in what Flink calls
state: it is kept for each key, saved with every checkpoint, and grows for ever unless something is forgotten.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from kafka_job import (
    SHARDS,
    JobOptions,
    Part,
    Plan,
    batch_lines,
    count_values,
    keep_watermark,
    read_lines,
    run,
    utc,
    write_rows,
)

from pyflink.common import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor


@dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """The flags of this job, beside those that every job has."""

    state_ttl: Annotated[
        int | None,
        "forget a word that was not seen for so many seconds, by the clock on the wall; None: the state grows for ever",
    ] = None


class Totals(KeyedProcessFunction):
    """The totals of a shard's words, written for each second of event time in which they have changed.

    Event time, and not the clock on the wall: when records are read again, after a crash or next year, a word that is
    in time has the same row. (The second of a late one depends on the order in which partitions are read.)
    """

    def __init__(self, state_ttl: int | None) -> None:
        self.state_ttl = state_ttl

    def open(self, runtime_context: RuntimeContext) -> None:
        # word -> total
        self.totals = runtime_context.get_state(ValueStateDescriptor("totals", Types.PICKLED_BYTE_ARRAY()))
        # word -> when it was last counted, by the clock on the wall, in milliseconds; kept only where there is a TTL
        self.seen = runtime_context.get_state(ValueStateDescriptor("seen", Types.PICKLED_BYTE_ARRAY()))
        # second of event time -> the counts that wait until the watermark has passed it
        waiting = MapStateDescriptor("waiting", Types.LONG(), Types.PICKLED_BYTE_ARRAY())
        self.waiting = runtime_context.get_map_state(waiting)

    def process_element(self, part: Part, context: KeyedProcessFunction.Context) -> None:
        timers = context.timer_service()
        # A word that is late for its second is counted in the first one that is still open.
        second = max(context.timestamp(), timers.current_watermark() + 1) // 1000
        counts = self.waiting.get(second) or Counter()
        counts.update(part[1][1])  # how often each of some words was seen
        self.waiting.put(second, counts)
        timers.register_event_time_timer(second * 1000 + 999)

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        """The watermark has passed the end of a second; seconds come here in their order."""
        counts = self.waiting.get(timestamp // 1000)
        self.waiting.remove(timestamp // 1000)
        totals = self.totals.value() or {}
        if self.state_ttl:
            self.forget(totals, counts, context.timer_service().current_processing_time())
        start, rows = utc(timestamp), []
        for word, count in counts.items():
            totals[word] = total = totals.get(word, 0) + count
            rows.append(f"{start}\t{word}\t{total}")
        self.totals.update(totals)
        yield "\n".join(rows)  # one text for all: each record that goes back to the JVM costs more than what is in it

    def forget(self, totals: dict[str, int], counted: Iterable[str], now: int) -> None:
        """Take out of the totals what was not counted for `state_ttl` seconds; note what is counted now.

        Flink's own TTL would keep or forget a whole shard.
        """
        seen = self.seen.value() or {}
        for word in [word for word, at in seen.items() if now - at >= self.state_ttl * 1000]:
            del seen[word], totals[word]
        seen.update(dict.fromkeys(counted, now))
        self.seen.update(seen)


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """Source, totals, sink."""
    lines = read_lines(environment, options, plan)
    batches = batch_lines(lines, window=1)  # a row is of one second, so a batch is, too
    totals = keep_watermark(count_values(batches)).process(Totals(options.state_ttl), output_type=Types.STRING())
    write_rows(totals.name("running totals").uid(f"totals-in-{SHARDS}-shards"), options.output)


def main() -> None:
    options = Options.parse("Count the words of a Kafka topic since the job's first record.")
    state = f"running totals in {SHARDS} shards, TTL {options.state_ttl}"
    run("running_totals", build, options, state)


if __name__ == "__main__":
    main()
