"""The last frame number of every connection: by it a frame that is sent again is known, however much later.

A collector sends the frames of a partition in their order. It sends a frame again if the log has taken it, but the
acknowledgement was lost: these are the newest frames of this collector in the log. Nothing else of the collector can be
logged in between, so its other connections may be forgotten. A second collector may log meanwhile, for hours.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Microseconds

ConnectionIdentity: TypeAlias = tuple[int, str]  # epoch and name of a connection
LastNumber: TypeAlias = tuple[int, str, int, Microseconds]  # epoch and name, last number, and when that was logged

OWN_COLLECTOR_MEMORY: Microseconds = 600 * SECOND  # far longer than a collector's frames are on their way at once
ANY_COLLECTOR_MEMORY: Microseconds = 24 * 3600 * SECOND  # as long as a journal keeps records that have still to be sent


class _LoggedNumber(NamedTuple):
    number: int
    time: Microseconds
    is_frame: bool = True  # false: one of our own records tells the number, and frames may be missing before it


class LastNumbers:
    """The last numbers of the connections of one partition, as the log tells them.

    Times are those of the log, so the same records always give the same answers. A connection is forgotten
    1. when its collector has logged a frame `OWN_COLLECTOR_MEMORY` after the last one of the connection, or
    2. when any collector has logged a frame `ANY_COLLECTOR_MEMORY` after it.
    """

    def __init__(self, numbers: Iterable[LastNumber] = ()) -> None:
        self._last: dict[ConnectionIdentity, _LoggedNumber] = {}
        self._newest: dict[int, Microseconds] = {}  # of each epoch: when its newest frame was logged
        self.learn(numbers)

    def learn(self, numbers: Iterable[LastNumber]) -> None:
        """Take over the numbers that another reader of the same log has packed."""
        for epoch, connection, number, time in numbers:
            last = self._last.get((epoch, connection))
            if last is None or last.number < number or not last.is_frame:
                self._note((epoch, connection), _LoggedNumber(number, time))

    def take(self, identity: ConnectionIdentity, number: int, time: Microseconds) -> int | None:
        """Note a frame; return how many were skipped before it, as far as is known. `None`: it was sent again."""
        last = self._last.get(identity)
        if last is None:
            self._forget()  # a new connection is rare
            skipped = 0
        elif time - last.time > OWN_COLLECTOR_MEMORY and not self._is_kept(identity, last):
            skipped = 0
        elif number <= last.number:
            return None
        else:
            skipped = number - last.number - 1 if last.is_frame else 0
        self._note(identity, _LoggedNumber(number, time))
        return skipped

    def reach(self, identity: ConnectionIdentity, number: int, time: Microseconds) -> bool:
        """Note that one of our own records tells the number of the last frame; return whether it may be news."""
        last = self._last.get(identity)
        if last is not None and self._is_kept(identity, last):
            return number >= last.number
        self._note(identity, _LoggedNumber(number, time, is_frame=False))
        return True

    def pack(self) -> list[LastNumber]:
        """Return the numbers by which another reader can go on."""
        self._forget()
        return sorted((*identity, last.number, last.time) for identity, last in self._last.items() if last.is_frame)

    def _note(self, identity: ConnectionIdentity, last: _LoggedNumber) -> None:
        self._last[identity] = last
        epoch, time = identity[0], last.time
        if time > self._newest.get(epoch, -1):
            self._newest[epoch] = time

    def _is_kept(self, identity: ConnectionIdentity, last: _LoggedNumber) -> bool:
        since_own = self._newest[identity[0]] - last.time
        return since_own <= OWN_COLLECTOR_MEMORY and max(self._newest.values()) - last.time <= ANY_COLLECTOR_MEMORY

    def _forget(self) -> None:
        self._last = {identity: last for identity, last in self._last.items() if self._is_kept(identity, last)}
        epochs = {epoch for epoch, _ in self._last}
        self._newest = {epoch: time for epoch, time in self._newest.items() if epoch in epochs}
