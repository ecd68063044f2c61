"""The one thread that writes all journals of a process, in turn."""

import threading
import time
from typing import Protocol

COMMIT_SECONDS = 0.02  # from the first record that waits to its commit


class WriterTask(Protocol):
    """A journal as the thread sees it. The thread holds the guard while it asks, but not during `work`."""

    name: str
    due_time: float  # on the monotonic clock; `work` is due then, with or without records; `inf`: never

    @property
    def has_work(self) -> bool:
        """Whether `work` is due at once."""

    @property
    def has_records(self) -> bool:
        """Whether records wait to be committed. More may join them."""

    @property
    def is_urgent(self) -> bool:
        """Whether the records must not wait for more. The thread then writes all journals at once."""

    def work(self) -> bool:
        """Commit and trim; return whether that was the last work of this journal. Raises nothing."""


class WriterThread:
    """Writes journals, each from its `add` until its last work.

    One thread writes all of them. Dozens of threads that wake up for nearly every record would take more time than all
    the rest of a collector. The price: a file that another process has locked delays all journals.
    """

    def __init__(self, commit_seconds: float = COMMIT_SECONDS) -> None:
        self.guard = threading.RLock()  # of this object, and of the state of all its journals
        self.is_idle = False  # the thread waits for work: the first record must wake it
        self._commit_seconds = commit_seconds
        self._work_waits = threading.Condition(self.guard)
        self._journals: list[WriterTask] = []
        self._thread: threading.Thread | None = None  # as long as there are journals

    def add(self, journal: WriterTask) -> None:
        """Begin to write a journal."""
        with self._work_waits:
            self._journals.append(journal)
            self._work_waits.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"writer {journal.name}", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Make the thread look for work. The caller holds the guard."""
        self._work_waits.notify()

    def _run(self) -> None:
        while True:
            ended = [journal for journal in self._next() if journal.work()]
            with self._work_waits:
                self._journals = [journal for journal in self._journals if journal not in ended]
                if not self._journals:
                    self._thread = None
                    return

    def _next(self) -> list[WriterTask]:
        """Wait until work is due, and a little longer if more records may join; return the journals that are due."""
        with self._work_waits:
            self.is_idle = True
            patience = min(journal.due_time for journal in self._journals) - time.monotonic()
            self._work_waits.wait_for(self._due, min(max(0.0, patience), threading.TIMEOUT_MAX))
            self.is_idle = False
            if any(journal.has_records for journal in self._due()):
                self._work_waits.wait_for(self._is_urgent, self._commit_seconds)
            return self._due()

    def _due(self) -> list[WriterTask]:
        moment = time.monotonic()
        return [journal for journal in self._journals if journal.has_work or moment >= journal.due_time]

    def _is_urgent(self) -> bool:
        moment = time.monotonic()
        return any(journal.is_urgent or moment >= journal.due_time for journal in self._journals)
