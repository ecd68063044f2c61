"""A wall clock of processes that a test sets while they run: libfaketime, Debian's package `faketime`."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_LIBRARIES = "*/faketime/libfaketimeMT.so.1"  # in /usr/lib; the one for processes with threads
_TICK_SECONDS = 0.1  # between two steps of a clock that runs wrong


class WallClock:
    """How far the wall clock of some processes is ahead of the true time, in seconds.

    Only what is started with `environment` has this clock. Its monotonic clock, and the clock since the machine's
    start, stay true. So do the times of files. Raises `AssertionError` where libfaketime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob(_LIBRARIES))
        assert found, "libfaketime is not installed: run infra/install-ci"
        self._library, self._file = found[0], folder / "wall_clock"
        self._ahead = 0.0
        self.set(0.0)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that is to have this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(Path(__file__).with_name("true_sleep")),
        }

    @property
    def ahead(self) -> float:
        """Seconds by which the clock is ahead."""
        return self._ahead

    def set(self, ahead: float) -> None:
        """Set the clock, at once."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead:+.6f}\n")
        fresh.replace(self._file)  # nobody reads half of a number
        self._ahead = ahead

    @contextmanager
    def running(self, rate: float) -> Iterator[None]:
        """Let the clock run at a rate that is not 1, from what it is; at the end of the block it stays as it is."""
        over, begin, ahead = threading.Event(), time.monotonic(), self._ahead

        def run() -> None:
            while not over.wait(_TICK_SECONDS):
                self.set(ahead + (rate - 1) * (time.monotonic() - begin))

        thread = threading.Thread(target=run, name="wall clock")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
