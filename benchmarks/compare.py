"""Compares two ways to do the same work: first their results, then the median of the times of each, in turns."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

ROUNDS = 5  # an odd number, for the median

T = TypeVar("T")


class Outcome(NamedTuple):
    """One measured figure. A run fails if a figure does not reach its `must`; `None`: the figure is only printed."""

    id: str
    what: str
    value: float
    unit: str = "x"
    must: float | None = None
    is_least: bool = True  # `must` is a lower bound
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the figure reaches its bound."""
        if self.must is None:
            return True
        return self.value >= self.must if self.is_least else self.value <= self.must


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Return the median seconds of each way, run in turns with the garbage collector on.

    The default clock counts the CPU seconds of this process, which other processes do not disturb. If a way works in
    other processes, pass `time.perf_counter`.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            gc.collect()
            begun = clock()
            work()
            taken[name].append(clock() - begun)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def same(result: T, other: T, figure: str) -> None:
    """Raise `AssertionError` if two ways give different results. Their times cannot be compared then."""
    if result != other:
        raise AssertionError(f"{figure}: the two ways do not give the same result")


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause the garbage collector."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
