"""Binance spot: books bridged from a REST snapshot. https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from coin_platform.errors import UnknownPair
from coin_platform.exchanges.bans import plausible_ban
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, chunks, from_milliseconds, last_price, number, price, split_symbol
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
    Notice,
    Pair,
    Proof,
    Refusal,
    Region,
    Side,
    Ticker,
    Trade,
)


class Error(msgspec.Struct):
    code: int  # 2; -1121 on REST
    msg: str = ""


class Head(msgspec.Struct):
    stream: str = ""  # "btcusdt@ticker"
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # null: done
    error: Error | None = None  # as seen live
    code: int | None = None  # these two as documented
    msg: str = ""
    id: int | str | None = None


class Kind(msgspec.Struct):
    e: str = ""  # "24hrTicker"; whole books and best prices have none


class TickerRow(msgspec.Struct):
    """Upper and lower case are different fields: `b` is a price, `B` its size."""

    s: str  # "BTCUSDT"
    E: int  # ms
    c: msgspec.Raw = ABSENT  # last
    o: str | None = None  # 24 hours ago
    h: str | None = None
    l: str | None = None  # noqa: E741
    p: str | None = None  # change; `P` is in percent with three digits: not used
    v: str | None = None  # base
    q: str | None = None  # quote
    b: str | None = None
    B: str | None = None
    a: str | None = None
    A: str | None = None


class ChangeRow(msgspec.Struct):
    s: str
    E: int  # ms
    U: int  # the first change in this message
    u: int  # the last one
    b: list[Level]  # ["0.35170000", "4265.00000000"]: price, size
    a: list[Level]


class BookRow(msgspec.Struct):
    lastUpdateId: int  # noqa: N815
    bids: list[Level]
    asks: list[Level]


class TradeRow(msgspec.Struct):
    s: str
    p: float
    q: float
    T: int  # ms
    m: bool  # the buyer waited: the taker sold


class OneTradeRow(TradeRow):
    t: int  # id


class AggregateTradeRow(TradeRow):
    a: int  # id


class CandlePart(msgspec.Struct):
    s: str
    t: int  # ms
    i: str  # "1m"
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float  # base
    q: float  # quote
    x: bool  # is it closed


class CandleRow(msgspec.Struct):
    E: int  # ms
    k: CandlePart


class RestTicker(msgspec.Struct):
    symbol: str
    closeTime: int  # noqa: N815  ms
    lastPrice: msgspec.Raw = ABSENT  # noqa: N815
    openPrice: str | None = None  # noqa: N815
    highPrice: str | None = None  # noqa: N815
    lowPrice: str | None = None  # noqa: N815
    priceChange: str | None = None  # noqa: N815
    volume: str | None = None
    quoteVolume: str | None = None  # noqa: N815
    bidPrice: str | None = None  # noqa: N815
    bidQty: str | None = None  # noqa: N815
    askPrice: str | None = None  # noqa: N815
    askQty: str | None = None  # noqa: N815


class RestTrade(msgspec.Struct):
    id: int
    price: float
    qty: float
    time: int  # ms
    isBuyerMaker: bool  # noqa: N815


class RestCandle(msgspec.Struct, array_like=True):
    time: int  # ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    _close_time: int
    quote_volume: float


class Market(msgspec.Struct):
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    status: str | None = None  # "TRADING"
    isSpotTradingAllowed: bool | None = None  # noqa: N815
    symbol: str = ""


class Markets(msgspec.Struct):
    symbols: list[msgspec.Raw]


decode_head = msgspec.json.Decoder(Head).decode
decode_kind = msgspec.json.Decoder(Kind).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode
decode_change = msgspec.json.Decoder(ChangeRow, strict=False).decode
decode_book = msgspec.json.Decoder(BookRow, strict=False).decode
decode_trade = msgspec.json.Decoder(OneTradeRow, strict=False).decode
decode_aggregate = msgspec.json.Decoder(AggregateTradeRow, strict=False).decode
decode_candle = msgspec.json.Decoder(CandleRow, strict=False).decode
decode_error = msgspec.json.Decoder(Error).decode
decode_rest_tickers = msgspec.json.Decoder(RestTicker | list[RestTicker]).decode
decode_rest_trades = msgspec.json.Decoder(list[RestTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[RestCandle], strict=False).decode
decode_markets = msgspec.json.Decoder(Markets).decode
decode_market = msgspec.json.Decoder(Market).decode

STREAMS = {
    Channel.TICKER: "ticker",
    Channel.ORDERBOOK: "depth@100ms",
    Channel.TRADE: "trade",
    Channel.CANDLE: "kline_1m",
}
# Symbols have no separator, and frames must be read without asking the exchange. No quote here ends in another one, so
# a symbol can be cut in one way only: that is why BIDR (-IDR) and AEUR (-EUR), no longer traded, and USD, which only
# Binance.US has (-BUSD, -TUSD), are left out. BUSD and PAX are for old recordings. `RETIRED` has the symbols that would
# be cut wrongly for want of them.
QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "USD1", "U", "DAI", "EURI", "BUSD", "PAX"),
    *("BTC", "ETH", "BNB", "SOL", "XRP", "TRX", "DOGE", "DOT"),
    *("TRY", "EUR", "BRL", "JPY", "ARS", "MXN", "ZAR", "PLN", "RON", "CZK", "COP", "IDR", "UAH", "GBP", "AUD"),
)
RETIRED = frozenset(
    {
        *(f"{base}AEUR" for base in ("BTC", "ETH", "EUR", "USDT")),
        *(
            f"{base}BIDR"
            for base in (
                *("BTC", "ETH", "BNB", "BUSD", "USDT", "USDC", "XRP", "SOL", "DOGE", "ADA", "AVAX", "DOT", "MATIC"),
                *("LINK", "TRX", "LTC", "SHIB", "ATOM", "NEAR", "FTM", "SAND", "AXS", "GALA", "LUNA", "ALICE", "CAKE"),
                *(
                    "MBOX",
                    "TKO",
                    "TLM",
                    "SXP",
                    "AUDIO",
                    "DGB",
                    "EOS",
                    "XLM",
                    "APE",
                    "GMT",
                    "APT",
                    "LOOM",
                    "WIF",
                    "PEPE",
                ),
            )
        ),
    }
)


class Binance(Exchange):
    """Binance: each change of a book names the numbers it spans; the whole book comes over REST."""

    name = "binance"
    title = "Binance"
    region = Region.NE
    partition = 0
    quote = "USDT"
    channels = frozenset(Channel)
    proof = Proof.SEQUENCE
    depth = 1000  # of the snapshot over REST; changes farther out are kept too
    # Market data only. Messages of /stream name their stream: whole books would have no symbol otherwise.
    ws_url = "wss://data-stream.binance.vision/stream"
    rest_url = "https://data-api.binance.vision"
    # 1024 streams a connection, 5 messages/s, 300 connections in 5 min; REST 6000 a minute, a book of 1000 levels is 50
    limits = Limits(pairs_per_connection=512, messages_per_second=2.5, requests_per_second=1)
    ban_seconds = 120.0  # bans last from 2 minutes to 3 days, as documented
    # https://github.com/binance/binance-spot-api-docs/blob/master/errors.md; code 0 comes with HTTP 451
    refusal_rules = (
        RefusalRule(r"^-1121:|^-1100:.*'symbol'", Refusal.FINAL),
        RefusalRule(r"^-1003:|too many requests|request weight", is_rate_limit=True),
        RefusalRule(r"^-100[48]:", is_rate_limit=True, ban_seconds=60.0),  # overloaded: "try again in a few minutes"
        RefusalRule(r"^-(1002|1022|2014|2015):|restricted location|not authorized", Refusal.CONNECTION),
    )
    is_sparse = True  # quiet books send nothing
    has_deltas = True
    is_bridged = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        if symbol in RETIRED:
            raise UnknownPair(f"{symbol!r} is not traded any more")
        return split_symbol(symbol, QUOTES, {})

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("SUBSCRIBE", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("UNSUBSCRIBE", channel, pairs, id)

    def _ask(self, method: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for number_, some in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            # in upper case a stream would be acknowledged and silent
            streams = [f"{self.symbol(pair).lower()}@{STREAMS[channel]}" for pair in some]
            body = {"method": method, "params": streams, "id": number_}
            yield Request(msgspec.json.encode(body).decode(), some, number_)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        request = head.id if isinstance(head.id, int) else None
        error = head.error or (Error(head.code, head.msg) if head.code is not None else None)
        if error is not None:
            yield self.refused(frame, f"{error.code}: {error.msg}", request=request)
        elif head.data is not msgspec.UNSET:
            yield self._data(head.stream, head.data)
        elif head.result is msgspec.UNSET:
            yield self._data("", frame.payload)  # a message of /ws
        elif head.id is None:
            raise ValueError("neither a stream nor the answer to a request")
        else:
            # `null` says that a request was understood, but not that its streams exist: only their data confirm them.
            yield Control(name="done" if bytes(head.result) == b"null" else "answer")

    def _data(self, stream: str, data: msgspec.Raw | bytes) -> Event:
        if stream.endswith("@arr"):
            return Control(name=stream)  # all pairs at once: not asked for
        kind = decode_kind(data).e
        match kind:
            case "24hrTicker" | "24hrMiniTicker":
                return self._ticker(decode_ticker(data))
            case "depthUpdate":
                return self._change(decode_change(data))
            case "trade":
                trade = decode_trade(data)
                return self._trade(trade, trade.t)
            case "aggTrade":
                aggregate = decode_aggregate(data)
                return self._trade(aggregate, aggregate.a)
            case "kline":
                return self._candle(decode_candle(data))
            case "serverShutdown":
                return Notice(reason=kind)
            case "":
                return self._unnamed(stream, data)
            case _:
                raise ValueError(f"event {kind!r} is not known")

    def _unnamed(self, stream: str, data: msgspec.Raw | bytes) -> Event:
        symbol, _, name = stream.partition("@")
        if name == "bookTicker":
            return Control(name=name)  # the best prices, which the book has too
        depth = name.removeprefix("depth").partition("@")[0]  # "depth20@100ms"
        return _whole(self.pair(symbol.upper()), decode_book(data), int(depth))

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{" and b'"code"' in frame.payload:
            error = decode_error(frame.payload)
            yield self.refused(frame, f"{error.code}: {error.msg}")
            return
        if frame.channel is Channel.TICKER:
            found = decode_rest_tickers(frame.payload)
            yield from map(self._rest_ticker, found if isinstance(found, list) else [found])
            return
        if frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        match frame.channel:
            case Channel.ORDERBOOK:
                yield _whole(frame.pair, decode_book(frame.payload), None)
            case Channel.TRADE:
                for trade in decode_rest_trades(frame.payload):
                    yield _rest_trade(frame.pair, trade)
            case _:
                for candle in decode_rest_candles(frame.payload):
                    yield _rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        market = f"symbol={self.symbol(pair)}"
        return (
            f"{self.rest_url}/api/v3/"
            + {
                Channel.TICKER: f"ticker/24hr?{market}",
                Channel.ORDERBOOK: f"depth?{market}&limit=1000",
                Channel.TRADE: f"trades?{market}&limit=1000",
                Channel.CANDLE: f"klines?{market}&interval=1m&limit=1000",
            }[channel]
        )

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """HTTP 418 comes with `IP banned until 1659146400000` (ms), beside its Retry-After."""
        until = re.search(rb"banned until (\d{13})", body)
        return plausible_ban((from_milliseconds(int(until[1])) - time) / SECOND) if until else None

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/api/v3/exchangeInfo?showPermissionSets=false"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_markets(payload).symbols

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        pair = Pair.read(f"{market.baseAsset}-{market.quoteAsset}")
        is_traded = market.status == "TRADING" and market.isSpotTradingAllowed is True
        return pair if is_traded and market.symbol in ("", self.symbol(pair)) else None

    def _ticker(self, row: TickerRow) -> Ticker:
        return Ticker(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.E),
            last=last_price(row.c),
            open_24h=price(row.o),
            high_24h=price(row.h),
            low_24h=price(row.l),
            change_24h=number(row.p),
            volume_24h=number(row.v),
            quote_volume_24h=number(row.q),
            best_bid=price(row.b),
            best_bid_size=number(row.B),
            best_ask=price(row.a),
            best_ask_size=number(row.A),
        )

    def _rest_ticker(self, row: RestTicker) -> Ticker:
        return Ticker(
            pair=self.pair(row.symbol),
            exchange_time=from_milliseconds(row.closeTime),
            last=last_price(row.lastPrice),
            open_24h=price(row.openPrice),
            high_24h=price(row.highPrice),
            low_24h=price(row.lowPrice),
            change_24h=number(row.priceChange),
            volume_24h=number(row.volume),
            quote_volume_24h=number(row.quoteVolume),
            best_bid=price(row.bidPrice),
            best_bid_size=number(row.bidQty),
            best_ask=price(row.askPrice),
            best_ask_size=number(row.askQty),
        )

    def _change(self, row: ChangeRow) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.E),
            is_snapshot=False,
            bids=row.b,
            asks=row.a,
            first_sequence=row.U,
            last_sequence=row.u,
        )

    def _trade(self, row: TradeRow, id: int) -> Trade:
        return Trade(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.T),
            id=str(id),
            price=row.p,
            size=row.q,
            side=Side.SELL if row.m else Side.BUY,
        )

    def _candle(self, row: CandleRow) -> Event:
        candle = row.k
        if candle.i != "1m":
            return Control(name=f"candle {candle.i}")  # we keep minutes
        return Candle(
            pair=self.pair(candle.s),
            exchange_time=from_milliseconds(row.E),
            open_time=from_milliseconds(candle.t),
            open=candle.o,
            high=candle.h,
            low=candle.l,
            close=candle.c,
            volume=candle.v,
            quote_volume=candle.q,
            is_closed=candle.x,
        )


def _whole(pair: Pair, row: BookRow, depth: int | None) -> BookUpdate:
    return BookUpdate(  # neither the socket nor REST tells its time
        pair=pair,
        is_snapshot=True,
        bids=row.bids,
        asks=row.asks,
        last_sequence=row.lastUpdateId,
        depth=depth,
    )


def _rest_trade(pair: Pair, row: RestTrade) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.time),
        id=str(row.id),
        price=row.price,
        size=row.qty,
        side=Side.SELL if row.isBuyerMaker else Side.BUY,
    )


def _rest_candle(pair: Pair, row: RestCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=from_milliseconds(row.time),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.quote_volume,
    )
