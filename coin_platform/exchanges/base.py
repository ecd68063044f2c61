"""What an exchange is: the contract that every file of this folder fulfils."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from itertools import islice
from typing import ClassVar, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from coin_platform.book import Applied, Book
from coin_platform.errors import BadTime, ChecksumMismatch, DecodeError, UnknownPair
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
    Kind,
    Level,
    Microseconds,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Subscribed,
    Ticker,
    Trade,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_TIME: Microseconds = 1_230_940_800 * SECOND  # 2009-01-03: no market is older than Bitcoin
_AHEAD: Microseconds = 3600 * SECOND
_LEAP_SECOND = re.compile(r"([T ]\d\d:?59:?)60")  # of UTC; zones are whole hours away from it
_UNREADABLE = (msgspec.MsgspecError, UnknownPair, ValueError, ArithmeticError, LookupError, RecursionError)
_LARGEST = 512 << 10  # bytes; the largest answers have a tenth, and to read this much takes 50 ms
_BANS = (HTTPStatus.FORBIDDEN, HTTPStatus.IM_A_TEAPOT, HTTPStatus.TOO_MANY_REQUESTS)
LONGEST_BAN_SECONDS = 30 * 86_400.0  # the longest documented ban is 3 days: a longer time is a mistake or an attack
_BAN_TEXT_BYTES = 4096  # of an answer, in which the length of a ban is looked for
_MOST = 1e24  # no price, size or volume is larger: a token whose supply is 10^18 may cost 10^-12
_MOST_INTEGER = 2**63 - 1  # what a column of a table holds, and what exchanges count with
_MOST_LEVELS = 100_000  # a side of a book

T = TypeVar("T")


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


ABSENT = msgspec.Raw(b"")
"""The value of a field that a message leaves out."""

WITHOUT_A_PRICE = Control(name="ticker without a price")
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
    silence: ClassVar[float] = 40.0  # seconds without any frame after which a connection is dead
    is_sparse: ClassVar[bool] = False  # it may have nothing to say for minutes: a pong of the protocol is a frame too
    ban_seconds: ClassVar[float] = 10.0  # to ask nothing after HTTP 403, 418 or 429, where the answer tells no length
    candle_reach_seconds: ClassVar[float | None] = None  # how far back an answer tells all minutes, those without
    # trades by leaving them out; None where the exchange does not document that it leaves them out
    flow: ClassVar[float] = 120.0  # seconds without any ticker or book after which it is dead, whatever else comes
    refusal_rules: ClassVar[tuple[RefusalRule, ...]] = ()  # the first that matches counts; none: temporary
    depth: ClassVar[int | None] = None  # levels a side that its books hold; None: all
    replaces: ClassVar[bool] = False  # a subscription replaces the former one: always ask for the whole set
    refuses_all: ClassVar[bool] = False  # one bad pair in a request refuses the whole request
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
        if len(payload) > _LARGEST:
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
        except _UNREADABLE:
            return None

    def decode_markets(self, payload: bytes) -> list[Pair]:
        """Return what `read_markets` does. Raises `DecodeError` for what is no list of markets, and nothing else."""
        try:
            return self.read_markets(payload)
        except _UNREADABLE as error:
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
        if status not in _BANS:
            return retry_after or 0.0 if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 0.0
        lengths = [seconds for seconds in (retry_after, self.told_ban(body, time)) if seconds is not None]
        return max(lengths, default=self.ban_seconds)

    def told_ban(self, body: bytes, time: Microseconds) -> float | None:
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
        told = self.told_ban(frame.payload, frame.received_time)
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

    def largest(self, frame: Frame) -> int:
        """Return how many bytes a frame may have to be read: a larger one would hold up everything else."""
        return _LARGEST

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
        if len(frame.payload) > self.largest(frame):
            raise DecodeError(f"{self.name}: {len(frame.payload)} bytes are more than any message has")
        try:
            events = list(self.read_rest(frame) if frame.kind is Kind.REST else self.read(frame))
        except _UNREADABLE as error:
            raise DecodeError(f"{self.name}: {error!s:.300}") from error
        events = [WITHOUT_A_PRICE if isinstance(event, Ticker) and not event.last else event for event in events]
        for event in events:
            _check(event, frame.received_time)
        return events


def _check(event: Event, received_time: Microseconds) -> None:
    """Raise `DecodeError` for values that no market has: what passes here may be computed with and stored."""
    match event:
        case BookUpdate():
            _check_levels(event.pair, event.bids)
            _check_levels(event.pair, event.asks)
            _check_integer("first sequence", event.first_sequence)
            _check_integer("last sequence", event.last_sequence)
            _check_integer("checksum", event.checksum, -_MOST_INTEGER)  # OKX's is signed
            _check_integer("depth", event.depth, 1, _MOST_LEVELS)
        case Ticker():
            for name, least, is_exclusive in _TICKER_NUMBERS:
                text = getattr(event, name)
                if text is not None:  # half of them are: a call saved each
                    _check_number(event.pair, name, text, least, exclusive=is_exclusive)
        case Trade():
            _check_value(event.pair, "price", event.price, 0.0, exclusive=True)
            _check_value(event.pair, "size", event.size, 0.0)
            _check_id(event.id)
            if event.count != 1:  # of few exchanges, and few of theirs
                _check_count(event.id, event.count)
        case Candle():
            for name in ("open", "high", "low", "close"):
                _check_value(event.pair, name, getattr(event, name), 0.0, exclusive=True)
            for name in ("volume", "quote_volume"):
                _check_value(event.pair, name, getattr(event, name), 0.0)
            _check_time(event.pair, event.open_time, received_time)
        case Subscribed():
            _check_integer("request", event.request)
            _check_integer("depth", event.depth, 1, _MOST_LEVELS)
            return
        case Refused():
            _check_integer("request", event.request)
            return
        case _:
            return
    _check_time(event.pair, event.exchange_time, received_time)


def _check_integer(name: str, value: int | None, least: int = 0, most: int = _MOST_INTEGER) -> None:
    if value is not None and not least <= value <= most:
        # Python writes out no integer of more than 4,300 digits.
        text = str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
        raise DecodeError(f"{name} is {text}, not between {least} and {most}")


def _check_id(text: str | None) -> None:
    """Check the id of a trade: where it is a number, it is one of the exchange's integers."""
    if text is None:
        return
    digits = text.removeprefix("-")
    is_integer = digits.isdecimal()
    if not text or (is_integer and (digits != text or int(digits.lstrip("0")[:20] or "0") > _MOST_INTEGER)):
        raise DecodeError(f"id of a trade is {text[:40]!r}, not between 0 and {_MOST_INTEGER}")


def _check_count(id: str | None, count: int) -> None:
    """Check how many trades one stands for: their ids end in its own."""
    _check_integer("count of trades", count, 1)
    if id is None or not id.isdecimal() or int(id) < count - 1:
        raise DecodeError(f"{count} trades cannot have ids that end in {id!r:.40}")


_PRICES = (
    *("last", "open_24h", "high_24h", "low_24h", "open_day", "high_day", "low_day", "prev_close_day"),
    *("best_bid", "best_ask"),
)
_SIZES = ("volume_24h", "quote_volume_24h", "best_bid_size", "best_ask_size")
_CHANGES = ("change_24h", "change_rate_24h", "change_day", "change_rate_day")
_TICKER_NUMBERS = (  # field, what it must not be below, and whether it must be above that
    *((name, 0.0, True) for name in _PRICES),
    *((name, 0.0, False) for name in _SIZES),
    *((name, -_MOST, False) for name in _CHANGES),
)


def _check_number(pair: Pair, name: str, text: str, least: float, *, exclusive: bool) -> None:
    try:
        value = float(text)
        is_plain = not text.strip("0123456789.eE+-")  # float() also reads 1_000, ' 1' and the digits of other scripts
    except ValueError:
        is_plain = False
    if not is_plain:
        raise DecodeError(f"{pair}: {name} is {text[:40]!r}, not a number")
    if not least < value < _MOST:
        _check_value(pair, name, value, least, exclusive=exclusive)


def _check_value(pair: Pair, name: str, value: float | None, least: float, *, exclusive: bool = False) -> None:
    if value is None or (value == least and not exclusive) or least < value < _MOST:
        return
    raise DecodeError(f"{pair}: {name} is {value}")


def _check_levels(pair: Pair, levels: list[Level]) -> None:
    for level in levels:
        if not (0.0 < level.price < _MOST and 0.0 <= level.size < _MOST):
            raise DecodeError(f"{pair}: level {level.price} x {level.size} cannot be")


def _check_time(pair: Pair, time: Microseconds | None, received_time: Microseconds) -> None:
    _check_integer("exchange time", time, -_MOST_INTEGER)
    if time is not None and not _FIRST_TIME <= time <= received_time + _AHEAD:
        raise BadTime(f"{pair}: bad_time: exchange time {time} µs, received at {received_time} µs", time)


def relocate(url: str, exchange: str, host: str) -> str:
    """Return the simulated twin of an address: `wss://…/v2` becomes `ws://HOST/kraken/v2`, https likewise."""
    parts = urlsplit(url)
    return parts._replace(scheme=parts.scheme.removesuffix("s"), netloc=host, path=f"/{exchange}{parts.path}").geturl()


# How exchanges write things: used by the files of this folder.


def number(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a number, or None for null and the empty text."""
    if raw is None or isinstance(raw, str):
        return raw or None
    text = bytes(raw).decode()
    return text.strip('"') if text not in ("", "null", '""') else None


def last_price(raw: msgspec.Raw | str | None) -> str:
    """Return the exchange's own digits of a last price, or the empty text where there is none: see `price`."""
    return price(raw) or ""


def price(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a price; None for null, the empty text and 0, which mean "none here"."""
    text = number(raw)
    return None if text is None or float(text) == 0 else text


def milliseconds(value: int) -> Microseconds:
    """Return a time given in whole ms since 1970."""
    return value * 1000


def rfc3339(text: str) -> Microseconds | None:
    """Return a time written like `2026-08-02T03:35:51.660084Z`; None for 1970 and before, which mean "unknown".

    A leap second, `23:59:60`, is the second after it: our times have none. Raises `ValueError`.
    """
    try:
        time, leap = datetime.fromisoformat(text), 0
    except ValueError:
        before, leap = _LEAP_SECOND.subn(r"\g<1>59", text)
        if not leap:
            raise
        time = datetime.fromisoformat(before)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1) + leap * SECOND if time.year > 1970 else None


def difference(one: str | None, other: str | None) -> str | None:
    """Return `one - other` as a plain decimal, exact to the last digit that either text has; None if one is unknown."""
    if not one or not other:
        return None
    return f"{Decimal(one) - Decimal(other):f}"


def plausible_ban(seconds: float) -> float | None:
    """Return the length of a ban as it is, or None where no exchange means it: negative, or above the longest ban."""
    return seconds if 0.0 <= seconds <= LONGEST_BAN_SECONDS else None


_UNIT_SECONDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "초"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "분"), 60.0),
    **dict.fromkeys(("h", "hour", "hours", "시간"), 3600.0),
    **dict.fromkeys(("d", "day", "days", "일"), 86_400.0),
}
_UNITS = "|".join(sorted(_UNIT_SECONDS, key=len, reverse=True))
_LENGTH = rf"(\d{{1,12}}(?:\.\d{{1,6}})?)[\s-]{{0,3}}({_UNITS})(?![a-z])"
_LENGTHS = re.compile(rf"{_LENGTH}(?:[\s,]{{0,3}}(?:and\s)?{_LENGTH})*", re.IGNORECASE)
_ONE_LENGTH = re.compile(_LENGTH, re.IGNORECASE)


def seconds_in(body: bytes) -> float | None:
    """Return the longest length of time that a JSON answer or a text names, like `1 minute 30 seconds` or `30초`.

    Return None where the text names none, or none that an exchange means.
    """
    try:
        text = str(msgspec.json.decode(body))  # Korean may be escaped
    except _UNREADABLE:
        text = body.decode(errors="replace")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text[:_BAN_TEXT_BYTES])
    totals = [
        sum(float(amount) * _UNIT_SECONDS[unit.lower()] for amount, unit in _ONE_LENGTH.findall(lengths[0]))
        for lengths in _LENGTHS.finditer(text)
    ]
    return max((total for total in totals if total and plausible_ban(total) is not None), default=None)


decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def cut(symbol: str, quotes: Iterable[str], known: Mapping[str, str]) -> Pair:
    """Return the pair of a symbol without a separator, by the quote currency that it ends in.

    `known` has the quote of symbols that could be cut in two ways. Raises `UnknownPair` for any other such symbol.
    """
    fitting = [known[symbol]] if symbol in known else [quote for quote in quotes if symbol.endswith(quote)]
    if len(fitting) != 1:
        raise UnknownPair(
            f"{symbol[:80]!r} cannot be cut surely: it ends in {' or '.join(fitting) or 'no known quote'}"
        )
    return Pair.read(f"{symbol.removesuffix(fitting[0])}-{fitting[0]}")


def chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Cut what comes into tuples of at most `size`."""
    rest = iter(items)
    while some := tuple(islice(rest, size)):
        yield some
