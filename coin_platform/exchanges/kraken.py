"""Kraken spot, WebSocket v2: books proved by checksum. https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2"""

import re
import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TypeVar

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
)
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
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

Text = TypeVar("Text")

DEPTHS = (10, 25, 100, 500, 1000)  # what can be subscribed
DEPTH = 100
MOST_DIGITS = 30  # before or behind the point: 1E+999999999 written out would fill the memory
OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}  # of REST and WebSocket v1
# Of symbols without a separator, which only recordings of REST hold. USDTZUSD could be USDTZ-USD: it is no symbol here.
REST_QUOTES = (
    *("USDT", "USDC", "USD", "EUR", "GBP", "CHF", "JPY", "CAD", "AUD", "XBT", "ETH"),
    *("ZUSD", "ZEUR", "ZGBP", "ZJPY", "ZCAD", "ZAUD", "XXBT", "XETH"),
)
OLDEST = "XBT|XDG|ETH|ETC|LTC|XRP|XLM|XMR|ZEC|REP|MLN|EUR|USD|GBP|CAD|JPY|AUD"
OLDEST_SYMBOL = re.compile(rf"[XZ]({OLDEST})[XZ]({OLDEST})")


class Result(msgspec.Struct):
    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class Head(msgspec.Struct):
    channel: str = ""  # "book" | "ticker" | "trade" | "ohlc" | "instrument" | "heartbeat" | "status"
    type: str = ""  # "snapshot" | "update"
    method: str = ""  # "subscribe" | "unsubscribe" | "pong"
    success: bool | None = None
    result: Result | None = None
    error: str = ""
    symbol: str = ""
    req_id: int | None = None


class TickerRow(msgspec.Struct):
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


class BookLevel(msgspec.Struct):
    price: Decimal  # a JSON number whose every digit counts: 63000.0
    qty: Decimal  # 0.02506000


class BookRow(msgspec.Struct):
    symbol: str
    checksum: int  # in every message: without it the book would prove nothing
    bids: list[BookLevel] = []
    asks: list[BookLevel] = []
    timestamp: str = ""


class TradeRow(msgspec.Struct):
    symbol: str
    side: Side  # the taker's
    price: float
    qty: float
    trade_id: int
    timestamp: str


class CandleRow(msgspec.Struct):
    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    interval_begin: str  # "2026-09-10T00:00:00.000000000Z"
    interval: int  # minutes


class Tickers(msgspec.Struct):
    data: list[TickerRow]


class Books(msgspec.Struct):
    data: list[BookRow]


class Trades(msgspec.Struct):
    data: list[TradeRow]


class Candles(msgspec.Struct):
    data: list[CandleRow]


class RestTicker(msgspec.Struct):
    a: list[str | None] | None = None  # best ask: price, whole lot, size
    b: list[str | None] | None = None
    c: list[msgspec.Raw] | None = None  # last: price, size
    v: list[str | None] | None = None  # base volume: today, 24 h
    h: list[str | None] | None = None
    l: list[str | None] | None = None  # noqa: E741
    o: str | None = None  # open of the UTC day


class RestLevel(msgspec.Struct, array_like=True):
    price: float
    size: float


class RestBook(msgspec.Struct):
    asks: list[RestLevel]
    bids: list[RestLevel]


class RestTrade(msgspec.Struct, array_like=True):
    price: float
    size: float
    time: float  # seconds
    side: str  # "b" | "s"
    _kind: str
    _other: str
    id: int


class RestCandle(msgspec.Struct, array_like=True):
    time: int  # seconds
    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: float


class RestMarket(msgspec.Struct):
    wsname: str | None = None  # "XBT/USD"
    status: str | None = "online"


class Answer(msgspec.Struct):
    error: list[str] = []  # comes with HTTP 200
    result: dict[str, msgspec.Raw] | None = None  # keyed by Kraken's own name, whatever was asked for


decode_head = msgspec.json.Decoder(Head).decode
decode_tickers = msgspec.json.Decoder(Tickers).decode
decode_books = msgspec.json.Decoder(Books).decode
decode_trades = msgspec.json.Decoder(Trades).decode
decode_candles = msgspec.json.Decoder(Candles).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_rest_ticker = msgspec.json.Decoder(RestTicker).decode
decode_rest_book = msgspec.json.Decoder(RestBook, strict=False).decode
decode_rest_trades = msgspec.json.Decoder(list[RestTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[RestCandle], strict=False).decode
decode_rest_market = msgspec.json.Decoder(RestMarket).decode

NAMES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "book", Channel.TRADE: "trade", Channel.CANDLE: "ohlc"}
OPTIONS: dict[Channel, dict[str, object]] = {
    Channel.TICKER: {"event_trigger": "bbo"},
    Channel.ORDERBOOK: {"depth": DEPTH},
    Channel.CANDLE: {"interval": 1},
}


class Kraken(Exchange):
    """Kraken: no sequence, but a checksum over the best ten levels in every message."""

    name = "kraken"
    title = "Kraken"
    region = Region.NE
    partition = 1
    quote = "USD"
    channels = frozenset(Channel)
    proof = Proof.CHECKSUM
    depth = DEPTH
    ws_url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"
    # 150 connections in 10 minutes; requests about 1/s; no limit of subscriptions is published
    limits = Limits(messages_per_second=5, connects_per_minute=7, requests_per_second=0.5)
    ban_seconds = 600.0  # Cloudflare: 10 minutes
    # https://docs.kraken.com/api/docs/guides/spot-errors; a lockout lasts 15 minutes. In maintenance one may ask
    # once in 5 seconds. `EService:Throttled` tells when it ends.
    refusal_rules = (
        RefusalRule(r"currency pair not|(unknown|invalid) asset pair|symbol\S* not (found|supported)", Refusal.FINAL),
        RefusalRule(r"EGeneral:Temporary lockout", is_rate_limit=True, ban_seconds=900.0),
        RefusalRule(r"^exceeded msg rate|^EService:", is_rate_limit=True, ban_seconds=5.0),
        RefusalRule(r"EAPI:Rate limit|EGeneral:Too many requests|rate limit", is_rate_limit=True, ban_seconds=15.0),
        RefusalRule(
            r"unavailable on this endpoint|ESession:|EAuth|EAPI:Invalid|EGeneral:Permission denied", Refusal.CONNECTION
        ),
    )
    ping = '{"method":"ping"}'
    ping_every = 5.0
    silence_seconds = 15.0  # a heartbeat comes every second
    has_deltas = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}/{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        base, slash, quote = symbol.partition("/")
        if not slash:  # REST's own names: XBTUSDT, XXBTZUSD
            oldest = OLDEST_SYMBOL.fullmatch(symbol)
            base, quote = oldest.groups() if oldest else split_symbol(symbol, REST_QUOTES, {})
        return Pair.read(f"{OLD_NAMES.get(base, base)}-{OLD_NAMES.get(quote, quote)}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("unsubscribe", channel, pairs, id)

    def _ask(self, method: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        options = OPTIONS.get(channel, {})
        if method == "unsubscribe" and channel is Channel.TICKER:
            options = {}
        for number_, some in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            params = {"channel": NAMES[channel], "symbol": [self.symbol(pair) for pair in some], **options}
            body = {"method": method, "params": params, "req_id": number_}
            yield Request(msgspec.json.encode(body).decode(), some, number_)

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
            case "heartbeat" | "status" | "instrument" | "level3" as name:
                yield Control(name=name)
            case unknown:
                raise ValueError(f"channel {unknown!r} is not known")

    def _answer(self, frame: Frame, head: Head) -> Event:
        symbol = head.symbol or (head.result.symbol if head.result is not None else "")
        pair = self.pair(symbol) if symbol else None
        if head.method == "unsubscribe":
            return Control(name=head.method)  # refused or not: the pair is not subscribed any more
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
        """`EService:Throttled: 1796000000` says when it ends, in seconds since 1970."""
        until = re.search(rb"EService:\s?Throttled:\s?\[?(\d{10})\b", body)
        return plausible_ban(int(until[1]) - time / SECOND) if until else None

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/0/public/AssetPairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.error or answer.result is None:
            raise DecodeError(f"kraken: {_reason(answer)}")
        # keys that end in .d are the dark pool
        return [raw for name, raw in answer.result.items() if not name.endswith(".d")]

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_rest_market(row)
        return self.pair(market.wsname) if market.wsname and market.status == "online" else None

    def checksum(self, book: Book) -> int | None:
        """CRC32 of the ten best asks, then bids: digits of price and size without point and leading zeros."""
        levels = book.asks.top(10) + book.bids.top(10)
        return zlib.crc32("".join(level.text for level in levels if isinstance(level, TextLevel)).encode())

    def _ticker(self, row: TickerRow) -> Ticker:
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

    def _book(self, row: BookRow, *, is_snapshot: bool) -> BookUpdate:
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

    def _trade(self, row: TradeRow) -> Trade:
        return Trade(
            pair=self.pair(row.symbol),
            exchange_time=from_rfc3339(row.timestamp) or 0,
            id=str(row.trade_id),
            price=row.price,
            size=row.qty,
            side=row.side,
        )

    def _candle(self, row: CandleRow) -> Candle:
        return Candle(
            pair=self.pair(row.symbol),
            open_time=from_rfc3339(row.interval_begin) or 0,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
        )

    def _rest_ticker(self, pair: Pair, row: RestTicker) -> Ticker:
        if row == RestTicker():
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

    def _rest_trade(self, pair: Pair, row: RestTrade) -> Trade:
        return Trade(
            pair=pair,
            exchange_time=round(row.time * SECOND),
            id=str(row.id),
            price=row.price,
            size=row.size,
            side={"b": Side.BUY, "s": Side.SELL}.get(row.side),
        )

    def _rest_candle(self, pair: Pair, row: RestCandle) -> Candle:
        return Candle(
            pair=pair,
            open_time=row.time * SECOND,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
        )


def _entry(texts: Sequence[Text] | None, index: int) -> Text | None:
    """Return an entry of a list; None where the list is missing or shorter."""
    return texts[index] if texts and index < len(texts) else None


def _reason(answer: Answer) -> str:
    return ", ".join(answer.error) or "no result"


def _text_level(level: BookLevel) -> TextLevel:
    if max(abs(level.price.adjusted()), abs(level.qty.adjusted())) > MOST_DIGITS:
        raise ValueError(f"level {level.price} x {level.qty} cannot be")
    # `str` would write 1E-7: the checksum wants the digits as they came
    digits = [f"{value:f}".replace(".", "").lstrip("0") for value in (level.price, level.qty)]
    return TextLevel(float(level.price), float(level.qty), "".join(digits))
