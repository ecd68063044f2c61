"""How two ways are compared: the same result first, then in turns, and the median of what each took."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

ROUNDS = 5

T = TypeVar("T")


class Outcome(NamedTuple):
    """One measured figure. `must` is what fails the run, `None` where a figure is only told."""

    id: str
    what: str
    value: float
    unit: str = "x"
    must: float | None = None
    is_least: bool = True  # `must` is a lower bound
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is as good as it must be."""
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

    CPU seconds by default: what others do on this machine does not reach them. Work of other processes needs
    `time.perf_counter`.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            gc.collect()
            begun = clock()
            work()
            taken[name].append(clock() - begun)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def same(one: T, other: T, what: str) -> None:
    """Raise `AssertionError` if two ways do not give the same: then their times say nothing."""
    if one != other:
        raise AssertionError(f"{what}: the two ways do not give the same result")


@contextmanager
def paused_gc() -> Iterator[None]:
    """Keep the garbage collector off."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
