"""Parts: what was added up of some records, by key, on its way from the worker that has read them to their window."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Number
from typing import Any, TypeVar
from zlib import crc32

from pyflink.common import Types
from pyflink.datastream import OutputTag
from pyflink.datastream.window import TimeWindow

SHARDS = 128  # groups of keys, see word_count.py; no more workers than this can share the work
# A shard; how many things were added up, and what they have come to, by key; and a time, see EventTime.java.
Part = tuple[int, tuple[int, dict[Any, Any]], int]
PART = Types.TUPLE([Types.INT(), Types.PICKLED_BYTE_ARRAY(), Types.LONG()])
LATE = OutputTag("late")
Value = TypeVar("Value")
Add = Callable[[Value, Value], Value]
Rows = Callable[[TimeWindow, Mapping[Any, Any]], Iterable[Any]]


def shard_of(key: Any, shards: int) -> int:
    """The shard that a key always belongs to; not by hash(key), which differs from process to process."""
    return crc32((key if isinstance(key, str) else repr(whole(key))).encode(errors="surrogatepass")) % shards


def whole(key: Any) -> Any:
    """The key as equal ones are written alike, 7.0 as 7; the hash of a number is the same in each process.

    Raises TypeError for an object of which Python writes only where it is.
    """
    if isinstance(key, tuple):
        return tuple(map(whole, key))
    if isinstance(key, frozenset):  # in no order
        return sorted(repr(whole(one)) for one in key)
    if type(key).__repr__ is object.__repr__:
        raise TypeError(f"A {type(key).__name__} cannot be a key: it has no __repr__, by which equal ones are found")
    return hash(key) if isinstance(key, Number) and key == key else key  # nan equals none


def in_shards(values: Mapping[Any, Any], numbers: Mapping[Any, int], shards: int, time: int = 0) -> Iterator[Part]:
    """Values by key as parts. `numbers`: how many things each stands for."""
    parts: dict[int, dict[Any, Any]] = defaultdict(dict)
    for key, value in values.items():
        parts[shard_of(key, shards)][key] = value
    yield from ((shard, (sum(map(numbers.get, part)), part), time) for shard, part in parts.items())


def joined(left: Part, right: Part, add: Add) -> Part:
    """Two parts of a shard, as one."""
    shard, (number, values), time = left
    both = values.copy()  # a reduce function must not change what it is given
    for key, value in right[1][1].items():
        both[key] = add(both[key], value) if key in both else value
    return shard, (number + right[1][0], both), time


def given_out(rows: Iterable[Any], as_text: bool) -> Iterator[Any]:
    """Rows as they leave a step: as one text, or one by one."""
    if not as_text:
        yield from rows
    elif text := "\n".join(rows):
        yield text
