"""Write the records of one connection to the log: its opening, its numbered frames, what it is, and its end."""

import asyncio
from collections.abc import Iterable

from coin_platform import __version__
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.route import Route
from coin_platform.collect.traffic import Traffic
from coin_platform.end_reasons import End, over_budget
from coin_platform.errors import NotLeading, OverBudget
from coin_platform.model import SECOND, Cause, Frame, Instant, Kind, Microseconds, Pair
from coin_platform.records import Checkpoint, Facts, Header, Transport, frame

BEFORE_BOUNDARY: Microseconds = 5 * SECOND  # checkpoints are logged so long before a window ends
WAITING_BYTES = 32 << 20  # of one raw partition, that may wait for the disk: half of what a journal bears
LARGE_BOOK_BYTES = 1 << 20  # of a record with a book; a larger one is logged once in `LARGE_BOOK_SECONDS`
LARGE_BOOK_SECONDS = 3600.0
_NAME_MARKS = {Transport.SOCKET: "", Transport.REST: "r", Transport.NONE: "w"}


class Recorder:
    """The records of one connection, in order. What is polled over REST, and what a feed wants, are connections too."""

    def __init__(
        self, route: Route, access: ExchangeAccess, traffic: Traffic, transport: Transport = Transport.SOCKET
    ) -> None:
        """Record a connection of this route, and count its frames in `traffic`."""
        self.route = route
        self.name = ""
        self.number = 0  # of the last frame
        self.is_open = False
        self.refused: dict[str, str] = {}  # pairs that the exchange refuses now, and why
        self._broker, self._clock, self._clock_lag = access.broker, access.clock, access.clock_lag
        self._term = access.term
        self._gap_reports = access.gap_reports(route.channel)
        self.traffic, self._transport = traffic, transport
        self._is_suspect = False  # our clock, as our last record says
        self._window = 0
        self._large_at: dict[str, float] = {}  # monotonic seconds at which a large book of a pair was logged

    def open(self, pairs: Iterable[Pair]) -> Instant:
        """Begin the connection: give it a name, and log what it is. Return the time of that."""
        moment = self._clock()
        mark = _NAME_MARKS[self._transport]  # a socket and a poller of one shard may begin in the same µs
        self.name = f"{self.route.channel}-{self.route.shard}{mark}-{moment.wall:x}"
        self.is_open = True
        self._window = self._window_of(moment.wall)
        self.log(Kind.OPENED, pairs)
        return moment

    def take(self, kind: Kind, payload: bytes, pair: Pair | None = None) -> tuple[Frame, Instant]:
        """Store a frame under the next number. Return it, and when it came.

        Stores nothing, and raises `OverBudget` if too much waits for the disk already, or `NotLeading` if our term is
        over. A process that was frozen meets its first frame here.
        """
        if not self._term.lasts():
            raise NotLeading(End.NOT_LEADING)
        waiting = self._broker.waiting_bytes(self.route.topic, self.route.exchange.partition)
        if waiting + len(payload) > WAITING_BYTES:
            raise OverBudget(over_budget(len(payload), waiting))
        moment = self._clock()
        self._clock_lag.look(moment)
        self.number += 1
        header = Header(kind, self.route.epoch, self.name, self.number, moment.wall, pair)
        self._append(header, payload)
        self.traffic.frames += 1
        self.traffic.bytes += len(payload)
        self.traffic.last_frame_time = moment.wall
        return frame(self.route.exchange.name, self.route.channel, header, payload), moment

    def log(self, kind: Kind, pairs: Iterable[Pair], book: Checkpoint | None = None, reason: str = "") -> None:
        """Log what the connection is now, with one book or without. `reason`: why there is no connection."""
        exchange, is_rest = self.route.exchange, self._transport is Transport.REST
        moment = self._clock()
        self._clock_lag.look(moment)
        self._is_suspect = self._clock_lag.is_suspect
        value = Facts(
            transport=self._transport,
            url=exchange.rest_url if is_rest else exchange.socket_url(self.route.channel),
            pairs=[str(pair) for pair in pairs],
            code=__version__,
            reason=reason,
            refused=self.refused,
            beside=self._is_beside(),
            clock_suspect=self._is_suspect,
            book=book,
        ).pack()
        if book is not None and len(value) > LARGE_BOOK_BYTES:
            if moment.monotonic - self._large_at.get(book.pair, -LARGE_BOOK_SECONDS) < LARGE_BOOK_SECONDS:
                return
            self._large_at[book.pair] = moment.monotonic
        self._append(self._header(kind, moment), value)

    async def take_place_in_log(self) -> None:
        """Return at once, but while another process appends beside us: once our records have their place in the log.

        An event that both processes bring is one row, because the log tells that their connections overlap. So our
        opening must come before what the exchange sends us, also among the other process's records. The disk that both
        share decides the order. Raises `DeliveryError`.
        """
        place = (self.route.topic, self.route.exchange.partition)
        if self._is_beside() or self._broker.has_guest(*place):
            await asyncio.to_thread(self._broker.flush, [place])

    def close(self, reason: str) -> None:
        """Log the end of the connection."""
        facts = Facts(
            transport=self._transport,
            reason=reason,
            code=__version__,
            beside=self._is_beside(),
            clock_suspect=self._clock_lag.is_suspect,
        )
        self.is_open = False
        self._append(self._header(Kind.CLOSED, self._clock()), facts.pack())

    def report_served(self, pairs: Iterable[Pair], moment: Instant) -> None:
        """Report that the books of these pairs can be trusted, for the first time or again."""
        self._gap_reports.served(pairs, self.name, moment.wall)

    def report_lost(self, pair: Pair, cause: Cause, reason: str) -> None:
        """Report and count a book that cannot be trusted from now on."""
        self.traffic.lost += 1
        self._gap_reports.lost(pair, self.name, cause, reason, self._clock().wall)

    @property
    def has_new_doubt(self) -> bool:
        """Whether our clock has become suspect, or right again, since our last record."""
        return self._clock_lag.is_suspect != self._is_suspect

    def turned(self, moment: Instant) -> bool:
        """Return whether checkpoints are due: true once for each window, shortly before it begins."""
        before, self._window = self._window, self._window_of(moment.wall)
        return self._window != before

    def _window_of(self, wall: Microseconds) -> int:
        return (wall + BEFORE_BOUNDARY) // self.route.window

    def _is_beside(self) -> bool:
        return self._broker.host(self.route.topic, self.route.exchange.partition) is not None

    def _header(self, kind: Kind, moment: Instant) -> Header:
        return Header(kind, self.route.epoch, self.name, self.number, moment.wall)

    def _append(self, header: Header, value: bytes) -> None:
        self._broker.append(self.route.topic, self.route.exchange.partition, header.pack(), value)
        self._gap_reports.record(header, value)
