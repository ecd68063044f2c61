"""Coinone spot: what we send, and what its messages mean.

Source: https://docs.coinone.co.kr/reference/public-websocket-ticker
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import NO_SUCH_MARKET, Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, difference, from_milliseconds, last_price, number, price
from coin_platform.exchanges.short_names import with_long_names
from coin_platform.model import (
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
    Subscribed,
    Ticker,
    Trade,
)

CHANNEL_NAMES = {
    Channel.TICKER: "TICKER",
    Channel.ORDERBOOK: "ORDERBOOK",
    Channel.TRADE: "TRADE",
    Channel.CANDLE: "CHART",
}

TRADE_STATES: dict[int | None, InstrumentState] = {
    0: InstrumentState.HALTED,
    1: InstrumentState.TRADING,
    2: InstrumentState.LIMITED,  # sell only
    3: InstrumentState.LIMITED,  # buy only
}


class Coinone(Exchange):
    """Coinone: each book message is the whole book of 16 levels.

    Rules of a connection (https://docs.coinone.co.kr/reference/public-websocket-orderbook):

    1. A request names one channel of one pair, and is answered by `SUBSCRIBED`.
    2. An unknown pair is first confirmed, then refused by an error that names neither the pair nor the request.
    3. The server closes a connection without `PING` messages after 60 s. Pings of the WebSocket protocol do not count.
    """

    name = "coinone"
    title = "Coinone"
    region = Region.KOREA
    partition = 2
    quote = "KRW"
    channels = frozenset(CHANNEL_NAMES)  # it lists its markets over REST only
    proof = Proof.SNAPSHOT
    depth = 16
    ws_url = "wss://stream.coinone.co.kr"
    rest_url = "https://api.coinone.co.kr"
    ping = '{"request_type":"PING"}'

    # Limits (https://docs.coinone.co.kr/docs/ratelimit-안내, https://docs.coinone.co.kr/docs/error-code):
    # 1. 1200 REST requests/min of an address. Above them the answer is error 4, "Blocked user access", for a minute.
    # 2. 20 connections of an address, so that each of ours carries many pairs. No rate of messages is published.
    # 3. Errors 108 and 109 mean an unknown currency or pair, 160012 an unknown topic. Those that end a connection mean
    #    keys, and 4290 too many connections.
    limits = Limits(pairs_per_connection=200, messages_per_second=5, requests_per_second=10)
    trades_per_answer = 200
    refusal_rules = (
        RefusalRule(r"^(108|109|160012):", Refusal.FINAL),
        RefusalRule(r"^4:|too many requests|blocked", is_rate_limit=True, ban_seconds=60.0),
        RefusalRule(r"^(8|11|12|20|21|22|40|4290):", Refusal.CONNECTION),
    )

    def symbol(self, pair: Pair) -> str:
        """Spell a pair as the paths of REST do. Messages of the socket have a field for each currency instead."""
        return f"{pair.quote}/{pair.base}"

    def pair(self, symbol: str) -> Pair:
        quote, _, base = symbol.partition("/")
        return Pair.read(f"{base}-{quote}".upper())

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("SUBSCRIBE", channel, pairs)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("UNSUBSCRIBE", channel, pairs)

    def _requests(self, request_type: str, channel: Channel, pairs: Sequence[Pair]) -> Iterator[Request]:
        options = {"interval": "1m"} if channel is Channel.CANDLE else {}
        for pair in pairs:
            topic = {"quote_currency": pair.quote, "target_currency": pair.base, **options}
            body = {"request_type": request_type, "channel": CHANNEL_NAMES[channel], "topic": topic}
            yield Request(msgspec.json.encode(body).decode(), (pair,))

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if not head.response_type:
            head = decode_head(with_long_names(frame.payload, SHORT_NAMES))
        match head.response_type:
            case "DATA":
                yield self._data(head)
            case "SUBSCRIBED":
                yield Subscribed(pair=_pair(decode_topic(head.data)))
            case "ERROR":
                yield self.refused(frame, f"{head.error_code}: {head.message}")
            case "CONNECTED" | "UNSUBSCRIBED" | "PONG":
                yield Control(name=head.response_type.lower())
            case unknown:
                raise ValueError(f"response type {unknown!r} is not known")

    def _data(self, head: CoinoneHead) -> Event:
        match head.channel:
            case "TICKER":
                return _ticker(decode_ticker(head.data))
            case "ORDERBOOK":
                return _book(decode_book(head.data))
            case "TRADE":
                return _trade(_pair(decode_topic(head.data)), decode_trade(head.data))
            case "CHART":
                return _candle(decode_candle(head.data))
            case unknown:
                raise ValueError(f"channel {unknown!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        if answer.result != "success":
            yield self.refused(frame, f"{answer.error_code}: {answer.error_msg}")
            return
        match frame.channel:
            case Channel.INSTRUMENT:
                yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
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
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        symbol = self.symbol(pair)
        paths = {
            Channel.TICKER: f"ticker_new/{symbol}",
            Channel.ORDERBOOK: f"orderbook/{symbol}?size=16",
            Channel.TRADE: f"trades/{symbol}?size=200",
            Channel.CANDLE: f"chart/{symbol}?interval=1m&size=500",
        }
        return f"{self.rest_url}/public/v2/{paths[channel]}"

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/public/v2/markets/{self.quote}"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.result != "success":
            raise DecodeError(f"coinone: {answer.error_code}: {answer.error_msg}")
        return decode_markets(payload).markets

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. Source: https://docs.coinone.co.kr/reference/markets"""
        market = decode_market(row)
        state = TRADE_STATES.get(market.trade_status, InstrumentState.UNKNOWN)
        word = None if market.trade_status is None else f"trade_status {market.trade_status}"
        if market.maintenance_status:
            state, word = InstrumentState.HALTED, f"maintenance_status {market.maintenance_status}"
        return Instrument(
            pair=_pair(market),
            state=state,
            exchange_state=word,
            tick_size=market.price_unit or None,
            size_step=market.qty_unit or None,
            min_size=market.min_qty or None,
            min_value=market.min_order_amount or None,
        )


def _pair(topic: CoinoneTopic) -> Pair:
    """Return the pair of a row. REST writes currencies in lower case, the socket in upper case."""
    return Pair.read(f"{topic.target_currency}-{topic.quote_currency}".upper())


def _ticker(row: CoinoneTicker) -> Ticker:
    """Return a ticker of the socket, whose prices are of the UTC day."""
    previous_close = price(row.yesterday_last)
    return Ticker(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        last=last_price(row.last),
        open_day=price(row.first),
        high_day=price(row.high),
        low_day=price(row.low),
        prev_close_day=previous_close,
        change_day=difference(price(row.last), previous_close),
        volume_24h=number(row.target_volume),
        quote_volume_24h=number(row.quote_volume),
        best_bid=price(row.bid_best_price),
        best_bid_size=number(row.bid_best_qty),
        best_ask=price(row.ask_best_price),
        best_ask_size=number(row.ask_best_qty),
    )


def _rest_ticker(row: CoinoneRestTicker) -> Ticker:
    """Return a ticker of REST. Its prices have the names of the socket, but are of the last 24 hours."""
    open_price = price(row.first)
    bid, ask = next(iter(row.best_bids or ()), None), next(iter(row.best_asks or ()), None)
    return Ticker(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        last=last_price(row.last),
        open_24h=open_price,
        high_24h=price(row.high),
        low_24h=price(row.low),
        change_24h=difference(price(row.last), open_price),
        volume_24h=number(row.target_volume),
        quote_volume_24h=number(row.quote_volume),
        best_bid=price(bid.price) if bid else None,
        best_bid_size=number(bid.qty) if bid else None,
        best_ask=price(ask.price) if ask else None,
        best_ask_size=number(ask.qty) if ask else None,
    )


def _book(row: CoinoneBook) -> BookUpdate:
    return BookUpdate(
        pair=_pair(row),
        exchange_time=from_milliseconds(row.timestamp),
        is_snapshot=True,
        bids=[Level(float(order.price), float(order.qty)) for order in row.bids],
        asks=[Level(float(order.price), float(order.qty)) for order in row.asks],
    )


def _trade(pair: Pair, row: CoinoneTrade) -> Trade:
    """Return a trade without a side.

    The name of the field `is_seller_maker` says the opposite of its documentation, so that the taker is not known.
    """
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        id=row.id,
        price=row.price,
        size=row.qty,
        side=None,
    )


def _candle(row: CoinoneCandle) -> Event:
    if row.interval != "1m":
        return Control(name=f"candle of {row.interval}")  # we keep candles of a minute only
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


def _rest_candle(pair: Pair, row: CoinoneRestCandle) -> Candle:
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


class CoinoneHead(msgspec.Struct):
    """What tells the messages of the socket apart."""

    response_type: str = ""  # "DATA" | "CONNECTED" | "SUBSCRIBED" | "UNSUBSCRIBED" | "PONG" | "ERROR"
    channel: str = ""  # "TICKER" | "ORDERBOOK" | "TRADE" | "CHART"
    data: msgspec.Raw = msgspec.Raw(b"{}")
    error_code: int | str = 0  # 160012
    message: str = ""  # "Invalid Topic"


class CoinoneTopic(msgspec.Struct):
    """The pair of a message or of a row."""

    quote_currency: str  # "KRW"; REST writes "krw", too
    target_currency: str  # "BTC", the base


class CoinoneTicker(CoinoneTopic):
    """The data of a ticker message."""

    timestamp: int  # 1705301117198, ms
    last: msgspec.Raw = ABSENT  # "58532000"
    first: str | None = None  # "57293000", the open of the UTC day
    high: str | None = None  # "58710000"
    low: str | None = None  # "57276000"
    target_volume: str | None = None  # "334.81445168", base currency, 24 hours
    quote_volume: str | None = None  # "19521465345.504"
    yesterday_last: str | None = None  # "57301000"
    ask_best_price: str | None = None  # "58537000"; null or "" on thin pairs
    ask_best_qty: str | None = None  # "0.1961"
    bid_best_price: str | None = None  # "58532000"
    bid_best_qty: str | None = None  # "0.00009258"


class CoinoneOrder(msgspec.Struct):
    """One level of a book."""

    price: str  # "116650000"
    qty: str  # "0.01198956"


class CoinoneBook(CoinoneTopic):
    """A whole book of the socket or of REST."""

    timestamp: int  # 1790134167554, ms, of the last change; 10 s old in the first message after a subscription
    asks: list[CoinoneOrder]  # worst first on the socket, best first on REST
    bids: list[CoinoneOrder]  # best first


class CoinoneTrade(msgspec.Struct):
    """A trade of the socket or of REST."""

    id: str  # "1693560450996001"
    timestamp: int  # 1693560450996, ms
    price: float  # "688.3"
    qty: float  # "5000"


class CoinoneCandle(CoinoneTopic):
    """The data of a candle message."""

    interval: str  # "1m"
    candle_timestamp: int  # 1693560360000, ms, the open
    timestamp: int  # 1693560360010, ms, of the message
    first: float  # "698.7", the open
    high: float
    low: float
    last: float  # "687.9", the close
    target_volume: float  # "80021677.1681579", base currency
    quote_volume: float  # "55904975548.1528"


class CoinoneRestTicker(CoinoneTopic):
    """A row of a ticker answer."""

    timestamp: int  # 1701073357818, ms
    last: msgspec.Raw = ABSENT  # "50062000.0"
    first: str | None = None  # "50487000.0", 24 hours ago
    high: str | None = None  # "50543000.0"
    low: str | None = None  # "49945000.0"
    target_volume: str | None = None  # "226.07268994", base currency
    quote_volume: str | None = None  # "11349804285.3859"
    best_asks: list[CoinoneOrder] | None = None  # null or empty on thin pairs
    best_bids: list[CoinoneOrder] | None = None


class CoinoneRestCandle(msgspec.Struct):
    """A row of a candle answer."""

    timestamp: int  # 1582253100000, ms, the open
    open: float  # "15133000.0"
    high: float
    low: float
    close: float
    target_volume: float  # "0.0", base currency
    quote_volume: float  # "0.0"


class CoinoneMarket(CoinoneTopic):
    """A row of the list of markets."""

    trade_status: int | None = None  # see `TRADE_STATES`
    maintenance_status: int | None = None  # 0: normal, 1: maintenance
    price_unit: str | None = None  # "100.0"; the step at the present price
    qty_unit: str | None = None  # "0.0001"
    min_qty: str | None = None
    min_order_amount: str | None = None


class CoinoneAnswer(msgspec.Struct):
    """What each answer of REST begins with. HTTP is 200 also for errors."""

    result: str = ""  # "success" | "error"
    error_code: str | int = ""  # "107"
    error_msg: str = ""  # "Parameter value is wrong"


class CoinoneTickers(msgspec.Struct):
    """A ticker answer."""

    tickers: list[CoinoneRestTicker]


class CoinoneTrades(CoinoneTopic):
    """A trade answer."""

    transactions: list[CoinoneTrade]


class CoinoneCandles(msgspec.Struct):
    """A candle answer."""

    chart: list[CoinoneRestCandle]


class CoinoneMarkets(msgspec.Struct):
    """The answer that lists the markets."""

    markets: list[msgspec.Raw]


decode_head = msgspec.json.Decoder(CoinoneHead).decode
decode_topic = msgspec.json.Decoder(CoinoneTopic).decode
decode_ticker = msgspec.json.Decoder(CoinoneTicker).decode
decode_book = msgspec.json.Decoder(CoinoneBook).decode
decode_trade = msgspec.json.Decoder(CoinoneTrade, strict=False).decode
decode_candle = msgspec.json.Decoder(CoinoneCandle, strict=False).decode
decode_answer = msgspec.json.Decoder(CoinoneAnswer).decode
decode_tickers = msgspec.json.Decoder(CoinoneTickers).decode
decode_trades = msgspec.json.Decoder(CoinoneTrades, strict=False).decode
decode_candles = msgspec.json.Decoder(CoinoneCandles, strict=False).decode
decode_markets = msgspec.json.Decoder(CoinoneMarkets).decode
decode_market = msgspec.json.Decoder(CoinoneMarket).decode

# The short names of the format SHORT. We do not ask for it, but recordings hold it.
SHORT_NAMES = {
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
