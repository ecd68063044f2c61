"""The platform's values: regions, channels, pairs, frames, the events of a frame, windows and gaps.

Times are UTC, in whole microseconds since 1970 (`Microseconds`). Prices are in quote currency, sizes in base currency.
"""

import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec

from coin_platform.errors import UnknownPair

Microseconds: TypeAlias = int
SECOND: Microseconds = 1_000_000


class Region(StrEnum):
    """Where an exchange is; used for grouping only."""

    KOREA = "korea"
    ASIA = "asia"
    NE = "ne"


class Channel(StrEnum):
    """What a connection carries."""

    TICKER = "ticker"
    ORDERBOOK = "orderbook"
    TRADE = "trade"
    CANDLE = "candle"
    INSTRUMENT = "instrument"


class Proof(StrEnum):
    """How far an exchange's book can be trusted: by what a missing message shows."""

    CHECKSUM = "checksum"
    SEQUENCE = "sequence"
    SNAPSHOT = "snapshot"  # each message is the whole book
    NONE = "none"  # changes of a book have neither a number nor a checksum: a missing one does not show


class Pair(NamedTuple):
    """Base and quote currency as the exchange spells them: `Pair("BTC", "KRW")` is written `BTC-KRW`.

    A name has letters and digits of any script, and dots. Upper and lower case are different: Kraken has `NVDAx`.
    """

    base: str
    quote: str

    def __str__(self) -> str:
        return f"{self.base}-{self.quote}"

    @staticmethod
    @lru_cache(4096)  # each frame names a pair, and there are few
    def read(text: str) -> "Pair":
        """Return the pair of a text as `str` writes it. Raises `UnknownPair`, whose text shows the right form."""
        base, _, quote = text.partition("-")
        if not (_is_name(base) and _is_name(quote)):
            raise UnknownPair(f"{text[:80]!r} is not a pair: write BASE-QUOTE, for example BTC-KRW")
        return Pair(base, quote)

    @staticmethod
    def parse(text: str) -> "Pair":
        """Return the pair that a person wrote. A name in lower case means the name in upper case: `btc-krw`.

        Raises `UnknownPair`, like `read`.
        """
        names = text.strip().split("-")
        return Pair.read("-".join(name.upper() if name.islower() else name for name in names))


_NAME_CHARACTERS = 64  # at most; the names of currencies have fewer than 20


def _is_name(text: str) -> bool:
    """Return whether a text may name a currency. Such a text stays whole in headers, paths and JSON."""
    return (
        0 < len(text) <= _NAME_CHARACTERS
        and text[0].isalnum()
        and all(character == "." or unicodedata.category(character)[0] in "LNM" for character in text)
    )


class Kind(StrEnum):
    """What kind of record of a raw topic this is."""

    SOCKET = "w"
    REST = "r"
    OPENED = "o"
    CLOSED = "c"
    CHECKPOINT = "k"
    PAIRS = "p"

    @property
    def is_frame(self) -> bool:
        """Whether it is a frame: the exchange's own words, with a number. All other kinds are our own records."""
        return self in (Kind.SOCKET, Kind.REST)


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket message or REST answer, exactly as the exchange sent it, and where it came from.

    `(exchange, epoch, connection, number)` is its identity. Numbers are 1, 2, 3 ... within a connection.
    """

    exchange: str
    channel: Channel
    connection: str
    number: int
    received_time: Microseconds
    payload: bytes
    epoch: int = 0
    kind: Kind = Kind.SOCKET
    pair: Pair | None = None  # set on REST answers, which often do not name it


class Level(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One price of an order book and the size that is offered there. Size 0 deletes the level."""

    price: float
    size: float


class TextLevel(Level, frozen=True, gc=False, array_like=True):
    """A level with the text of which the exchange's checksum is computed, in the exchange's own digits."""

    text: str = ""


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one pair. Values keep the exchange's own text; `None` means "not known".

    `…_24h` is of the last 24 hours, `…_day` of the exchange's calendar day. Rates are fractions: 0.01 is one per cent.
    """

    pair: Pair
    last: str
    exchange_time: Microseconds | None = None
    open_24h: str | None = None
    high_24h: str | None = None
    low_24h: str | None = None
    change_24h: str | None = None
    change_rate_24h: str | None = None
    open_day: str | None = None
    high_day: str | None = None
    low_day: str | None = None
    prev_close_day: str | None = None
    change_day: str | None = None
    change_rate_day: str | None = None
    volume_24h: str | None = None
    quote_volume_24h: str | None = None
    best_bid: str | None = None
    best_bid_size: str | None = None
    best_ask: str | None = None
    best_ask_size: str | None = None


class BookUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A whole book (`is_snapshot`) or the levels that changed.

    Sequences are normalised: the `first_sequence` of the next update is the `last_sequence` of this one plus 1.
    """

    pair: Pair
    is_snapshot: bool
    bids: list[Level]
    asks: list[Level]
    exchange_time: Microseconds | None = None
    first_sequence: int | None = None
    last_sequence: int | None = None
    checksum: int | None = None
    depth: int | None = None  # of a snapshot: the exchange sends the changes of so many levels a side


class Side(StrEnum):
    """The taker's side."""

    BUY = "buy"
    SELL = "sell"


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade, or several trades that the exchange sends as one.

    `id` is the exchange's own text and `side` is the taker's. Both are `None` where the exchange does not say.
    A `count` above 1 is the number of trades that it stands for: their ids are consecutive, and the last one is `id`.
    """

    pair: Pair
    id: str | None
    price: float
    size: float
    side: Side | None
    exchange_time: Microseconds
    count: int = 1


class Instant(NamedTuple):
    """Now, on two clocks: `wall` is the time of day (UTC, µs), `monotonic` measures durations (seconds)."""

    wall: Microseconds
    monotonic: float


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of a pair. `is_closed` is `None` where the exchange does not say."""

    pair: Pair
    open_time: Microseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    is_closed: bool | None = None
    exchange_time: Microseconds | None = None


class InstrumentState(StrEnum):
    """Whether a pair can be traded on its exchange."""

    TRADING = "trading"
    LIMITED = "limited"  # some orders are accepted: limit orders, sales only ...
    HALTED = "halted"  # listed, and no order is executed now
    UPCOMING = "upcoming"  # listed, and not traded yet
    DELISTED = "delisted"  # the exchange says so, or its complete list does not name the pair any more
    UNKNOWN = "unknown"  # the exchange tells no state, or one that its documents do not name

    @property
    def is_traded(self) -> bool:
        """Whether orders are executed now."""
        return self in (InstrumentState.TRADING, InstrumentState.LIMITED)


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange lists of one pair. Numbers keep the exchange's own text; `None` means "not told"."""

    pair: Pair
    state: InstrumentState
    exchange_state: str | None = None  # the exchange's own word
    tick_size: str | None = None  # the smallest step of a price, in quote currency
    size_step: str | None = None  # the smallest step of an order's size, in base currency
    min_size: str | None = None  # of an order, in base currency
    min_value: str | None = None  # of an order, in quote currency
    listed_time: Microseconds | None = None  # when trading began, or will begin
    exchange_time: Microseconds | None = None


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange confirmed a subscription: of one pair, or of all pairs of a numbered request."""

    pair: Pair | None = None
    request: int | None = None
    depth: int | None = None  # of a book


class Refusal(StrEnum):
    """What a refusal is about, and how long it lasts."""

    FINAL = "final"  # the exchange does not have this pair, so we do not ask again
    TEMPORARY = "temporary"  # rate limit, internal error, maintenance, no answer: we ask again, with growing delays
    CONNECTION = "connection"  # the exchange refuses the whole connection, so we open another one


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange refused a request. Exchanges differ in whether a refusal names the pair, the request or both.

    Nothing may be asked of the exchange for `ban_seconds`, as it says or documents. 0: the refusal is not a rate limit.
    """

    reason: str
    pair: Pair | None = None
    request: int | None = None
    refusal: Refusal = Refusal.TEMPORARY
    ban_seconds: float = 0.0


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A frame without market data: a heartbeat, a pong, a status, an unsubscription ..."""

    name: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange announced the end of this connection, so another connection should take over."""

    reason: str


Data: TypeAlias = Ticker | BookUpdate | Trade | Candle | Instrument
Event: TypeAlias = Data | Subscribed | Refused | Control | Notice


class Window(NamedTuple):
    """A stretch of the log's time, `[start, stop)`, UTC."""

    start: Microseconds
    stop: Microseconds


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a feed that is known to be missing. `(exchange, channel, pair, start)` is its key."""

    exchange: str
    channel: Channel
    pair: Pair | None  # None: all pairs that the feed carried
    start: Microseconds  # when the last frame before it was received
    stop: Microseconds | None  # when the first frame after it was received; None while it lasts
    cause: str
    reason: str = ""  # the words of the exchange or of the network, or our own
    filled_by: str | None = None  # "rest": its trades or candles were fetched afterwards


class Cause(StrEnum):
    """Why there is a gap."""

    DISCONNECT = "disconnect"  # the exchange or the network ended the connection
    SILENCE = "silence"  # the connection was open, but nothing came
    UNREACHABLE = "unreachable"  # the pair was wanted, and no connection to the exchange could be opened
    REFUSED = "refused"  # the exchange refused the pair, or the connection
    STOPPED = "stopped"  # the collector was told to stop
    KILLED = "killed"  # the collector ended without writing that it would
    LOST_FRAMES = "lost_frames"  # numbers are missing: frames were read, but never reached the log
    SPOOL_OVERFLOW = "spool_overflow"  # the same, as the collector itself reports it
    SEQUENCE = "sequence"  # a book message is missing, by its number
    CHECKSUM = "checksum"  # the book does not have the checksum that was sent
    CHECKPOINT = "checkpoint"  # the stored book is not the book that the collector had
    NO_BOOK = "no_book"  # changes of a book of which no record says how it began
    BUDGET = "budget"  # the connection brought more than the disk took
    UNREADABLE = "unreadable"  # a message could not be read, and nothing else proves the book
    RETENTION = "retention_loss"  # records were trimmed before they were stored
    NEW_LOG = "new_log"  # the topic was lost and began anew: its last records were never stored
