"""What one connection leaves in the log: that it was opened, its numbered frames, what we say of it, its end."""

from collections.abc import Callable, Iterable

from coin_platform import __version__
from coin_platform.broker import Broker
from coin_platform.clock import now
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.route import Route, Traffic
from coin_platform.errors import OverBudget
from coin_platform.model import SECOND, Frame, Instant, Kind, Microseconds, Pair
from coin_platform.records import Checkpoint, Facts, Header, Transport, frame, over_budget

BEFORE_BOUNDARY: Microseconds = 5 * SECOND  # when checkpoints are due, before the end of a window
WAITING_BYTES = 32 << 20  # of one raw partition, that may wait for the disk: half of what a journal bears
LARGE = 1 << 20  # bytes; a book above this is logged at most once an hour
_HOUR = 3600.0
_MARKS = {Transport.SOCKET: "", Transport.REST: "r", Transport.NONE: "w"}  # in the name of a connection


class Recorder:
    """The records of one connection, in order; what is polled over REST counts as one too."""

    def __init__(
        self,
        route: Route,
        *,
        broker: Broker,
        traffic: Traffic,
        clock: Callable[[], Instant] = now,
        transport: Transport = Transport.SOCKET,
        clock_lag: ClockLag | None = None,
        gap_reports: GapReports | None = None,
    ) -> None:
        self.name = ""
        self.number = 0  # of the last frame
        self.refused: dict[str, str] = {}  # pairs that the exchange refuses now, and why
        self._route, self._broker, self._traffic, self._clock = route, broker, traffic, clock
        self._transport, self._clock_lag, self._gap_reports = transport, clock_lag or ClockLag(), gap_reports
        self._is_suspect = False  # our clock, as the last record of ours says
        self._window = 0
        self._large: dict[str, float] = {}  # when a large book of a pair was logged

    def open(self, pairs: Iterable[Pair]) -> Instant:
        """Begin the connection: give it a name, and log what it is. Return when."""
        moment = self._clock()
        mark = _MARKS[self._transport]  # a socket of the same shard may be opened in the same µs
        self.name = f"{self._route.channel}-{self._route.shard}{mark}-{moment.wall:x}"
        self._window = self._window_of(moment.wall)
        self.log(Kind.OPENED, pairs)
        return moment

    def take(self, kind: Kind, payload: bytes, pair: Pair | None = None) -> tuple[Frame, Instant]:
        """Store a frame under the next number; return it and when it came.

        Raises `OverBudget`, and stores nothing, where too much waits for the disk already.
        """
        waiting = self._broker.waiting_bytes(self._route.topic, self._route.exchange.partition)
        if waiting + len(payload) > WAITING_BYTES:
            raise OverBudget(over_budget(len(payload), waiting))
        moment = self._clock()
        self._clock_lag.look(moment)
        self.number += 1
        header = Header(kind, self._route.epoch, self.name, self.number, moment.wall, pair)
        self._append(header, payload)
        self._traffic.frames += 1
        self._traffic.bytes += len(payload)
        self._traffic.last_frame_time = moment.wall
        return frame(self._route.exchange.name, self._route.channel, header, payload), moment

    def log(self, kind: Kind, pairs: Iterable[Pair], book: Checkpoint | None = None, reason: str = "") -> None:
        """Log what the connection is now, with one of our books or without; `reason`: why there is none."""
        exchange, is_rest = self._route.exchange, self._transport is Transport.REST
        moment = self._clock()
        self._clock_lag.look(moment)
        self._is_suspect = self._clock_lag.is_suspect
        value = Facts(
            transport=self._transport,
            url=exchange.rest_url if is_rest else exchange.socket_url(self._route.channel),
            pairs=[str(pair) for pair in pairs],
            code=__version__,
            reason=reason,
            refused=self.refused,
            beside=self._is_beside(),
            clock_suspect=self._is_suspect,
            book=book,
        ).pack()
        if book is not None and len(value) > LARGE:
            if moment.monotonic - self._large.get(book.pair, -_HOUR) < _HOUR:
                return
            self._large[book.pair] = moment.monotonic
        self._append(self._header(kind, moment), value)

    def close(self, reason: str) -> None:
        """Log the end of the connection."""
        facts = Facts(
            transport=self._transport,
            reason=reason,
            code=__version__,
            beside=self._is_beside(),
            clock_suspect=self._clock_lag.is_suspect,
        )
        self._append(self._header(Kind.CLOSED, self._clock()), facts.pack())

    @property
    def doubts(self) -> bool:
        """Whether our clock has become suspect, or is so no longer, since our last record."""
        return self._clock_lag.is_suspect != self._is_suspect

    def turned(self, moment: Instant) -> bool:
        """Whether the checkpoints of another window are due: once a window, shortly before it begins."""
        before, self._window = self._window, self._window_of(moment.wall)
        return self._window != before

    def _window_of(self, wall: Microseconds) -> int:
        return (wall + BEFORE_BOUNDARY) // self._route.window

    def _is_beside(self) -> bool:
        return self._broker.host(self._route.topic, self._route.exchange.partition) is not None

    def _header(self, kind: Kind, moment: Instant) -> Header:
        return Header(kind, self._route.epoch, self.name, self.number, moment.wall)

    def _append(self, header: Header, value: bytes) -> None:
        self._broker.append(self._route.topic, self._route.exchange.partition, header.pack(), value)
        if self._gap_reports is not None:
            self._gap_reports.record(header, value)
