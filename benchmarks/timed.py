"""word_count.py, running_totals.py, or the source alone, with clocks in their functions. Their flags, and two more."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Annotated, Any, ClassVar, Literal

from kafka_job import Plan, read_lines, run
from kafka_job.flink.connector import java_class
from kafka_job.pipeline import windows

from pyflink.datastream import StreamExecutionEnvironment

import word_count
from examples import running_totals

NOTED_EVERY = 10_000_000  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class Options(running_totals.Options, word_count.Options):
    """The command line."""

    job: Annotated[Literal["source alone", "word_count.py", "running_totals.py"], "which one"] = "word_count.py"
    times: Annotated[str, "folder for a file of each function: its CPU time in nanoseconds, less what it calls"] = "."


class Timed:
    """A function with a clock. It goes to the worker with the job, so what it has measured is in a file."""

    inside: ClassVar[dict[int, int]] = {}  # by thread: nanoseconds of timed functions that the present one has called

    def __init__(self, function: Callable[..., Any], file: Path) -> None:
        self.function, self.file, self.spent, self.noted = function, file, 0, 0

    def __call__(self, *arguments: Any) -> Any:
        inside, thread = Timed.inside, get_ident()
        before, inside[thread] = inside.get(thread, 0), 0
        begin = time.thread_time_ns()
        result = self.function(*arguments)
        if isinstance(result, Iterator):
            result = list(result)
        took = time.thread_time_ns() - begin
        self.spent += took - inside[thread]
        inside[thread] = before + took
        if self.spent > self.noted + NOTED_EVERY:
            self.file.write_text(str(self.spent))
            self.noted = self.spent
        return result


def with_clock(kind: type, folder: Path, **names: str) -> type:
    """A class with a clock in some of its methods. `names`: what each is called in the results."""

    def method(timed: Timed) -> Callable[..., Any]:
        return lambda self, *arguments: timed(self, *arguments)

    methods = {name: method(Timed(getattr(kind, name), folder / title)) for name, title in names.items()}
    return type(kind.__name__, (kind,), methods)


def put_clocks(folder: Path) -> None:
    """Into the functions that do the work."""
    word_count.split = Timed(word_count.split, folder / "split")
    word_count.count_words = Timed(word_count.count_words, folder / "Counter")
    word_count.in_shards = Timed(word_count.in_shards, folder / "in shards")
    word_count.add = Timed(word_count.add, folder / "add")
    word_count.MakeRows = with_clock(word_count.MakeRows, folder, process="rows")
    windows.count_values.__defaults__ = (Timed(windows.split, folder / "split"), windows.SHARDS)
    windows.Counter = with_clock(Counter, folder, update="Counter")
    windows.in_shards = Timed(windows.in_shards, folder / "in shards")
    running_totals.Totals = with_clock(running_totals.Totals, folder, process_element="add", on_timer="rows")


def build(environment: StreamExecutionEnvironment, options: Options, plan: Plan) -> None:
    """The job that was asked for; of the source alone all is thrown away."""
    if options.job == "source alone":
        sink = java_class("org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink")
        read_lines(environment, options, plan)._j_data_stream.sinkTo(sink())
        return
    put_clocks(Path(options.times))
    (word_count if options.job == "word_count.py" else running_totals).build(environment, options, plan)


if __name__ == "__main__":
    run(
        "timed",
        build,
        Options.parse("Run a job with a clock in its functions."),
        state="none",
        settings=word_count.SETTINGS,
    )
