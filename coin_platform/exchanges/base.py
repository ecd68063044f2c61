"""What an exchange is: the contract that every file of this folder fulfils."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple

import msgspec

from coin_platform.book import Applied, Book
from coin_platform.errors import ChecksumMismatch, DecodeError
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

_MAX_BYTES = 512 << 10  # bytes; the largest answers have a tenth, and to read this much takes 50 ms
_BAN_STATUSES = (HTTPStatus.FORBIDDEN, HTTPStatus.IM_A_TEAPOT, HTTPStatus.TOO_MANY_REQUESTS)


class Request(NamedTuple):
    """A message that subscribes or unsubscribes `pairs`. `id` is what the exchange's answer repeats, if it does."""

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

    A rate limit forbids to ask for as long as its answer tells, else for `ban_seconds`, else for the exchange's own.
    """

    pattern: str  # a regular expression, searched without regard to case
    refusal: Refusal = Refusal.TEMPORARY
    is_rate_limit: bool = False
    ban_seconds: float | None = None

    def matches(self, reason: str) -> bool:
        """Return whether a refusal is one of these."""
        return re.search(self.pattern, reason, re.IGNORECASE) is not None


"""The value of a field that a message leaves out."""
TICKER_WITHOUT_PRICE = Control(name="ticker without a price")
"""What a ticker says of a market in which nothing was traded yet: nothing, and that is no error."""
NO_SUCH_MARKET = "no such market"  # our own reason where the answer to an unknown pair is an empty list
_NO_SUCH_MARKET_RULE = RefusalRule(rf"^{NO_SUCH_MARKET}$", Refusal.FINAL)
_REASON_CHARACTERS = 1000  # of a refusal, in which its kind is looked for


class Exchange(ABC):
    """One exchange: where it is, what it offers, how to ask for it, and what its frames say.

    Instances hold no state. An exchange is one file here; nothing is registered anywhere.
    """

    name: ClassVar[str]  # lower case: "gateio"
    title: ClassVar[str]  # as in the processed records: "Gateio"
    region: ClassVar[Region]
    partition: ClassVar[int]  # its partition in the topics of its region, for ever
    quote: ClassVar[str]  # quote currency of its default pairs
    channels: ClassVar[frozenset[Channel]]
    proof: ClassVar[Proof]
    ws_url: ClassVar[str]
    rest_url: ClassVar[str]
    limits: ClassVar[Limits] = Limits()
    ping: ClassVar[str | None] = None  # what the client says to be kept; None: protocol pings are enough
    ping_every: ClassVar[float] = 20.0  # seconds
    silence_seconds: ClassVar[float] = 40.0  # seconds without any frame after which a connection is dead
    is_sparse: ClassVar[bool] = False  # it may have nothing to say for minutes: a pong of the protocol is a frame too
    ban_seconds: ClassVar[float] = 10.0  # to ask nothing after HTTP 403, 418 or 429, where the answer tells no length
    candle_reach_seconds: ClassVar[float | None] = None  # how far back an answer tells all minutes, those without
    # trades by leaving them out; None where the exchange does not document that it leaves them out
    mute_seconds: ClassVar[float] = (
        120.0  # seconds without any ticker or book after which it is dead, whatever else comes
    )
    refusal_rules: ClassVar[tuple[RefusalRule, ...]] = ()  # the first that matches counts; none: temporary
    depth: ClassVar[int | None] = None  # levels a side that its books hold; None: all
    replaces_subscription: ClassVar[bool] = (
        False  # a subscription replaces the former one: always ask for the whole set
    )
    refuses_whole_request: ClassVar[bool] = False  # one bad pair in a request refuses the whole request
    has_deltas: ClassVar[bool] = False  # books come as a snapshot and changes
    is_chained: ClassVar[bool] = False  # each change names its predecessor: see `Book`
    trades_per_answer: ClassVar[int] = 1000  # at most that `request_url` asks for, or that a socket greets with
    has_ids_by_transport: ClassVar[bool] = False  # a trade has another id over REST than on the socket
    is_bridged: ClassVar[bool] = False  # the snapshot comes over REST: see `Book`

    @property
    def can_hide_losses(self) -> bool:
        """Whether a book can go on unnoticed after a change was lost.

        Its changes have no number. A checksum covers only the best levels, so what lies behind them is not proved.
        """
        return self.has_deltas and self.proof in (Proof.NONE, Proof.CHECKSUM)

    @abstractmethod
    def symbol(self, pair: Pair) -> str:
        """Spell a pair as this exchange does."""

    @abstractmethod
    def pair(self, symbol: str) -> Pair:
        """Read a symbol of this exchange. Raises `UnknownPair`, which makes a frame a dead letter."""

    def only_pair_in(self, payload: bytes, pairs: Iterable[Pair]) -> Pair | None:
        """Return the one of these pairs that a message is about which gave no data; None if that cannot be told.

        A message that names several pairs, or none, may be about any of them.
        """
        if len(payload) > _MAX_BYTES:
            return None
        named = [pair for pair in pairs if f'"{self.symbol(pair)}"'.encode() in payload]
        return named[0] if len(named) == 1 else None

    @abstractmethod
    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        """Ask for a channel of these pairs. Requests count their ids up from `id`; `time` is now, UTC."""

    @abstractmethod
    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        """Give up a channel of these pairs."""

    def markets_url(self) -> str | None:
        """Return the REST address that lists the markets; None where there is none."""
        return None

    def market_rows(self, payload: bytes) -> Iterable[msgspec.Raw]:
        """Return the rows of the answer of `markets_url`, unread. Raises `DecodeError` for what is no list of them."""
        raise DecodeError(f"{self.name} lists no markets")

    def market(self, row: msgspec.Raw) -> Pair | None:
        """Return the pair of one row if it can be traded now. Raises `DecodeError` for a row that cannot be read."""
        raise DecodeError(f"{self.name} lists no markets")

    def read_markets(self, payload: bytes) -> list[Pair]:
        """Return the pairs that can be traded now, from the answer of `markets_url`.

        A row that cannot be read is left out, and so is a market whose symbol would not be read as its pair again.
        """
        pairs = (self._market(row) for row in self.market_rows(payload))
        return list(dict.fromkeys(pair for pair in pairs if pair is not None))

    def _market(self, row: msgspec.Raw) -> Pair | None:
        try:
            pair = self.market(row)
            return pair if pair is not None and self.pair(self.symbol(pair)) == pair else None
        except PARSE_ERRORS:
            return None

    def decode_markets(self, payload: bytes) -> list[Pair]:
        """Return what `read_markets` does. Raises `DecodeError` for what is no list of markets, and nothing else."""
        try:
            return self.read_markets(payload)
        except PARSE_ERRORS as error:
            raise DecodeError(f"{self.name}: {error!s:.300}") from error

    @abstractmethod
    def read(self, frame: Frame) -> Iterator[Event]:
        """Yield what a WebSocket message says. A ticker without a last price has an empty `last`."""

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        """Yield what a REST answer for `frame.pair` and `frame.channel` says."""
        raise DecodeError(f"{self.name} answers nothing over REST for {frame.channel}")

    def socket_url(self, channel: Channel) -> str:
        """Return the address of the socket that carries a channel."""
        return self.ws_url

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        """Return the REST address of a channel of one pair; None where there is none."""
        return None

    def covered_since(self, frame: Frame, events: Iterable[Event]) -> Microseconds | None:
        """Return since when a REST answer tells all trades, or all minutes, of its pair until it came.

        That is its oldest row, or as far back as `candle_reach_seconds` says. None where it cannot be known: an answer
        without rows tells of no stretch of time unless the exchange documents one.
        """
        times = [event.exchange_time for event in events if isinstance(event, Trade)]
        times += [event.open_time for event in events if isinstance(event, Candle)]
        if frame.channel is Channel.CANDLE and self.candle_reach_seconds is not None:
            times.append(frame.received_time - int(self.candle_reach_seconds * SECOND))
        return min(times, default=None)

    def read_ban(self, status: int, retry_after: float | None, body: bytes, time: Microseconds) -> float:
        """Return for how many seconds this exchange must not be asked anything after an HTTP answer; 0 if it may be.

        `retry_after` is what the header of that name says, in seconds; `time` is now, UTC. The longest time that the
        answer tells counts; where it tells none, a refusal lasts `ban_seconds`.
        """
        if status not in _BAN_STATUSES:
            return retry_after or 0.0 if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 0.0
        lengths = [seconds for seconds in (retry_after, self.read_ban_in_body(body, time)) if seconds is not None]
        return max(lengths, default=self.ban_seconds)

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """Return for how many seconds the body of a refusal forbids to ask; None where it does not say."""
        return None

    def refused(self, frame: Frame, reason: str, *, pair: Pair | None = None, request: int | None = None) -> Refused:
        """Return the refusal that a frame is, told apart by `refusal_rules`. A REST answer concerns its own pair."""
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
        told = self.read_ban_in_body(frame.payload, frame.received_time)
        if told is not None:
            return told
        return self.ban_seconds if rule.ban_seconds is None else rule.ban_seconds

    @property
    def gap_partition(self) -> int:
        """Its partition in the topic of the gaps, where all regions are: for ever, like `partition`."""
        return self.partition * len(Region) + list(Region).index(self.region)

    @property
    def polled(self) -> frozenset[Channel]:
        """The channels that have no stream but a REST address."""
        pair = Pair("BTC", self.quote)
        return frozenset(c for c in Channel if c not in self.channels and self.request_url(c, pair))

    def max_bytes(self, frame: Frame) -> int:
        """Return how many bytes a frame may have to be read: a larger one would hold up everything else."""
        return _MAX_BYTES

    def checksum(self, book: Book) -> int | None:
        """Return the checksum of a book as this exchange computes it; None where it has none."""
        return None

    def book(self) -> Book:
        """Return an empty book that follows this exchange's rules."""
        return Book(is_chained=self.is_chained, is_bridged=self.is_bridged)

    def apply(self, book: Book, update: BookUpdate) -> Applied:
        """Bring an update into a book and prove the result. Raises `BookError`; the book is then invalid."""
        applied = book.apply(update)
        if applied is Applied.APPLIED and update.checksum is not None:
            found = self.checksum(book)
            if found != update.checksum:
                book.invalidate()
                raise ChecksumMismatch(f"{update.pair}: checksum {found}, the exchange says {update.checksum}")
        return applied

    def decode(self, frame: Frame) -> list[Event]:
        """Return what a frame says, all values checked.

        Raises `DecodeError` for whatever is not as documented, and nothing else.
        """
        if len(frame.payload) > self.max_bytes(frame):
            raise DecodeError(f"{self.name}: {len(frame.payload)} bytes are more than any message has")
        try:
            events = list(self.read_rest(frame) if frame.kind is Kind.REST else self.read(frame))
        except PARSE_ERRORS as error:
            raise DecodeError(f"{self.name}: {error!s:.300}") from error
        events = [TICKER_WITHOUT_PRICE if isinstance(event, Ticker) and not event.last else event for event in events]
        for event in events:
            check_event(event, frame.received_time)
        return events


class Source(NamedTuple):
    """A partition of a raw topic: one channel of one exchange."""

    exchange: Exchange
    channel: Channel
    topic: str
    partition: int

    @property
    def outputs(self) -> list[tuple[str, int]]:
        """The topics and partitions in which its processed records and its dead letters are."""
        topics = (processed_topic(self.exchange.region, self.channel), dead_letter_topic(self.topic))
        return [(topic, self.partition) for topic in topics]
