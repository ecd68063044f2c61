"""Keeps the frames of a former leader out of the tables once its successor brings the same pair.

A leader that was frozen, or cut off, may still send what it read after another one began. The epochs of the records
tell which of the two is the later one. Where two leaders overlap for a moment, both count: duplicates are left out
elsewhere.
"""

from typing import NamedTuple

from coin_platform.model import SECOND, Microseconds, Pair
from coin_platform.records import Facts, Header

OVERLAP: Microseconds = 5 * SECOND
"""After the first data of a pair from a successor, in which the former leader's frames of it still count.

What both bring at that time may arrive on either one first. The clocks of two machines differ by less.
"""
ALIVE: Microseconds = 60 * SECOND  # after the last record of a leader, in which it counts as alive


LEADERS = 4  # of a pair that are remembered


class _Heard(NamedTuple):
    """A leader that has brought a pair."""

    epoch: int
    since: Microseconds  # when its first data of the pair was received


class Fence:
    """The leaders of one partition, as the records in their order tell them.

    1. A frame is refused if it was received more than `OVERLAP` after a later leader first brought its pair.
    2. A frame that was received earlier counts, however late it comes: it waited on the disk of its machine.
    3. A collector that takes over on the same machine says that it runs beside the one before it. Then both count.
    4. A later leader without a record for longer than `ALIVE` refuses nobody. So a collector whose epoch is too low,
       because its clock was set back, is not refused for ever.
    """

    def __init__(self) -> None:
        self._epoch = 0  # the latest
        self._beside = 0  # the oldest epoch that may still collect beside it; 0: none
        self._last: Microseconds = 0  # when the newest record of the latest epoch was received
        self._heard: dict[Pair, list[_Heard]] = {}  # the latest leaders that brought a pair, by epoch

    def take_own_record(self, header: Header, facts: Facts) -> None:
        """Take a record of a collector about itself."""
        if header.epoch > self._epoch:
            self._beside = (self._beside or self._epoch) if facts.beside else 0
        elif header.epoch == self._epoch and not facts.beside:
            self._beside = 0
        self._note(header)

    def take_frame(self, header: Header) -> bool:
        """Take a frame. Return whether it is of a former leader, so that its events must be asked for."""
        if header.epoch > self._epoch:
            self._beside = 0  # its opening was before the first record that we know
        self._note(header)
        is_former = header.epoch < (self._beside or self._epoch)
        return is_former and header.received_time - self._last <= ALIVE

    def refuses(self, header: Header, pair: Pair) -> bool:
        """Return whether an event of a former leader does not count."""
        limit = header.received_time - OVERLAP
        return any(heard.epoch > header.epoch and heard.since < limit for heard in self._heard.get(pair, ()))

    def hear(self, header: Header, pair: Pair) -> None:
        """Take note that an event of a pair counts."""
        heard = self._heard.get(pair)
        if heard is None or heard[-1].epoch < header.epoch:
            latest = _Heard(header.epoch, header.received_time)
            self._heard[pair] = [*(heard or [])[1 - LEADERS :], latest]

    def _note(self, header: Header) -> None:
        if header.epoch > self._epoch:
            self._epoch, self._last = header.epoch, header.received_time
        elif header.epoch == self._epoch and header.received_time > self._last:
            self._last = header.received_time
