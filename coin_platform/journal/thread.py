"""The thread that writes the journals of a process, all in turn."""

import threading
import time
from typing import Protocol

COMMIT_EVERY = 0.02  # seconds from the first record that waits to its commit


class Written(Protocol):
    """What the thread writes. It holds the guard whenever it looks, but not while there is `work`."""

    name: str
    due_time: float  # monotonic, when it is due whatever comes; `inf`: never

    @property
    def has_work(self) -> bool:
        """Whether it is due at once."""

    @property
    def has_records(self) -> bool:
        """Whether records wait, which more may join."""

    @property
    def is_urgent(self) -> bool:
        """Whether they must not wait for more; then nothing else does, either."""

    def work(self) -> bool:
        """Do what is due; return whether that was the last. Raises nothing."""


class WriterThread:
    """Writes what it is given, from `add` until that has ended.

    One for all, because dozens of threads that each wake up for nearly every record, and wake others, take more than
    all the rest of a collector. So what holds up one, like a file that another process has locked, holds up all.
    """

    def __init__(self, commit_every: float = COMMIT_EVERY) -> None:
        self.guard = threading.RLock()  # of this, and of all that is written
        self.is_idle = False  # waits for work: the first record is worth waking it
        self._commit_every = commit_every
        self._wanted = threading.Condition(self.guard)
        self._written: list[Written] = []
        self._thread: threading.Thread | None = None  # as long as there is something to write

    def add(self, one: Written) -> None:
        """Begin to write this."""
        with self._wanted:
            self._written.append(one)
            self._wanted.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"writer {one.name}", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Have the thread look again; the caller holds the guard."""
        self._wanted.notify()

    def _run(self) -> None:
        while True:
            ended = [one for one in self._next() if one.work()]
            with self._wanted:
                self._written = [one for one in self._written if one not in ended]
                if not self._written:
                    self._thread = None
                    return

    def _next(self) -> list[Written]:
        """Wait until something is due, and a little more where more may join; return it."""
        with self._wanted:
            self.is_idle = True
            patience = min(one.due_time for one in self._written) - time.monotonic()
            self._wanted.wait_for(self._due, min(max(0.0, patience), threading.TIMEOUT_MAX))
            self.is_idle = False
            if any(one.has_records for one in self._due()):
                self._wanted.wait_for(self._is_urgent, self._commit_every)
            return self._due()

    def _due(self) -> list[Written]:
        moment = time.monotonic()
        return [one for one in self._written if one.has_work or moment >= one.due_time]

    def _is_urgent(self) -> bool:
        moment = time.monotonic()
        return any(one.is_urgent or moment >= one.due_time for one in self._written)
