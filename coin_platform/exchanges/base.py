"""The contract of an exchange, its limits, its refusal rules, and its raw partitions (`Source`)."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple

import msgspec

from coin_platform.book import Applied, Book
from coin_platform.errors import ChecksumMismatch, DecodeError, UnknownPair
from coin_platform.exchanges.checks import check_event
from coin_platform.exchanges.parsing import PARSE_ERRORS
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
    Instrument,
    Kind,
    Microseconds,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Ticker,
    Trade,
)
from coin_platform.topic_names import dead_letter_topic, processed_topic

_FRAME_MAX_BYTES = 512 << 10  # the largest usual answers have a tenth of it; reading this much takes 50 ms
_LIST_MAX_BYTES = 8 << 20  # of a list of all markets, of which one comes in 10 minutes; the largest has about half
_LIST_ROWS = 6_000  # the longest list has 3,500; this many are read in 50 ms
_LIST_COMMAS = 600_000  # the longest list has 400,000; so many values, each kept undecoded, take 50 MB
_BAN_STATUSES = (HTTPStatus.FORBIDDEN, HTTPStatus.IM_A_TEAPOT, HTTPStatus.TOO_MANY_REQUESTS)


class Request(NamedTuple):
    """A message that subscribes or unsubscribes `pairs`. The exchange's answer repeats `id`, unless `id` is None."""

    payload: str
    pairs: tuple[Pair, ...]
    id: int | None = None


class Limits(NamedTuple):
    """Half of what the exchange publishes, or a modest number where it publishes nothing."""

    pairs_per_connection: int = 100
    pairs_per_request: int = 50
    messages_per_second: float = 2.0
    connects_per_minute: float = 30.0
    requests_per_second: float = 1.0


class RefusalRule(NamedTuple):
    """What an exchange means by a refusal whose reason matches `pattern`.

    A rate limit forbids all requests for some time. The first of these that is known is the length:
    1. the length that the answer names,
    2. `ban_seconds` of the rule,
    3. `ban_seconds` of the exchange.
    """

    pattern: str  # a regular expression; upper and lower case are equal
    refusal: Refusal = Refusal.TEMPORARY
    is_rate_limit: bool = False
    ban_seconds: float | None = None

    def matches(self, reason: str) -> bool:
        """Return whether the rule is about a refusal with this reason."""
        return re.search(self.pattern, reason, re.IGNORECASE) is not None


# The event of a ticker of a market in which nothing was traded yet. It is not an error, and it becomes no row.
TICKER_WITHOUT_PRICE = Control(name="ticker without a price")
# Behind the events of a list of markets: the list is whole, so a pair that it does not name is not listed.
WHOLE_LIST = Control(name="whole list of markets")
# Instead of `WHOLE_LIST`: some row could not be read, so a pair that the list does not name may still be listed.
LIST_WITH_UNREADABLE_ROWS = Control(name="list of markets with unreadable rows")
# Our own reason of a refusal where an exchange answers an unknown pair with an empty list.
NO_SUCH_MARKET = "no such market"
_NO_SUCH_MARKET_RULE = RefusalRule(rf"^{NO_SUCH_MARKET}$", Refusal.FINAL)
_REASON_CHARACTERS = 1000  # the rules look at so much of a reason: an exchange's own reasons are shorter


class Exchange(ABC):
    """One exchange: where it is, what it offers, how to ask for it, and what its frames say.

    Instances hold no state. An exchange is one file here; nothing is registered anywhere.
    """

    name: ClassVar[str]  # lower case: "gateio"
    title: ClassVar[str]  # as in the processed records: "Gateio"
    region: ClassVar[Region]
    partition: ClassVar[int]  # its partition in the topics of its region; it never changes
    quote: ClassVar[str]  # the quote currency of its default pairs
    channels: ClassVar[frozenset[Channel]]  # the channels that it streams
    proof: ClassVar[Proof]
    ws_url: ClassVar[str]
    rest_url: ClassVar[str]
    limits: ClassVar[Limits] = Limits()

    # How a connection is kept, and when it counts as dead.
    ping: ClassVar[str | None] = None  # the message that keeps a connection; None: pings of the protocol are enough
    ping_every: ClassVar[float] = 20.0  # seconds
    silence_seconds: ClassVar[float] = 40.0  # without any frame
    mute_seconds: ClassVar[float] = 120.0  # without any ticker or book, whatever other frames come
    is_sparse: ClassVar[bool] = False  # it may send nothing for minutes, so a pong of the protocol counts as a frame

    # How it answers requests.
    ban_seconds: ClassVar[float] = 10.0  # of HTTP 403, 418 or 429 whose answer names no length
    refusal_rules: ClassVar[tuple[RefusalRule, ...]] = ()  # the first that matches counts; without one: temporary
    replaces_subscription: ClassVar[bool] = False  # a new subscription ends the former one, so it names the whole set
    refuses_whole_request: ClassVar[bool] = False  # one bad pair in a request refuses all its pairs

    # What its books are: see `Book`.
    depth: ClassVar[int | None] = None  # levels a side that its books hold; None: all
    has_deltas: ClassVar[bool] = False  # books come as a snapshot and changes
    is_chained: ClassVar[bool] = False  # each change names its predecessor
    is_bridged: ClassVar[bool] = False  # the snapshot comes over REST

    # What its trades and candles are.
    trades_per_answer: ClassVar[int] = 1000  # the most that a REST answer has, or the greeting of a socket
    has_ids_by_transport: ClassVar[bool] = False  # a trade has another id over REST than on the socket
    # An answer has all minutes of so many seconds before it, except minutes without trades. None: not documented.
    candle_reach_seconds: ClassVar[float | None] = None

    @property
    def can_hide_losses(self) -> bool:
        """Whether a lost change of a book can stay unnoticed.

        That is so where changes have no number. A checksum covers the best levels only and proves nothing about
        the levels behind them.
        """
        return self.has_deltas and self.proof in (Proof.NONE, Proof.CHECKSUM)

    @abstractmethod
    def symbol(self, pair: Pair) -> str:
        """Spell a pair as this exchange does."""

    @abstractmethod
    def pair(self, symbol: str) -> Pair:
        """Read a symbol of this exchange. Raises `UnknownPair`; a frame with such a symbol becomes a dead letter."""

    def only_pair_in(self, payload: bytes, pairs: Iterable[Pair]) -> Pair | None:
        """Return the pair of a message that could not be decoded, or None where it cannot be known.

        A message that names several of these pairs, or none of them, may be about any.
        """
        if len(payload) > _FRAME_MAX_BYTES:
            return None
        named = [pair for pair in pairs if f'"{self.symbol(pair)}"'.encode() in payload]
        return named[0] if len(named) == 1 else None

    @abstractmethod
    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        """Yield the requests for a channel of these pairs. Their ids count up from `id`; `time` is now, UTC."""

    @abstractmethod
    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        """Yield the requests that end a channel of these pairs."""

    def markets_url(self) -> str | None:
        """Return the REST address that lists the markets; None where there is none."""
        return None

    def market_rows(self, payload: bytes) -> Iterable[msgspec.Raw]:
        """Return the rows of the answer of `markets_url`, not yet decoded.

        Raises `DecodeError` for an answer that is not a list of markets.
        """
        raise DecodeError(f"{self.name} lists no markets")

    def instrument(self, row: msgspec.Raw) -> Instrument | None:
        """Return what one row says of its pair; None for a row that is no spot market.

        Raises `DecodeError` for a row that cannot be read, and `UnknownPair` for a market that has no pair's name.
        """
        raise DecodeError(f"{self.name} lists no markets")

    def _instrument(self, row: msgspec.Raw) -> Instrument | None:
        """Return what `instrument` returns. Raises `UnknownPair` also for a market whose symbol is not read as it."""
        instrument = self.instrument(row)
        if instrument is not None and self.pair(self.symbol(instrument.pair)) != instrument.pair:
            raise UnknownPair(f"{str(instrument.pair)[:80]!r} is not read back from its symbol")
        return instrument

    def read_instruments(
        self, rows: Iterable[msgspec.Raw], received_time: Microseconds, *, is_whole: bool = True
    ) -> Iterator[Event]:
        """Yield an event for each row of a list of markets, then `WHOLE_LIST` if the list is whole.

        1. Left out is a market that no pair of ours can name, because nobody can want it.
        2. A row that cannot be read costs itself, and the list is not whole. A list without any other row raises
           `ValueError`: it would tell that all markets are gone.
        """
        readable = unreadable = 0
        for number, row in enumerate(rows, 1):
            if number > _LIST_ROWS:
                raise ValueError(f"a list of more than {_LIST_ROWS} markets")
            try:
                instrument = self._instrument(row)
                if instrument is not None:
                    check_event(instrument, received_time)
            except UnknownPair:
                continue
            except (*PARSE_ERRORS, DecodeError):
                unreadable += 1
                continue
            if instrument is not None:
                readable += 1
                yield instrument
        if is_whole and not readable:
            raise ValueError(f"a list of markets without any, {unreadable} rows cannot be read")
        if unreadable:
            yield LIST_WITH_UNREADABLE_ROWS
        elif is_whole:
            yield WHOLE_LIST

    @abstractmethod
    def read(self, frame: Frame) -> Iterator[Event]:
        """Yield the events of a WebSocket message. A ticker without a last price has an empty `last`."""

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        """Yield the events of a REST answer for `frame.pair` and `frame.channel`."""
        raise DecodeError(f"{self.name} answers nothing over REST for {frame.channel}")

    def socket_url(self, channel: Channel) -> str:
        """Return the address of the socket that carries a channel."""
        return self.ws_url

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        """Return the REST address of a channel of one pair; None where there is none.

        The list of markets is one answer for all pairs: see `markets_url`.
        """
        return None

    def covered_since(self, frame: Frame, events: Iterable[Event]) -> Microseconds | None:
        """Return the time from which on a REST answer has all trades, or all candles, of its pair.

        That is the time of its oldest row. For candles it is also `candle_reach_seconds` before the answer, if that
        is earlier. None means "not known": an answer without rows covers no time unless the exchange documents it.
        """
        times = [event.exchange_time for event in events if isinstance(event, Trade)]
        times += [event.open_time for event in events if isinstance(event, Candle)]
        if frame.channel is Channel.CANDLE and self.candle_reach_seconds is not None:
            times.append(frame.received_time - int(self.candle_reach_seconds * SECOND))
        return min(times, default=None)

    def read_ban(self, status: int, retry_after: float | None, body: bytes, time: Microseconds) -> float:
        """Return for how many seconds nothing may be asked of this exchange after an HTTP answer; 0 where all may.

        `retry_after` is the header of that name, in seconds; `time` is now, UTC. The longest length that the answer
        names counts. A refusal that names none lasts `ban_seconds`.
        """
        if status not in _BAN_STATUSES:
            return retry_after or 0.0 if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 0.0
        lengths = [seconds for seconds in (retry_after, self.read_ban_in_body(body, time)) if seconds is not None]
        return max(lengths, default=self.ban_seconds)

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """Return the length of a ban that the body of a refusal names, in seconds; None where it names none."""
        return None

    def refused(self, frame: Frame, reason: str, *, pair: Pair | None = None, request: int | None = None) -> Refused:
        """Return a frame's refusal, classified by `refusal_rules`. A REST answer is about its own pair."""
        text = reason[:_REASON_CHARACTERS]
        rules = (rule for rule in (_NO_SUCH_MARKET_RULE, *self.refusal_rules) if rule.matches(text))
        rule = next(rules, RefusalRule(""))
        return Refused(
            reason=reason,
            pair=frame.pair if frame.kind is Kind.REST else pair,
            request=request,
            refusal=rule.refusal,
            ban_seconds=self._ban_of(rule, frame) if rule.is_rate_limit else 0.0,
        )

    def _ban_of(self, rule: RefusalRule, frame: Frame) -> float:
        named_seconds = self.read_ban_in_body(frame.payload, frame.received_time)
        if named_seconds is not None:
            return named_seconds
        return self.ban_seconds if rule.ban_seconds is None else rule.ban_seconds

    @property
    def gap_partition(self) -> int:
        """Its partition in the topic of gaps, which all regions share. It never changes, like `partition`."""
        return self.partition * len(Region) + list(Region).index(self.region)

    @property
    def polled(self) -> frozenset[Channel]:
        """The channels that it does not stream but answers over REST."""
        pair = Pair("BTC", self.quote)
        return frozenset(c for c in Channel if c not in self.channels and self.request_url(c, pair))

    def max_bytes(self, frame: Frame) -> int:
        """Return how many bytes a frame may have. A larger one is not read: reading it would delay all others."""
        return _LIST_MAX_BYTES if frame.channel is Channel.INSTRUMENT else _FRAME_MAX_BYTES

    def checksum(self, book: Book) -> int | None:
        """Return the checksum of a book as this exchange computes it; None where it has none."""
        return None

    def book(self) -> Book:
        """Return an empty book that follows this exchange's rules."""
        return Book(is_chained=self.is_chained, is_bridged=self.is_bridged)

    def apply(self, book: Book, update: BookUpdate) -> Applied:
        """Apply an update to a book and check the book's checksum. Raises `BookError`; the book is then invalid."""
        applied = book.apply(update)
        if applied is Applied.APPLIED and update.checksum is not None:
            checksum = self.checksum(book)
            if checksum != update.checksum:
                book.invalidate()
                raise ChecksumMismatch(f"{update.pair}: checksum {checksum}, the exchange says {update.checksum}")
        return applied

    def decode(self, frame: Frame) -> list[Event]:
        """Return the events of a frame, with all their values checked.

        Raises `DecodeError` for every frame that is not as documented, and no other error.
        """
        if len(frame.payload) > self.max_bytes(frame):
            raise DecodeError(f"{self.name}: {len(frame.payload)} bytes are more than any message of it has")
        if frame.channel is Channel.INSTRUMENT and frame.payload.count(b",") > _LIST_COMMAS:
            raise DecodeError(f"{self.name}: more than {_LIST_COMMAS} values are more than any list of markets has")
        try:
            events = list(self.read_rest(frame) if frame.kind is Kind.REST else self.read(frame))
        except PARSE_ERRORS as error:
            raise DecodeError(f"{self.name}: {error!s:.300}") from error
        events = [TICKER_WITHOUT_PRICE if isinstance(event, Ticker) and not event.last else event for event in events]
        for event in events:
            if not isinstance(event, Instrument):  # `read_instruments` has checked it
                check_event(event, frame.received_time)
        return events

    def decode_list(self, frame: Frame) -> list[Instrument]:
        """Return the markets of a list of markets, each pair once: if rows differ, the first that says it is traded.

        Raises `DecodeError` for every other answer, such as a refusal, and no other error.
        """
        events = self.decode(frame)
        markets: dict[Pair, Instrument] = {}
        for event in events:
            if isinstance(event, Instrument) and (event.pair not in markets or not markets[event.pair].state.is_traded):
                markets[event.pair] = event
        if not markets:
            reasons = [event.reason for event in events if isinstance(event, Refused)]
            raise DecodeError(f"{self.name}: {', '.join(reasons) or 'a list of markets without any':.300}")
        return list(markets.values())


class Source(NamedTuple):
    """A partition of a raw topic: one channel of one exchange."""

    exchange: Exchange
    channel: Channel
    topic: str
    partition: int

    @property
    def outputs(self) -> list[tuple[str, int]]:
        """The topic and partition of its processed records, and those of its dead letters."""
        topics = (processed_topic(self.exchange.region, self.channel), dead_letter_topic(self.topic))
        return [(topic, self.partition) for topic in topics]
