"""A log handler that limits bursts of one cause, and says how many lines it left out."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TextIO, TypeAlias

from coin_platform.runtime.log_lines import context

LINES_AT_ONCE = 50  # of one cause
LINES_PER_SECOND = 10.0  # of one cause, after that
TELL_SECONDS = 1.0  # after which the lines left out are told
_MOST_CAUSES = 2_000  # that are remembered
_SWEEP_SECONDS = 1.0

Cause: TypeAlias = tuple[str, int, str, tuple[tuple[str, str], ...]]


class _Budget:
    """The lines that one cause may still write."""

    def __init__(self, now: float) -> None:
        self.lines, self.at = float(LINES_AT_ONCE), now
        self.left_out, self.since = 0, now
        self.last: logging.LogRecord | None = None

    def refill(self, now: float) -> None:
        self.lines = min(float(LINES_AT_ONCE), self.lines + (now - self.at) * LINES_PER_SECOND)
        self.at = now

    @property
    def is_full(self) -> bool:
        return self.lines >= LINES_AT_ONCE and not self.left_out


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes records to a stream: of one cause 50 at once, then 10 a second, and then how many were left out.

    A cause is a logger, a level, a message before its values are put in, and the context of the line.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        tell_seconds: float = TELL_SECONDS,
    ) -> None:
        super().__init__(stream)
        self._clock, self._tell_seconds = clock, tell_seconds
        self._swept = clock() - _SWEEP_SECONDS
        self._budgets: dict[Cause, _Budget] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        now, names = self._clock(), context()
        record.__dict__["names"] = names
        budget = self._budget((record.name, record.levelno, str(record.msg)[:200], tuple(names.items())), now)
        if budget.lines < 1:
            budget.since = budget.since if budget.left_out else now
            budget.left_out += 1
            budget.last = record
            self._tell_later()
            return
        budget.lines -= 1
        super().emit(record)

    def tell(self) -> None:
        """Write for each cause how many of its lines were left out."""
        self.acquire()
        try:
            self._timer = None
            now = self._clock()
            for budget in self._budgets.values():
                if budget.last is not None:
                    self._tell(budget, budget.last, now)
        finally:
            self.release()

    def _tell(self, budget: _Budget, last: logging.LogRecord, now: float) -> None:
        """Write how many lines were left out, and the last of them."""
        before = budget.left_out - 1
        if before:
            text = f"left out in {now - budget.since:.1f} s: {before} lines like the next one"
            told = logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, (), None)
            told.__dict__["names"] = last.__dict__["names"]
            super().emit(told)
        super().emit(last)
        budget.left_out, budget.last = 0, None

    def close(self) -> None:
        """Write what was left out, and end."""
        if self._timer is not None:
            self._timer.cancel()
            self.tell()
        super().close()

    def _budget(self, cause: Cause, now: float) -> _Budget:
        if cause not in self._budgets and len(self._budgets) >= _MOST_CAUSES:
            self._sweep(now)
            if len(self._budgets) >= _MOST_CAUSES:  # a flood of messages that are all different is one cause
                cause = ("", 0, "", ())
        budget = self._budgets.setdefault(cause, _Budget(now))
        budget.refill(now)
        return budget

    def _sweep(self, now: float) -> None:
        """Forget the causes that may write as much as new ones. It takes a millisecond, so it is done once a second."""
        if now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for budget in self._budgets.values():
            budget.refill(now)
        self._budgets = {cause: budget for cause, budget in self._budgets.items() if not budget.is_full}

    def _tell_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._tell_seconds, self.tell)
            self._timer.daemon = True
            self._timer.start()
