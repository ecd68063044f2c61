"""Coinone spot: whole books, one request a pair. https://docs.coinone.co.kr/reference/public-websocket-orderbook"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import NO_SUCH_MARKET, Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, difference, from_milliseconds, last_price, number, price
from coin_platform.model import (
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
    Subscribed,
    Ticker,
    Trade,
)

NOTHING = msgspec.Raw(b"{}")


class Head(msgspec.Struct):
    response_type: str = ""  # "DATA" | "CONNECTED" | "SUBSCRIBED" | "UNSUBSCRIBED" | "PONG" | "ERROR"
    channel: str = ""  # "TICKER" | "ORDERBOOK" | "TRADE" | "CHART"
    data: msgspec.Raw = NOTHING
    error_code: int | str = 0  # 160012
    message: str = ""


class Topic(msgspec.Struct):
    quote_currency: str  # "KRW"; REST writes "krw" too
    target_currency: str  # "BTC", the base


class TickerRow(Topic):
    timestamp: int  # ms
    last: msgspec.Raw = ABSENT
    first: str | None = None
    high: str | None = None
    low: str | None = None
    target_volume: str | None = None  # base, 24 h
    quote_volume: str | None = None
    yesterday_last: str | None = None
    ask_best_price: str | None = None  # null or "" on thin pairs
    ask_best_qty: str | None = None
    bid_best_price: str | None = None
    bid_best_qty: str | None = None


class Order(msgspec.Struct):
    price: str
    qty: str


class BookRow(Topic):
    timestamp: int  # ms of the last change; 10 s old in the first message after a subscription
    asks: list[Order]  # worst first on the socket, best first on REST
    bids: list[Order]


class TradeRow(msgspec.Struct):
    id: str  # "1693560450996001"
    timestamp: int  # ms
    price: float
    qty: float


class CandleRow(Topic):
    interval: str  # "1m"
    candle_timestamp: int  # ms, the open
    timestamp: int
    first: float
    high: float
    low: float
    last: float
    target_volume: float
    quote_volume: float


class RestTicker(Topic):
    timestamp: int
    last: msgspec.Raw = ABSENT
    first: str | None = None
    high: str | None = None
    low: str | None = None
    target_volume: str | None = None
    quote_volume: str | None = None
    best_asks: list[Order] | None = None  # null or empty on thin pairs
    best_bids: list[Order] | None = None


class RestCandle(msgspec.Struct):
    timestamp: int  # ms, the open
    open: float
    high: float
    low: float
    close: float
    target_volume: float
    quote_volume: float


class RestMarket(Topic):
    trade_status: int | None = None  # 0 none, 1 buy and sell, 2 sell only, 3 buy only
    maintenance_status: int | None = None  # 0 normal


class Answer(msgspec.Struct):
    result: str = ""  # "success" | "error"; HTTP is 200 in both cases
    error_code: str | int = ""
    error_msg: str = ""


class Tickers(msgspec.Struct):
    tickers: list[RestTicker]


class Trades(Topic):
    transactions: list[TradeRow]


class Candles(msgspec.Struct):
    chart: list[RestCandle]


class Markets(msgspec.Struct):
    markets: list[msgspec.Raw]


decode_any = msgspec.json.decode
decode_head = msgspec.json.Decoder(Head).decode
decode_topic = msgspec.json.Decoder(Topic).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode
decode_book = msgspec.json.Decoder(BookRow).decode
decode_trade = msgspec.json.Decoder(TradeRow, strict=False).decode
decode_candle = msgspec.json.Decoder(CandleRow, strict=False).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_tickers = msgspec.json.Decoder(Tickers).decode
decode_trades = msgspec.json.Decoder(Trades, strict=False).decode
decode_candles = msgspec.json.Decoder(Candles, strict=False).decode
decode_markets = msgspec.json.Decoder(Markets).decode
decode_market = msgspec.json.Decoder(RestMarket).decode

NAMES = {Channel.TICKER: "TICKER", Channel.ORDERBOOK: "ORDERBOOK", Channel.TRADE: "TRADE", Channel.CANDLE: "CHART"}

# The names of the form SHORT, which we do not ask for but recordings hold.
LONG = {
    "r": "response_type",
    "c": "channel",
    "d": "data",
    "qc": "quote_currency",
    "tc": "target_currency",
    "t": "timestamp",
    "i": "id",
    "fi": "first",
    "hi": "high",
    "lo": "low",
    "la": "last",
    "qv": "quote_volume",
    "tv": "target_volume",
    "yla": "yesterday_last",
    "abp": "ask_best_price",
    "abq": "ask_best_qty",
    "bbp": "bid_best_price",
    "bbq": "bid_best_qty",
    "a": "asks",
    "b": "bids",
    "p": "price",
    "q": "qty",
    "iv": "interval",
    "ct": "candle_timestamp",
}


class Coinone(Exchange):
    """Coinone: every push is the whole book of 16 levels.

    An unknown pair is first confirmed, then refused by an error that names neither pair nor request.
    """

    name = "coinone"
    title = "Coinone"
    region = Region.KOREA
    partition = 2
    quote = "KRW"
    trades_per_answer = 200
    channels = frozenset(Channel)
    proof = Proof.SNAPSHOT
    depth = 16
    ws_url = "wss://stream.coinone.co.kr"
    rest_url = "https://api.coinone.co.kr"
    # https://docs.coinone.co.kr/docs/error-code: 4 "Blocked user access" is over the limit, which is full again after a
    # minute; 108 is an unknown currency, 160012 an unknown topic; the others of these concern keys
    refusal_rules = (
        RefusalRule(r"^(108|109|160012):", Refusal.FINAL),
        RefusalRule(r"^4:|too many requests|blocked", is_rate_limit=True, ban_seconds=60.0),
        RefusalRule(r"^(8|11|12|20|21|22|40|4290):", Refusal.CONNECTION),
    )
    # 1200 requests a minute; 20 connections per IP, so that each carries many pairs; no message rate is published
    limits = Limits(pairs_per_connection=200, messages_per_second=5, requests_per_second=10)
    ping = '{"request_type":"PING"}'  # protocol pings alone do not keep the connection: it is closed after 60 s

    def symbol(self, pair: Pair) -> str:
        """Spell a pair as the paths of REST do; the socket has a field for each currency."""
        return f"{pair.quote}/{pair.base}"

    def pair(self, symbol: str) -> Pair:
        quote, _, base = symbol.partition("/")
        return Pair.read(f"{base}-{quote}".upper())

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("SUBSCRIBE", channel, pairs)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("UNSUBSCRIBE", channel, pairs)

    def _ask(self, request: str, channel: Channel, pairs: Sequence[Pair]) -> Iterator[Request]:
        options = {"interval": "1m"} if channel is Channel.CANDLE else {}
        for pair in pairs:
            topic = {"quote_currency": pair.quote, "target_currency": pair.base, **options}
            body = {"request_type": request, "channel": NAMES[channel], "topic": topic}
            yield Request(msgspec.json.encode(body).decode(), (pair,))

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if not head.response_type:
            head = decode_head(msgspec.json.encode(_lengthen(decode_any(frame.payload))))
        match head.response_type:
            case "DATA":
                yield self._data(head)
            case "SUBSCRIBED":
                yield Subscribed(pair=_pair(decode_topic(head.data)))
            case "ERROR":
                yield self.refused(frame, f"{head.error_code}: {head.message}")
            case "CONNECTED" | "UNSUBSCRIBED" | "PONG":
                yield Control(name=head.response_type.lower())
            case other:
                raise ValueError(f"response type {other!r} is not known")

    def _data(self, head: Head) -> Event:
        match head.channel:
            case "TICKER":
                return _ticker(decode_ticker(head.data))
            case "ORDERBOOK":
                return _book(decode_book(head.data))
            case "TRADE":
                return _trade(_pair(decode_topic(head.data)), decode_trade(head.data))
            case "CHART":
                return _candle(decode_candle(head.data))
            case other:
                raise ValueError(f"channel {other!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        if answer.result != "success":
            yield self.refused(frame, f"{answer.error_code}: {answer.error_msg}")
            return
        match frame.channel:
            case Channel.TICKER:
                rows = decode_tickers(frame.payload).tickers
                yield from map(_rest_ticker, rows)
                if not rows:
                    yield self.refused(frame, NO_SUCH_MARKET)
            case Channel.ORDERBOOK:
                yield _book(decode_book(frame.payload))
            case Channel.TRADE:
                trades = decode_trades(frame.payload)
                for trade in trades.transactions:
                    yield _trade(_pair(trades), trade)
            case _:
                if frame.pair is None:
                    raise ValueError("a REST answer needs its pair")
                for candle in decode_candles(frame.payload).chart:
                    yield _rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        symbol = self.symbol(pair)
        return (
            f"{self.rest_url}/public/v2/"
            + {
                Channel.TICKER: f"ticker_new/{symbol}",
                Channel.ORDERBOOK: f"orderbook/{symbol}?size=16",
                Channel.TRADE: f"trades/{symbol}?size=200",
                Channel.CANDLE: f"chart/{symbol}?interval=1m&size=500",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/public/v2/markets/{self.quote}"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.result != "success":
            raise DecodeError(f"coinone: {answer.error_code}: {answer.error_msg}")
        return decode_markets(payload).markets

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        return _pair(market) if market.trade_status and not market.maintenance_status else None


def _pair(topic: Topic) -> Pair:
    return Pair.read(f"{topic.target_currency}-{topic.quote_currency}".upper())  # REST writes lower case


def _ticker(row: TickerRow) -> Ticker:
    previous = price(row.yesterday_last)
    return Ticker(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        last=last_price(row.last),
        open_day=price(row.first),  # the day begins at 00:00 UTC
        high_day=price(row.high),
        low_day=price(row.low),
        prev_close_day=previous,
        change_day=difference(price(row.last), previous),
        volume_24h=number(row.target_volume),
        quote_volume_24h=number(row.quote_volume),
        best_bid=price(row.bid_best_price),
        best_bid_size=number(row.bid_best_qty),
        best_ask=price(row.ask_best_price),
        best_ask_size=number(row.ask_best_qty),
    )


def _rest_ticker(row: RestTicker) -> Ticker:
    opened = price(row.first)
    bid, ask = next(iter(row.best_bids or ()), None), next(iter(row.best_asks or ()), None)
    return Ticker(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        last=last_price(row.last),
        open_24h=opened,  # the same names as on the socket, but of the last 24 hours
        high_24h=price(row.high),
        low_24h=price(row.low),
        change_24h=difference(price(row.last), opened),
        volume_24h=number(row.target_volume),
        quote_volume_24h=number(row.quote_volume),
        best_bid=price(bid.price) if bid else None,
        best_bid_size=number(bid.qty) if bid else None,
        best_ask=price(ask.price) if ask else None,
        best_ask_size=number(ask.qty) if ask else None,
    )


def _book(row: BookRow) -> BookUpdate:
    return BookUpdate(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        is_snapshot=True,
        bids=[Level(float(order.price), float(order.qty)) for order in row.bids],
        asks=[Level(float(order.price), float(order.qty)) for order in row.asks],
    )


def _trade(pair: Pair, row: TradeRow) -> Trade:
    # `is_seller_maker` says by its name the opposite of what the documentation says about it: the side stays open
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        id=row.id,
        price=row.price,
        size=row.qty,
        side=None,
    )


def _candle(row: CandleRow) -> Event:
    if row.interval != "1m":
        return Control(name=f"candle of {row.interval}")  # we keep minutes
    return Candle(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        open_time=from_milliseconds(row.candle_timestamp),
        open=row.first,
        high=row.high,
        low=row.low,
        close=row.last,
        volume=row.target_volume,
        quote_volume=row.quote_volume,
    )


def _rest_candle(pair: Pair, row: RestCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=from_milliseconds(row.timestamp),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.target_volume,
        quote_volume=row.quote_volume,
    )


def _lengthen(value: Any) -> Any:
    """Give a message of the form SHORT its long names; its prices are text, so that they keep their digits."""
    if isinstance(value, dict):
        return {LONG.get(name, name): _lengthen(part) for name, part in value.items()}
    return [_lengthen(part) for part in value] if isinstance(value, list) else value
