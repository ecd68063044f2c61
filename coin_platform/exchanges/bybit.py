"""Bybit spot, API v5: what we send, and what its messages mean.

Source: https://bybit-exchange.github.io/docs/v5/intro
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges.base import NO_SUCH_MARKET, Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import (
    ABSENT,
    chunks,
    difference,
    from_milliseconds,
    last_price,
    number,
    price,
    split_symbol,
)
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
    Side,
    Subscribed,
    Ticker,
    Trade,
)

CHANNEL_NAMES = {
    Channel.TICKER: "tickers",
    Channel.ORDERBOOK: "orderbook.200",
    Channel.TRADE: "publicTrade",
    Channel.CANDLE: "kline.1",
}
_REFUSED_TOPIC = re.compile(r"(?:tickers|publicTrade|orderbook\.\w+|kline\.\w+)\.([\w.]+)")

# Symbols have no separator, and we must read a frame without asking the exchange. So we know the quote currencies.
# 1. All 558 markets of 2026-08 have one of `QUOTES`.
# 2. Two quotes end in a third one: BTCXUSD could be BTC-XUSD or BTCX-USD. `QUOTE_OF` has the quote of the symbols that
#    we know. A frame with any other such symbol becomes a dead letter.
QUOTES = (
    *("RLUSD", "USDT", "USDC", "USDE", "USD1", "XUSD"),
    *("USD", "EUR", "GBP", "BRL", "AED", "PLN", "TRY", "BTC", "ETH", "SOL"),
)
QUOTE_OF = {
    **dict.fromkeys(("BTCXUSD",), "XUSD"),
    **dict.fromkeys(("BTCRLUSD", "ETHRLUSD", "XRPRLUSD"), "RLUSD"),
    **dict.fromkeys(("AVAXUSD", "TRXUSD", "DYDXUSD", "IMXUSD", "SNXUSD", "STXUSD", "ZRXUSD"), "USD"),
}

MARKET_STATES = {
    "Trading": InstrumentState.TRADING,
    "PreLaunch": InstrumentState.UPCOMING,
    "Closed": InstrumentState.DELISTED,
}


class Bybit(Exchange):
    """Bybit: changes of a book are numbered one by one, so that the next message reveals a lost one.

    Rules of a connection (https://bybit-exchange.github.io/docs/v5/ws/connect):

    1. A request has at most 10 topics. Its answer repeats `req_id`.
    2. A bad topic refuses the whole request. The text of the refusal names the topic.
    3. We send a ping every 20 s. The answer has the operation `ping` on spot, `pong` on other markets.
    """

    name = "bybit"
    title = "Bybit"
    region = Region.ASIA
    partition = 1
    quote = "USDT"
    channels = frozenset(CHANNEL_NAMES)  # it lists its markets over REST only
    proof = Proof.SEQUENCE
    depth = 200
    has_deltas = True
    ws_url = "wss://stream.bybit.com/v5/public/spot"
    rest_url = "https://api.bybit.com"
    refuses_whole_request = True
    ping = '{"req_id":"ping","op":"ping"}'

    # Limits (https://bybit-exchange.github.io/docs/v5/rate-limit, https://bybit-exchange.github.io/docs/v5/error):
    # 1. 500 connections in 5 min, 600 REST requests in 5 s. No rate of messages is published.
    # 2. HTTP 403, "access too frequent", bans an address for 10 minutes. So do the codes 10018 and 10009.
    # 3. Code 10006 is the limit of one path. It is counted in up to 5 s.
    # 4. Code 10001 is any bad parameter: its text says whether the symbol is meant.
    limits = Limits(pairs_per_request=10, connects_per_minute=50, requests_per_second=60)
    ban_seconds = 600.0
    refusal_rules = (
        RefusalRule(
            r"(invalid|unknown|not supported) symbol|symbol\S* (is )?(invalid|not )|handler not found|^170121:",
            Refusal.FINAL,
        ),
        RefusalRule(r"^(10006|10429|20003|429):|too many (visits|requests)", is_rate_limit=True, ban_seconds=5.0),
        RefusalRule(r"^10018:|access too frequent", is_rate_limit=True),
        RefusalRule(r"^10009:", Refusal.CONNECTION, is_rate_limit=True),
        RefusalRule(
            r"^(1000[3-58]|10007|10010|10024|10027|33004):|\bauth(\b|ori[sz]|entic)|too many (connections|sessions)",
            Refusal.CONNECTION,
        ),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        return split_symbol(symbol, QUOTES, QUOTE_OF)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("unsubscribe", channel, pairs, id)

    def _requests(self, operation: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for request_id, batch in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            topics = [f"{CHANNEL_NAMES[channel]}.{self.symbol(pair)}" for pair in batch]
            body = {"req_id": str(request_id), "op": operation, "args": topics}
            yield Request(msgspec.json.encode(body).decode(), batch, request_id)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.op or head.success is False:
            yield self._answer(frame, head)
            return
        match head.topic.split(".", 1 + head.topic.startswith(("orderbook.", "kline."))):
            case ["tickers", _] if head.type == "snapshot":  # only tickers of derivatives, not ours, have changes
                yield self._ticker(decode_ticker(head.data), head.ts)
            case ["orderbook", depth, _] if depth.isdecimal():
                yield self._book(head, int(depth))
            case ["publicTrade", _]:
                yield from map(self._trade, decode_trades(head.data))
            case ["kline", "1", symbol]:
                for row in decode_candles(head.data):
                    yield _candle(self.pair(symbol), row)
            case ["orderbook" | "kline", _, _]:
                yield Control(name=head.topic)  # we keep candles of a minute, and books without retail orders
            case _:
                raise ValueError(f"topic {head.topic!r} of type {head.type!r} is not known")

    def _answer(self, frame: Frame, head: BybitHead) -> Event:
        request = int(head.req_id) if head.req_id.isdecimal() else None
        if head.op == "unsubscribe":
            return Control(name=head.op)  # refused or not, the pair is not subscribed any more
        if head.success is False:
            return self.refused(frame, head.ret_msg, pair=self._refused_pair(head.ret_msg), request=request)
        if head.op == "subscribe":
            return Subscribed(request=request)
        return Control(name="pong" if head.op == "ping" else head.op)

    def _refused_pair(self, reason: str) -> Pair | None:
        """Return the pair of the topic that a refusal names, if its symbol is one of a pair."""
        topic = _REFUSED_TOPIC.search(reason)
        try:
            return self.pair(topic[1]) if topic else None
        except UnknownPair:
            return None

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        if answer.retCode != 0:
            yield self.refused(frame, f"{answer.retCode}: {answer.retMsg}")
            return
        match frame.channel:
            case Channel.INSTRUMENT:
                yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
            case Channel.TICKER:
                rows = decode_rest_tickers(answer.result).rows
                if not rows:
                    yield self.refused(frame, NO_SUCH_MARKET)
                for ticker in rows:
                    yield self._ticker(ticker, answer.time)
            case Channel.ORDERBOOK:
                yield self._rest_book(decode_book(answer.result))
            case Channel.TRADE:
                yield from map(self._rest_trade, decode_rest_trades(answer.result).rows)
            case _:
                if frame.pair is None:
                    raise ValueError("a REST answer needs its pair")
                for candle in decode_rest_candles(answer.result).rows:
                    yield _rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        market = f"category=spot&symbol={self.symbol(pair)}"
        paths = {
            Channel.TICKER: f"tickers?{market}",
            Channel.ORDERBOOK: f"orderbook?{market}&limit=200",
            Channel.TRADE: f"recent-trade?{market}&limit=60",
            Channel.CANDLE: f"kline?{market}&interval=1&limit=1000",
        }
        return f"{self.rest_url}/v5/market/{paths[channel]}"

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v5/market/instruments-info?category=spot"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.retCode != 0:
            raise DecodeError(f"bybit: {answer.retCode}: {answer.retMsg}")
        return decode_markets(answer.result).rows

    def instrument(self, row: msgspec.Raw) -> Instrument | None:
        """Return a market. Source: https://bybit-exchange.github.io/docs/v5/market/instrument"""
        market = decode_market(row)
        pair = Pair.read(f"{market.baseCoin}-{market.quoteCoin}")
        if market.symbol not in ("", self.symbol(pair)):
            return None
        return Instrument(
            pair=pair,
            state=MARKET_STATES.get(market.status or "", InstrumentState.UNKNOWN),
            exchange_state=market.status or None,
            tick_size=market.priceFilter.tickSize or None,
            size_step=market.lotSizeFilter.basePrecision or None,
            min_size=market.lotSizeFilter.minOrderQty or None,
            min_value=market.lotSizeFilter.minOrderAmt or None,
        )

    def _ticker(self, row: BybitTicker, time: int) -> Ticker:
        open_price = price(row.prevPrice24h)
        return Ticker(
            pair=self.pair(row.symbol),
            exchange_time=from_milliseconds(time),
            last=last_price(row.lastPrice),
            open_24h=open_price,
            high_24h=price(row.highPrice24h),
            low_24h=price(row.lowPrice24h),
            change_24h=difference(price(row.lastPrice), open_price),  # the rate that Bybit sends has only four digits
            volume_24h=number(row.volume24h),
            quote_volume_24h=number(row.turnover24h),
            best_bid=price(row.bid1Price),
            best_bid_size=number(row.bid1Size),
            best_ask=price(row.ask1Price),
            best_ask_size=number(row.ask1Size),
        )

    def _book(self, head: BybitHead, depth: int) -> BookUpdate:
        """Return a whole book or a change.

        Rules (https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook):

        1. `snapshot` replaces the book, whatever its number. It may come at any time.
        2. `delta` changes the book. Its number `u` is one higher than the one before: so it is in all recordings.
        3. `u` is 1 after a restart of the service. Such a message is the whole book, also where its type is `delta`.
        """
        row = decode_book(head.data)
        is_snapshot = {"snapshot": True, "delta": False}[head.type] or row.u == 1
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(head.ts if head.cts is None else head.cts),
            is_snapshot=is_snapshot,
            bids=row.b,
            asks=row.a,
            first_sequence=row.u,
            last_sequence=row.u,
            depth=depth if is_snapshot else None,
        )

    def _rest_book(self, row: BybitBook) -> BookUpdate:
        """Return the book of an answer without its number, which counts the changes of 1000 levels and not of ours."""
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.ts if row.cts is None else row.cts),
            is_snapshot=True,
            bids=row.b,
            asks=row.a,
        )

    def _trade(self, row: BybitTrade) -> Trade:
        return Trade(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.T),
            id=row.i,
            price=row.p,
            size=row.v,
            side=Side(row.S.lower()),
        )

    def _rest_trade(self, row: BybitRestTrade) -> Trade:
        return Trade(
            pair=self.pair(row.symbol),
            exchange_time=from_milliseconds(row.time),
            id=row.execId,
            price=row.price,
            size=row.size,
            side=Side(row.side.lower()),
        )


def _candle(pair: Pair, row: BybitCandle) -> Candle:
    return Candle(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        open_time=from_milliseconds(row.start),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.turnover,
        is_closed=row.confirm,
    )


def _rest_candle(pair: Pair, row: BybitRestCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=from_milliseconds(row.start),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.turnover,
    )


_NO_DATA = msgspec.Raw(b"{}")


class BybitHead(msgspec.Struct):
    """A message of the socket. An answer to us has an operation, data has a topic."""

    topic: str = ""  # "orderbook.200.BTCUSDT"
    type: str = ""  # "snapshot" | "delta"
    ts: int = 0  # 1786310819126, ms
    cts: int | None = None  # 1749833475038, ms, of the matching engine; of books only, and not in 2023
    data: msgspec.Raw = _NO_DATA
    op: str = ""  # "subscribe" | "unsubscribe" | "ping"
    success: bool | None = None  # of an answer
    ret_msg: str = ""  # "Invalid symbol :[tickers.NOPEUSDT]"
    req_id: str = ""  # "10001"


class BybitTicker(msgspec.Struct):
    """A ticker of the socket or of REST."""

    symbol: str  # "BTCUSDT"
    lastPrice: msgspec.Raw = ABSENT  # noqa: N815  "65140.5"
    prevPrice24h: str | None = None  # noqa: N815  "65045.3", 24 hours ago
    highPrice24h: str | None = None  # noqa: N815  "65305.6"
    lowPrice24h: str | None = None  # noqa: N815  "64727.9"
    volume24h: str | None = None  # "2953.835931", base currency
    turnover24h: str | None = None  # "191907024.69597728", quote currency
    bid1Price: str | None = None  # noqa: N815  "20517.96"; like the next three, only on REST
    bid1Size: str | None = None  # noqa: N815  "2"
    ask1Price: str | None = None  # noqa: N815  "20527.77"
    ask1Size: str | None = None  # noqa: N815  "1.862172"


class BybitBook(msgspec.Struct):
    """The data of a book message, or a book answer."""

    s: str  # "BTCUSDT"
    b: list[Level]  # [["65140.4", "0.875077"]]: price, size
    a: list[Level]
    u: int  # 62505425, the number of the change
    ts: int = 0  # 1716863719031, ms; on REST only, like the next one
    cts: int | None = None  # 1716863718905, ms, of the matching engine


class BybitTrade(msgspec.Struct):
    """A trade of the socket."""

    s: str  # "BTCUSDT"
    i: str  # "2290000001189048101"
    T: int  # 1786310822605, ms
    p: float  # "65140.5"
    v: float  # "0.002705", base currency
    S: str  # "Buy" | "Sell", the taker's


class BybitCandle(msgspec.Struct):
    """A candle of the socket."""

    start: int  # 1786310760000, ms
    open: float  # "65140.4"
    high: float
    low: float
    close: float
    volume: float  # "0.15318", base currency
    turnover: float  # "9978.2084389", quote currency
    confirm: bool  # the minute is over
    timestamp: int  # 1786310816562, ms, of the last trade


class BybitRestTrade(msgspec.Struct):
    """A trade of REST."""

    symbol: str  # "BTCUSDT"
    execId: str  # noqa: N815  "2100000000007764263"
    time: int  # "1672052955758", ms
    price: float  # "16618.49"
    size: float  # "0.00012"
    side: str  # "Buy" | "Sell", the taker's


class BybitRestCandle(msgspec.Struct, array_like=True):
    """A candle of REST."""

    start: int  # "1670608800000", ms
    open: float  # "17071"
    high: float
    low: float
    close: float
    volume: float  # "268611", base currency
    turnover: float  # "15.74462667", quote currency


class BybitPriceFilter(msgspec.Struct):
    tickSize: str | None = None  # noqa: N815  "0.1"


class BybitLotSizeFilter(msgspec.Struct):
    basePrecision: str | None = None  # noqa: N815  "0.000001"
    minOrderQty: str | None = None  # noqa: N815
    minOrderAmt: str | None = None  # noqa: N815  "5", quote currency


class BybitMarket(msgspec.Struct):
    """A row of the list of markets."""

    baseCoin: str  # noqa: N815  "BTC"
    quoteCoin: str  # noqa: N815  "USDT"
    status: str | None = None  # "Trading"
    symbol: str = ""  # "BTCUSDT"
    priceFilter: BybitPriceFilter = msgspec.field(default_factory=BybitPriceFilter)  # noqa: N815
    lotSizeFilter: BybitLotSizeFilter = msgspec.field(default_factory=BybitLotSizeFilter)  # noqa: N815


class BybitAnswer(msgspec.Struct):
    """An answer of REST. HTTP is 200 also for errors."""

    retCode: int  # noqa: N815  0; 10001 of an error
    retMsg: str = ""  # noqa: N815  "OK"
    result: msgspec.Raw = _NO_DATA
    time: int = 0  # 1673859087947, ms


class BybitTickers(msgspec.Struct):
    """The result of a ticker answer."""

    rows: list[BybitTicker] = msgspec.field(name="list")


class BybitTrades(msgspec.Struct):
    """The result of a trade answer."""

    rows: list[BybitRestTrade] = msgspec.field(name="list")


class BybitCandles(msgspec.Struct):
    """The result of a candle answer."""

    rows: list[BybitRestCandle] = msgspec.field(name="list")


class BybitMarkets(msgspec.Struct):
    """The result of the answer that lists the markets."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")


decode_head = msgspec.json.Decoder(BybitHead).decode
decode_ticker = msgspec.json.Decoder(BybitTicker).decode
decode_book = msgspec.json.Decoder(BybitBook, strict=False).decode
decode_trades = msgspec.json.Decoder(list[BybitTrade], strict=False).decode
decode_candles = msgspec.json.Decoder(list[BybitCandle], strict=False).decode
decode_answer = msgspec.json.Decoder(BybitAnswer).decode
decode_rest_tickers = msgspec.json.Decoder(BybitTickers).decode
decode_rest_trades = msgspec.json.Decoder(BybitTrades, strict=False).decode
decode_rest_candles = msgspec.json.Decoder(BybitCandles, strict=False).decode
decode_markets = msgspec.json.Decoder(BybitMarkets).decode
decode_market = msgspec.json.Decoder(BybitMarket).decode
