"""Which windows of a region are made: the cursor of the sensor that closes windows."""

from collections.abc import Sequence

import msgspec

from coin_platform.model import Microseconds, Window


class Progress(msgspec.Struct):
    """The stretches of time whose windows are made. All times are µs since 1970.

    Windows before `since` no longer matter. `done` holds stretches that are sorted and do not touch.
    """

    since: Microseconds
    done: list[tuple[Microseconds, Microseconds]] = []

    def is_done(self, window: Window) -> bool:
        """Return whether a window is made."""
        return any(start <= window.start and window.stop <= stop for start, stop in self.done)

    def add(self, windows: Sequence[Window]) -> None:
        """Add windows that are made."""
        joined: list[tuple[Microseconds, Microseconds]] = []
        for start, stop in sorted([*self.done, *windows]):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        self.done = joined

    def remove(self, window: Window) -> None:
        """Remove a window that is to be made again."""
        parts = [((start, min(stop, window.start)), (max(start, window.stop), stop)) for start, stop in self.done]
        self.done = [part for both in parts for part in both if part[0] < part[1]]

    def missing(self, length: Microseconds, until: Microseconds) -> list[Window]:
        """Return the windows up to `until` that are not made, oldest first."""
        windows, start = [], self.since // length * length
        for done_start, done_stop in [*self.done, (until, until)]:
            starts = range(start, min(done_start, until) - length + 1, length)
            windows += [Window(window_start, window_start + length) for window_start in starts]
            start = max(start, -(-done_stop // length) * length)
        return windows

    def forget(self, since: Microseconds) -> None:
        """Forget the windows before `since`."""
        self.since = max(self.since, since)
        self.done = [(max(start, self.since), stop) for start, stop in self.done if stop > self.since]


def read_cursor(cursor: str | None) -> Progress | list[str] | None:
    """Return the progress of a cursor, or the partition keys of made windows, as former versions stored them.

    Raises `msgspec.MsgspecError`.
    """
    return msgspec.json.decode(cursor, type=Progress | list[str]) if cursor else None
