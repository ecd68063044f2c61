"""The last frame number of every connection: by it a frame that is sent again is known, however much later.

A collector sends the frames of a partition in their order. What it sends again are frames that the log has taken, but
whose acknowledgement was lost: the newest ones that this collector had logged. Nothing else of it can be logged in
between, so its other connections may be forgotten. A second collector may log meanwhile, for hours.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Microseconds

Identity: TypeAlias = tuple[int, str]  # epoch and name of a connection
LastNumber: TypeAlias = tuple[int, str, int, Microseconds]  # epoch and name, last number, and when that was logged

SAME_COLLECTOR: Microseconds = 600 * SECOND  # far more than a collector has on its way at once
ANY_COLLECTOR: Microseconds = 24 * 3600 * SECOND  # as long as a journal keeps what has still to be sent


class _Heard(NamedTuple):
    number: int
    time: Microseconds
    is_frame: bool = True  # or one of our own records has told the number, and frames may be missing before it


class LastNumbers:
    """The last numbers of the connections of one partition, as the log tells them.

    Times are those of the log, so the same records always give the same answers. A connection is forgotten
    1. when its collector has logged a frame `SAME_COLLECTOR` after the last one of the connection, or
    2. when any collector has logged a frame `ANY_COLLECTOR` after it.
    """

    def __init__(self, known: Iterable[LastNumber] = ()) -> None:
        self._heard: dict[Identity, _Heard] = {}
        self._newest: dict[int, Microseconds] = {}  # of each epoch: when its newest frame was logged
        self.learn(known)

    def learn(self, known: Iterable[LastNumber]) -> None:
        """Take over what another reader of the same log has packed."""
        for epoch, connection, number, time in known:
            heard = self._heard.get((epoch, connection))
            if heard is None or heard.number < number or not heard.is_frame:
                self._note((epoch, connection), _Heard(number, time))

    def take(self, identity: Identity, number: int, time: Microseconds) -> int | None:
        """Note a frame; return how many were skipped before it, as far as is known. `None`: it was sent again."""
        heard = self._heard.get(identity)
        if heard is None:
            self._forget()  # a new connection is rare
            skipped = 0
        elif time - heard.time > SAME_COLLECTOR and not self._is_kept(identity, heard):
            skipped = 0
        elif number <= heard.number:
            return None
        else:
            skipped = number - heard.number - 1 if heard.is_frame else 0
        self._note(identity, _Heard(number, time))
        return skipped

    def reach(self, identity: Identity, number: int, time: Microseconds) -> bool:
        """Note that one of our own records tells the number of the last frame; return whether it may be news."""
        heard = self._heard.get(identity)
        if heard is not None and self._is_kept(identity, heard):
            return number >= heard.number
        self._note(identity, _Heard(number, time, is_frame=False))
        return True

    def pack(self) -> list[LastNumber]:
        """Return what must be known to go on."""
        self._forget()
        return sorted((*identity, *heard[:2]) for identity, heard in self._heard.items() if heard.is_frame)

    def _note(self, identity: Identity, heard: _Heard) -> None:
        self._heard[identity] = heard
        epoch, time = identity[0], heard.time
        if time > self._newest.get(epoch, -1):
            self._newest[epoch] = time

    def _is_kept(self, identity: Identity, heard: _Heard) -> bool:
        since_own = self._newest[identity[0]] - heard.time
        return since_own <= SAME_COLLECTOR and max(self._newest.values()) - heard.time <= ANY_COLLECTOR

    def _forget(self) -> None:
        self._heard = {identity: heard for identity, heard in self._heard.items() if self._is_kept(identity, heard)}
        epochs = {epoch for epoch, _ in self._heard}
        self._newest = {epoch: time for epoch, time in self._newest.items() if epoch in epochs}
