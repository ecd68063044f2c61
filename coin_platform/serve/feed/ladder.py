"""Where the feed reads: the highest rung whose services answer. The only place where that changes; it does no I/O.

1. A service is up after several good probes in a row over some seconds, and down after some bad ones within seconds.
   The first probe of a service decides at once, so that a server that starts does not wait.
2. A move down is made at once. A move up waits some seconds after the last move, so that a service that comes and goes
   does not take the feed along.
3. While nothing is up the feed stays where it is and tries on: there is nowhere else to go. So it goes on as soon as
   that service answers, or as soon as another one counts as up.
"""

import threading
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from coin_platform.model import Microseconds

MOST_MOVES = 20  # that are remembered


class Service(StrEnum):
    """What records can be read from."""

    KAFKA = "kafka"  # the processed topics
    REDIS = "redis"  # the streams that workers write
    LOCAL = "local"  # the journal of this machine


class Rung(StrEnum):
    """A rung of the ladder, the highest first."""

    KAFKA_REDIS = "kafka+redis"  # Kafka is read, and Redis stands by
    KAFKA = "kafka"
    REDIS = "redis"
    LOCAL = "local"
    NONE = "none"

    @property
    def needs(self) -> frozenset[Service]:
        """The services that must be up."""
        return frozenset(Service(name) for name in self.value.split("+") if self is not Rung.NONE)

    @property
    def source(self) -> Service | None:
        """The service that is read."""
        return None if self is Rung.NONE else Service(self.value.partition("+")[0])

    @property
    def height(self) -> int:
        """0 for the lowest rung, which is none."""
        return len(Rung) - 1 - list(Rung).index(self)


class LadderTimes(NamedTuple):
    """When a service counts as up or down, and how long a move up waits after another move."""

    up_probes: int = 3
    up_seconds: float = 15.0
    down_probes: int = 2
    down_seconds: float = 5.0
    climb_seconds: float = 30.0


class Move(NamedTuple):
    """A move from one rung to another, and why."""

    time: Microseconds
    before: Rung
    after: Rung
    reason: str


class ServiceView(NamedTuple):
    """A service as the ladder sees it."""

    service: Service
    is_up: bool
    since: Microseconds
    reason: str  # why it is down


class _Probed:
    """What the probes of one service have shown."""

    def __init__(self) -> None:
        self.is_up: bool | None = None  # None: it was not probed yet
        self.since: Microseconds = 0
        self.reason = ""
        self.good = 0  # probes in a row
        self.good_since = 0.0
        self.bad: deque[float] = deque()  # moments

    def note(self, moment: float, failure: str, times: LadderTimes) -> bool:
        """Take the result of a probe, and return whether the service came up or went down."""
        if failure:
            self.good = 0
            self.bad.append(moment)
            while moment - self.bad[0] > times.down_seconds:
                self.bad.popleft()
            self.reason = failure
            return self._turn(False, self.is_up is None or len(self.bad) >= times.down_probes)
        self.bad.clear()
        if not self.good:
            self.good_since = moment
        self.good += 1
        lasts = moment - self.good_since >= times.up_seconds
        return self._turn(True, self.is_up is None or (self.good >= times.up_probes and lasts))

    def _turn(self, is_up: bool, is_sure: bool) -> bool:
        if not is_sure or self.is_up is is_up:
            return False
        self.is_up = is_up
        return True


class Ladder:
    """The rung on which the feed stands. Any thread may ask and tell."""

    def __init__(self, services: Iterable[Service], times: LadderTimes = LadderTimes()) -> None:  # noqa: B008
        """Begin without a rung, until each of the services was probed once."""
        self._times = times
        self._probed = {service: _Probed() for service in services}
        self._rungs = [rung for rung in Rung if rung is not Rung.NONE and rung.needs <= self._probed.keys()]
        self._moved: float | None = None  # the moment of the last move; None: there was none yet
        self._lock = threading.Lock()
        self.rung = Rung.NONE
        self.since: Microseconds = 0
        self.moves: tuple[Move, ...] = ()
        self._first = next(rung for rung in self._rungs if len(rung.needs) == 1)  # where nothing is up at the start
        if len(self._probed) == 1:
            self.rung = self._first

    @property
    def source(self) -> Service | None:
        """The service that the feed reads now."""
        return self.rung.source

    def is_up(self, service: Service) -> bool:
        """Whether a service can be read."""
        return bool(self._probed[service].is_up)

    def note(self, service: Service, moment: float, time: Microseconds, failure: str = "") -> None:
        """Take the result of a probe, or the failure of a read, and move if that is due.

        `moment`: monotonic seconds. `time`: the time of day, for the history. `failure`: why it failed, if it did.
        """
        with self._lock:
            probed = self._probed[service]
            if probed.note(moment, failure, self._times):
                probed.since = time
                if probed.is_up:
                    probed.reason = ""
            self._look(moment, time)

    def views(self) -> list[ServiceView]:
        """Return the services as they are now."""
        with self._lock:
            return [
                ServiceView(service, bool(probed.is_up), probed.since, "" if probed.is_up else probed.reason)
                for service, probed in self._probed.items()
            ]

    def reasons(self) -> str:
        """Return in one line why services are down."""
        return "; ".join(f"{view.service}: {view.reason or 'not asked yet'}" for view in self.views() if not view.is_up)

    def _look(self, moment: float, time: Microseconds) -> None:
        if any(probed.is_up is None for probed in self._probed.values()):
            return
        up = {service for service, probed in self._probed.items() if probed.is_up}
        stands = self.rung is not Rung.NONE and self.rung.needs <= up
        stays = self._first if self.rung is Rung.NONE else self.rung
        best = next((rung for rung in self._rungs if rung.needs <= up), stays)
        is_climb = best.height > self.rung.height
        is_early = self._moved is not None and moment - self._moved < self._times.climb_seconds
        if best is self.rung or (stands and is_climb and is_early):
            return
        down = [f"{service}: {self._probed[service].reason}" for service in self._probed if service not in up]
        reason = "; ".join(down) if not is_climb else f"up again: {best.value.replace('+', ' and ')}"
        if self.rung is Rung.NONE:
            reason = "; ".join(["start", *down])
        else:
            self._moved = moment
        self.moves = (*self.moves[1 - MOST_MOVES :], Move(time, self.rung, best, reason))
        self.rung, self.since = best, time
