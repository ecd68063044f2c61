"""Kraken spot, WebSocket v2: what we send, and what its messages mean.

Source: https://docs.kraken.com/exchange/api-reference
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import ClassVar, TypeVar

import msgspec

from coin_platform.book import Book
from coin_platform.errors import DecodeError
from coin_platform.exchanges.bans import plausible_ban
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import (
    ABSENT,
    chunks,
    difference,
    from_rfc3339,
    last_price,
    number,
    price,
    split_symbol,
    step,
)
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
    Instrument,
    InstrumentState,
    Level,
    Microseconds,
    Pair,
    Proof,
    Refusal,
    Region,
    Side,
    Subscribed,
    TextLevel,
    Ticker,
    Trade,
)

Entry = TypeVar("Entry")

DEPTHS = (10, 25, 100, 500, 1000)  # levels a side that can be subscribed
DEPTH = 100
MAX_DIGITS = 30  # before or behind the point: 1E+999999999 written out would fill the memory
CHANNEL_NAMES = {
    Channel.TICKER: "ticker",
    Channel.ORDERBOOK: "book",
    Channel.TRADE: "trade",
    Channel.CANDLE: "ohlc",
    Channel.INSTRUMENT: "instrument",
}
OPTIONS: dict[Channel, dict[str, object]] = {
    Channel.TICKER: {"event_trigger": "bbo"},
    Channel.ORDERBOOK: {"depth": DEPTH},
    Channel.CANDLE: {"interval": 1},
}

# https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/instrument
MARKET_STATES = {
    "online": InstrumentState.TRADING,
    **dict.fromkeys(("limit_only", "post_only", "reduce_only"), InstrumentState.LIMITED),
    **dict.fromkeys(("cancel_only", "maintenance", "work_in_progress"), InstrumentState.HALTED),
    "delisted": InstrumentState.DELISTED,
}


class Kraken(Exchange):
    """Kraken: changes of a book have no number, but every message has a checksum of the best ten levels.

    How a local book is kept (https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2):

    1. A snapshot replaces the book. A change applies its levels in their order: sizes are absolute, and size 0 deletes.
    2. After each message each side is cut to the subscribed depth. A level that falls out is not deleted by a message,
       and is sent again when it comes back.
    3. The checksum's text is the ten best asks, then the ten best bids, best first. Each level is the digits of its
       price and of its size as they were sent, without the point and without leading zeros.
    4. The checksum is the CRC32 of that text.
    5. A wrong checksum is the only sign of a lost message: the pair is subscribed anew.

    `Book` follows rules 1 and 2 by the depth of the snapshot, `_text_level` and `checksum` follow rules 3 and 4.
    """

    name = "kraken"
    title = "Kraken"
    region = Region.NE
    partition = 1
    quote = "USD"
    channels = frozenset(Channel)
    proof = Proof.CHECKSUM
    ws_url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"
    depth = DEPTH
    has_deltas = True
    ping = '{"method":"ping"}'
    ping_every = 5.0
    silence_seconds = 15.0  # a heartbeat comes every second

    # Limits: 150 connections in 10 minutes, REST requests about 1/s. No limit of subscriptions is published. A ban by
    # Cloudflare lasts 10 minutes.
    limits = Limits(messages_per_second=5, connects_per_minute=7, requests_per_second=0.5)
    ban_seconds = 600.0

    # https://docs.kraken.com/api/docs/guides/spot-errors
    # 1. A lockout lasts 15 minutes.
    # 2. In maintenance one request in 5 seconds is allowed. `EService:Throttled` names its end.
    refusal_rules = (
        RefusalRule(r"currency pair not|(unknown|invalid) asset pair|symbol\S* not (found|supported)", Refusal.FINAL),
        RefusalRule(r"EGeneral:Temporary lockout", is_rate_limit=True, ban_seconds=900.0),
        RefusalRule(r"^exceeded msg rate|^EService:", is_rate_limit=True, ban_seconds=5.0),
        RefusalRule(r"EAPI:Rate limit|EGeneral:Too many requests|rate limit", is_rate_limit=True, ban_seconds=15.0),
        RefusalRule(
            r"unavailable on this endpoint|ESession:|EAuth|EAPI:Invalid|EGeneral:Permission denied", Refusal.CONNECTION
        ),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}/{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        base, slash, quote = symbol.partition("/")
        if not slash:
            base, quote = KrakenOldNames.split(symbol)
        return Pair.read(f"{KrakenOldNames.current(base)}-{KrakenOldNames.current(quote)}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("unsubscribe", channel, pairs, id)

    def _requests(self, method: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        if channel is Channel.INSTRUMENT:  # names no pairs: it is about all that are listed
            which = {"include_tokenized_assets": True} if method == "subscribe" else {}
            list_body = {"method": method, "params": {"channel": CHANNEL_NAMES[channel], **which}, "req_id": id}
            if pairs:
                yield Request(msgspec.json.encode(list_body).decode(), tuple(pairs), id)
            return
        options = OPTIONS.get(channel, {})
        if method == "unsubscribe" and channel is Channel.TICKER:
            options = {}
        for request_id, chunk in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            params = {"channel": CHANNEL_NAMES[channel], "symbol": [self.symbol(pair) for pair in chunk], **options}
            body = {"method": method, "params": params, "req_id": request_id}
            yield Request(msgspec.json.encode(body).decode(), chunk, request_id)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.method or head.error:
            yield self._answer(frame, head)
            return
        match head.channel:
            case "ticker":
                for ticker in decode_tickers(frame.payload).data:
                    yield self._ticker(ticker)
            case "book":
                if head.type not in ("snapshot", "update"):
                    raise ValueError(f"type {head.type!r} is not known")
                for row in decode_books(frame.payload).data:
                    yield self._book(row, is_snapshot=head.type == "snapshot")
            case "trade":
                yield from map(self._trade, decode_trades(frame.payload).data)
            case "ohlc":
                yield from map(self._candle, (row for row in decode_candles(frame.payload).data if row.interval == 1))
            case "":
                raise ValueError("neither channel nor method")
            case "instrument":
                is_whole = {"snapshot": True, "update": False}[head.type]
                rows = decode_instruments(frame.payload).data.pairs
                yield from self.read_instruments(rows, frame.received_time, is_whole=is_whole)
                if not is_whole:
                    yield Control(name=head.channel)  # an update may tell of assets only
            case "heartbeat" | "status" | "level3" as name:
                yield Control(name=name)
            case unknown:
                raise ValueError(f"channel {unknown!r} is not known")

    def _answer(self, frame: Frame, head: KrakenHead) -> Event:
        symbol = head.symbol or (head.result.symbol if head.result is not None else "")
        pair = self.pair(symbol) if symbol else None
        if head.method == "unsubscribe":
            return Control(name=head.method)  # refused or not, the pair is not subscribed any more
        if head.error or head.success is False:
            return self.refused(frame, head.error, pair=pair, request=head.req_id)
        if head.method == "subscribe":
            return Subscribed(pair=pair, request=head.req_id, depth=head.result.depth if head.result else None)
        return Control(name=head.method)

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        if answer.error or not answer.result:
            yield self.refused(frame, _reason(answer))
            return
        if frame.channel is Channel.INSTRUMENT:
            rows = self.market_rows(frame.payload)  # without tokenized pairs, so it is not the whole list
            yield from self.read_instruments(rows, frame.received_time, is_whole=False)
            return
        if frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        [body] = [raw for name, raw in answer.result.items() if name != "last"]
        match frame.channel:
            case Channel.TICKER:
                yield self._rest_ticker(frame.pair, decode_rest_ticker(body))
            case Channel.ORDERBOOK:
                book = decode_rest_book(body)
                yield BookUpdate(
                    pair=frame.pair,
                    is_snapshot=True,
                    bids=[Level(level.price, level.size) for level in book.bids],
                    asks=[Level(level.price, level.size) for level in book.asks],
                )
            case Channel.TRADE:
                for trade in decode_rest_trades(body):
                    yield self._rest_trade(frame.pair, trade)
            case _:
                for candle in decode_rest_candles(body):
                    yield self._rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        symbol = self.symbol(pair)
        return (
            f"{self.rest_url}/0/public/"
            + {
                Channel.TICKER: f"Ticker?pair={symbol}",
                Channel.ORDERBOOK: f"Depth?pair={symbol}&count=500",
                Channel.TRADE: f"Trades?pair={symbol}&count=1000",
                Channel.CANDLE: f"OHLC?pair={symbol}&interval=1",
            }[channel]
        )

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """Return the length of a ban: `EService:Throttled: 1796000000` names its end, in seconds since 1970."""
        until = re.search(rb"EService:\s?Throttled:\s?\[?(\d{10})\b", body)
        return plausible_ban(int(until[1]) - time / SECOND) if until else None

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/0/public/AssetPairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.error or answer.result is None:
            raise DecodeError(f"kraken: {_reason(answer)}")
        # the dark pool has keys that end in .d
        return [raw for name, raw in answer.result.items() if not name.endswith(".d")]

    def instrument(self, row: msgspec.Raw) -> Instrument | None:
        """Return a market, of the socket or of REST. A symbol with a venue, such as `BTC/USD:BTNL`, is none."""
        market = decode_market(row)
        symbol = market.symbol or market.wsname
        if not symbol or ":" in symbol:
            return None
        return Instrument(
            pair=self.pair(symbol),
            state=MARKET_STATES.get(market.status or "", InstrumentState.UNKNOWN),
            exchange_state=market.status or None,
            tick_size=number(market.tick_size),
            size_step=number(market.qty_increment) or step(market.lot_decimals),
            min_size=number(market.qty_min) or number(market.ordermin),
            min_value=number(market.cost_min) or number(market.costmin),
        )

    def checksum(self, book: Book) -> int | None:
        """Return the CRC32 of the ten best asks and the ten best bids: rules 3 and 4."""
        levels = book.asks.top(10) + book.bids.top(10)
        return zlib.crc32("".join(level.text for level in levels if isinstance(level, TextLevel)).encode())

    def _ticker(self, row: KrakenTicker) -> Ticker:
        last, change = last_price(row.last), number(row.change)
        return Ticker(
            pair=self.pair(row.symbol),
            exchange_time=from_rfc3339(row.timestamp) if row.timestamp else None,
            last=last,
            open_24h=difference(last, change),
            high_24h=price(row.high),
            low_24h=price(row.low),
            change_24h=change,
            volume_24h=number(row.volume),
            best_bid=price(row.bid),
            best_bid_size=number(row.bid_qty),
            best_ask=price(row.ask),
            best_ask_size=number(row.ask_qty),
        )

    def _book(self, row: KrakenBook, *, is_snapshot: bool) -> BookUpdate:
        bids: list[Level] = [_text_level(level) for level in row.bids]
        asks: list[Level] = [_text_level(level) for level in row.asks]
        size = max(len(bids), len(asks))
        return BookUpdate(
            pair=self.pair(row.symbol),
            exchange_time=from_rfc3339(row.timestamp) if row.timestamp else None,
            is_snapshot=is_snapshot,
            bids=bids,
            asks=asks,
            checksum=row.checksum,
            depth=next((depth for depth in DEPTHS if depth >= size), None) if is_snapshot else None,
        )

    def _trade(self, row: KrakenTrade) -> Trade:
        return Trade(
            pair=self.pair(row.symbol),
            exchange_time=from_rfc3339(row.timestamp) or 0,
            id=str(row.trade_id),
            price=row.price,
            size=row.qty,
            side=row.side,
        )

    def _candle(self, row: KrakenCandle) -> Candle:
        return Candle(
            pair=self.pair(row.symbol),
            open_time=from_rfc3339(row.interval_begin) or 0,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
        )

    def _rest_ticker(self, pair: Pair, row: KrakenRestTicker) -> Ticker:
        if row == KrakenRestTicker():
            raise ValueError("neither a price nor a quote: no ticker")
        return Ticker(
            pair=pair,
            last=last_price(_entry(row.c, 0)),
            open_day=price(row.o),
            high_24h=price(_entry(row.h, 1)),
            low_24h=price(_entry(row.l, 1)),
            change_day=difference(price(_entry(row.c, 0)), price(row.o)),
            volume_24h=number(_entry(row.v, 1)),
            best_bid=price(_entry(row.b, 0)),
            best_bid_size=number(_entry((row.b or [])[1:], -1)),
            best_ask=price(_entry(row.a, 0)),
            best_ask_size=number(_entry((row.a or [])[1:], -1)),
        )

    def _rest_trade(self, pair: Pair, row: KrakenRestTrade) -> Trade:
        return Trade(
            pair=pair,
            exchange_time=round(row.time * SECOND),
            id=str(row.id),
            price=row.price,
            size=row.size,
            side={"b": Side.BUY, "s": Side.SELL}.get(row.side),
        )

    def _rest_candle(self, pair: Pair, row: KrakenRestCandle) -> Candle:
        return Candle(
            pair=pair,
            open_time=row.time * SECOND,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
        )


def _entry(texts: Sequence[Entry] | None, index: int) -> Entry | None:
    """Return an entry of a list; None where the list is missing or shorter."""
    return texts[index] if texts and index < len(texts) else None


def _reason(answer: KrakenAnswer) -> str:
    return ", ".join(answer.error) or "no result"


def _text_level(level: KrakenLevel) -> TextLevel:
    """Return a level with its text for the checksum: rule 3."""
    if max(abs(level.price.adjusted()), abs(level.qty.adjusted())) > MAX_DIGITS:
        raise ValueError(f"level {level.price} x {level.qty} cannot be")
    # `str` would write 1E-7, and the checksum needs the digits as they came.
    digits = [f"{value:f}".replace(".", "").lstrip("0") for value in (level.price, level.qty)]
    return TextLevel(float(level.price), float(level.qty), "".join(digits))


class KrakenOldNames:
    """The names of REST and of WebSocket v1: their spellings of currencies, and symbols without a separator."""

    CURRENT: ClassVar[dict[str, str]] = {"XBT": "BTC", "XDG": "DOGE"}
    # Only addresses of recorded REST answers have such symbols. USDTZUSD could be USDTZ-USD: it is no symbol here.
    QUOTES = (
        *("USDT", "USDC", "USD", "EUR", "GBP", "CHF", "JPY", "CAD", "AUD", "XBT", "ETH"),
        *("ZUSD", "ZEUR", "ZGBP", "ZJPY", "ZCAD", "ZAUD", "XXBT", "XETH"),
    )
    OLDEST = "XBT|XDG|ETH|ETC|LTC|XRP|XLM|XMR|ZEC|REP|MLN|EUR|USD|GBP|CAD|JPY|AUD"
    OLDEST_SYMBOL = re.compile(rf"[XZ]({OLDEST})[XZ]({OLDEST})")

    @classmethod
    def current(cls, currency: str) -> str:
        """Return the name that a currency has today."""
        return cls.CURRENT.get(currency, currency)

    @classmethod
    def split(cls, symbol: str) -> Sequence[str]:
        """Return base and quote of a symbol like `XBTUSDT` or `XXBTZUSD`. Raises `UnknownPair`."""
        oldest = cls.OLDEST_SYMBOL.fullmatch(symbol)
        return oldest.groups() if oldest else split_symbol(symbol, cls.QUOTES, {})


class KrakenResult(msgspec.Struct):
    """What an answer confirms."""

    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class KrakenHead(msgspec.Struct):
    """What tells messages apart: data by `channel`, answers by `method`."""

    channel: str = ""  # "book" | "ticker" | "trade" | "ohlc" | "instrument" | "heartbeat" | "status"
    type: str = ""  # "snapshot" | "update"
    method: str = ""  # "subscribe" | "unsubscribe" | "pong"
    success: bool | None = None
    result: KrakenResult | None = None
    error: str = ""
    symbol: str = ""
    req_id: int | None = None


class KrakenTicker(msgspec.Struct):
    """A ticker. Its numbers are JSON numbers, kept in the exchange's own digits."""

    symbol: str  # "BTC/USD"
    last: msgspec.Raw = ABSENT  # tokenized pairs without a trade send none
    bid: msgspec.Raw = ABSENT
    bid_qty: msgspec.Raw = ABSENT
    ask: msgspec.Raw = ABSENT
    ask_qty: msgspec.Raw = ABSENT
    volume: msgspec.Raw = ABSENT  # base, 24 h
    high: msgspec.Raw = ABSENT  # 24 h
    low: msgspec.Raw = ABSENT
    change: msgspec.Raw = ABSENT  # 24 h; change_pct is in percent with 2 digits: not used
    timestamp: str = ""  # "2026-09-25T17:48:26.844359Z", missing in old messages


class KrakenLevel(msgspec.Struct):
    """One level of a book. `Decimal` keeps every digit, which the checksum needs."""

    price: Decimal  # a JSON number whose every digit counts: 63000.0
    qty: Decimal  # 0.02506000


class KrakenBook(msgspec.Struct):
    symbol: str
    checksum: int  # in every message: without it the book would prove nothing
    bids: list[KrakenLevel] = []
    asks: list[KrakenLevel] = []
    timestamp: str = ""


class KrakenTrade(msgspec.Struct):
    symbol: str
    side: Side  # the taker's
    price: float
    qty: float
    trade_id: int
    timestamp: str


class KrakenCandle(msgspec.Struct):
    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    interval_begin: str  # "2026-09-10T00:00:00.000000000Z"
    interval: int  # minutes


class KrakenTickers(msgspec.Struct):
    data: list[KrakenTicker]


class KrakenBooks(msgspec.Struct):
    data: list[KrakenBook]


class KrakenTrades(msgspec.Struct):
    data: list[KrakenTrade]


class KrakenCandles(msgspec.Struct):
    data: list[KrakenCandle]


class KrakenRestTicker(msgspec.Struct):
    """A ticker of REST: lists by position."""

    a: list[str | None] | None = None  # best ask: price, whole lot, size
    b: list[str | None] | None = None
    c: list[msgspec.Raw] | None = None  # last: price, size
    v: list[str | None] | None = None  # base volume: today, 24 h
    h: list[str | None] | None = None
    l: list[str | None] | None = None  # noqa: E741
    o: str | None = None  # open of the UTC day


class KrakenRestLevel(msgspec.Struct, array_like=True):
    price: float
    size: float


class KrakenRestBook(msgspec.Struct):
    asks: list[KrakenRestLevel]
    bids: list[KrakenRestLevel]


class KrakenRestTrade(msgspec.Struct, array_like=True):
    price: float
    size: float
    time: float  # seconds
    side: str  # "b" | "s"
    _kind: str
    _other: str
    id: int


class KrakenRestCandle(msgspec.Struct, array_like=True):
    time: int  # seconds
    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: float


class KrakenMarket(msgspec.Struct):
    """A market. The socket names it `symbol`, and its numbers are JSON numbers; REST has names and texts of its own."""

    symbol: str | None = None  # "BTC/USD"
    wsname: str | None = None  # "XBT/USD"
    status: str | None = "online"  # answers before 2022 have none
    tick_size: msgspec.Raw = ABSENT
    qty_increment: msgspec.Raw = ABSENT
    qty_min: msgspec.Raw = ABSENT
    cost_min: msgspec.Raw = ABSENT
    lot_decimals: int | None = None
    ordermin: str | None = None
    costmin: str | None = None


class KrakenMarkets(msgspec.Struct):
    """What the channel `instrument` sends: an object, where other channels send a list."""

    pairs: list[msgspec.Raw] = []  # an update names what has changed: pairs, assets or both


class KrakenInstruments(msgspec.Struct):
    data: KrakenMarkets


class KrakenAnswer(msgspec.Struct):
    """Every answer of REST."""

    error: list[str] = []  # comes with HTTP 200
    result: dict[str, msgspec.Raw] | None = None  # keyed by Kraken's own name, whatever was asked for


decode_head = msgspec.json.Decoder(KrakenHead).decode
decode_tickers = msgspec.json.Decoder(KrakenTickers).decode
decode_books = msgspec.json.Decoder(KrakenBooks).decode
decode_trades = msgspec.json.Decoder(KrakenTrades).decode
decode_candles = msgspec.json.Decoder(KrakenCandles).decode
decode_instruments = msgspec.json.Decoder(KrakenInstruments).decode
decode_answer = msgspec.json.Decoder(KrakenAnswer).decode
decode_rest_ticker = msgspec.json.Decoder(KrakenRestTicker).decode
decode_rest_book = msgspec.json.Decoder(KrakenRestBook, strict=False).decode
decode_rest_trades = msgspec.json.Decoder(list[KrakenRestTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[KrakenRestCandle], strict=False).decode
decode_market = msgspec.json.Decoder(KrakenMarket).decode
