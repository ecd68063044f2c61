"""Binance spot: what we send, and what its messages mean.

Source: https://github.com/binance/binance-spot-api-docs
"""

from __future__ import annotations

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
    Instrument,
    InstrumentState,
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

STREAM_NAMES = {
    Channel.TICKER: "ticker",
    Channel.ORDERBOOK: "depth@100ms",
    Channel.TRADE: "trade",
    Channel.CANDLE: "kline_1m",
}

MARKET_STATES = {
    "TRADING": InstrumentState.TRADING,
    "PRE_TRADING": InstrumentState.UPCOMING,
    **dict.fromkeys(("HALT", "BREAK", "END_OF_DAY", "POST_TRADING", "AUCTION_MATCH"), InstrumentState.HALTED),
    "CANCEL_ONLY": InstrumentState.HALTED,
}


class Binance(Exchange):
    """Binance: each change of a book names the numbers it spans, and the whole book comes over REST.

    Rules of a connection (https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md):

    1. Stream names are in lower case. A stream that does not exist is acknowledged and stays silent, so only the first
       message of a pair confirms it.
    2. Messages of `/stream` name their stream. Whole books have no other name of their pair.
    3. The server pings every 20 s, and the library answers. A quiet book sends nothing, so a pong counts as a frame.
    4. A connection ends after 24 hours. `serverShutdown` announces an earlier end.

    How a local book is kept (same page, "How to manage a local order book correctly"):

    1. Open the stream and keep its changes.
    2. Ask for the whole book over REST.
    3. If its `lastUpdateId` is less than the first `U`, ask again.
    4. Drop the changes whose `u` is at most `lastUpdateId`. The next one must have `U <= lastUpdateId + 1 <= u`.
    5. From then on each `U` must be at most the `u` before it plus 1: a larger one is a gap, and the book begins anew
       at rule 2. Sizes are absolute, and size 0 deletes a level.

    `is_bridged` makes `Book` follow rules 1, 3, 4 and 5.
    """

    name = "binance"
    title = "Binance"
    region = Region.NE
    partition = 0
    quote = "USDT"
    channels = frozenset(STREAM_NAMES)  # it lists its markets over REST only
    proof = Proof.SEQUENCE
    ws_url = "wss://data-stream.binance.vision/stream"  # market data only, without a key
    rest_url = "https://data-api.binance.vision"
    depth = 1000  # of the snapshot over REST; changes of levels farther out are kept too
    has_deltas = True
    is_bridged = True
    is_sparse = True  # see rule 3

    # Limits: 1024 streams and 5 messages/s a connection, 300 connections in 5 minutes. REST allows 6000 units a minute,
    # and a book of 1000 levels costs 50. Bans last from 2 minutes to 3 days.
    # https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md#limits
    limits = Limits(pairs_per_connection=512, messages_per_second=2.5, requests_per_second=1)
    ban_seconds = 120.0

    # https://github.com/binance/binance-spot-api-docs/blob/master/errors.md
    # 1. -1121 and -1100 about `symbol`: there is no such pair.
    # 2. -1003: too many requests.
    # 3. -1004 and -1008: the server is overloaded; "try again in a few minutes".
    # 4. -1002, -1022, -2014, -2015, and code 0 with HTTP 451 ("restricted location"): no access from here.
    refusal_rules = (
        RefusalRule(r"^-1121:|^-1100:.*'symbol'", Refusal.FINAL),
        RefusalRule(r"^-1003:|too many requests|request weight", is_rate_limit=True),
        RefusalRule(r"^-100[48]:", is_rate_limit=True, ban_seconds=60.0),
        RefusalRule(r"^-(1002|1022|2014|2015):|restricted location|not authorized", Refusal.CONNECTION),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        if symbol in RETIRED_SYMBOLS:
            raise UnknownPair(f"{symbol!r} is not traded any more")
        return split_symbol(symbol, QUOTES, {})

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("SUBSCRIBE", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("UNSUBSCRIBE", channel, pairs, id)

    def _requests(self, method: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for request_id, chunk in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            streams = [f"{self.symbol(pair).lower()}@{STREAM_NAMES[channel]}" for pair in chunk]
            body = {"method": method, "params": streams, "id": request_id}
            yield Request(msgspec.json.encode(body).decode(), chunk, request_id)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        request = head.id if isinstance(head.id, int) else None
        error = head.error or (BinanceError(head.code, head.msg) if head.code is not None else None)
        if error is not None:
            yield self.refused(frame, f"{error.code}: {error.msg}", request=request)
        elif head.data is not msgspec.UNSET:
            yield self._data(head.stream, head.data)
        elif head.result is msgspec.UNSET:
            yield self._data("", frame.payload)  # a message of `/ws`, as old recordings have it
        elif head.id is None:
            raise ValueError("neither a stream nor the answer to a request")
        else:
            # `null` confirms no stream: see rule 1.
            yield Control(name="done" if bytes(head.result) == b"null" else "answer")

    def _data(self, stream: str, data: msgspec.Raw | bytes) -> Event:
        if stream.endswith("@arr"):
            return Control(name=stream)  # all pairs at once, which we do not ask for
        event_name = decode_event(data).e
        match event_name:
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
                return Notice(reason=event_name)
            case "":
                return self._unnamed(stream, data)
            case _:
                raise ValueError(f"event {event_name!r} is not known")

    def _unnamed(self, stream: str, data: msgspec.Raw | bytes) -> Event:
        symbol, _, name = stream.partition("@")
        if name == "bookTicker":
            return Control(name=name)  # the best prices, which the book has as well
        depth = name.removeprefix("depth").partition("@")[0]  # "depth20@100ms"
        return _whole(self.pair(symbol.upper()), decode_book(data), int(depth))

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{" and b'"code"' in frame.payload:
            error = decode_error(frame.payload)
            yield self.refused(frame, f"{error.code}: {error.msg}")
            return
        if frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
            return
        if frame.channel is Channel.TICKER:
            tickers = decode_rest_tickers(frame.payload)
            yield from map(self._rest_ticker, tickers if isinstance(tickers, list) else [tickers])
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
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
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
        """Return the length of a ban: HTTP 418 says `IP banned until 1659146400000` (ms) beside its Retry-After."""
        until = re.search(rb"banned until (\d{13})", body)
        return plausible_ban((from_milliseconds(int(until[1])) - time) / SECOND) if until else None

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/api/v3/exchangeInfo?showPermissionSets=false"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_markets(payload).symbols

    def instrument(self, row: msgspec.Raw) -> Instrument | None:
        """Return a market. Source: https://developers.binance.com/docs/binance-spot-api-docs/filters"""
        market = decode_market(row)
        pair = Pair.read(f"{market.baseAsset}-{market.quoteAsset}")
        if market.symbol not in ("", self.symbol(pair)):
            return None
        state = MARKET_STATES.get(market.status or "", InstrumentState.UNKNOWN)
        if state is InstrumentState.TRADING and market.isSpotTradingAllowed is not True:
            state = InstrumentState.HALTED
        filters = {filter.filterType: filter for filter in market.filters}
        none = BinanceFilter()
        price_filter, size_filter = filters.get("PRICE_FILTER", none), filters.get("LOT_SIZE", none)
        value_filter = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL", none)
        return Instrument(
            pair=pair,
            state=state,
            exchange_state=market.status or None,
            tick_size=price_filter.tickSize or None,
            size_step=size_filter.stepSize or None,
            min_size=size_filter.minQty or None,
            min_value=value_filter.minNotional or None,
        )

    def _ticker(self, row: BinanceTicker) -> Ticker:
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

    def _rest_ticker(self, row: BinanceRestTicker) -> Ticker:
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

    def _change(self, row: BinanceChange) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.E),
            is_snapshot=False,
            bids=row.b,
            asks=row.a,
            first_sequence=row.U,
            last_sequence=row.u,
        )

    def _trade(self, row: BinanceTradeValues, id: int) -> Trade:
        return Trade(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.T),
            id=str(id),
            price=row.p,
            size=row.q,
            side=Side.SELL if row.m else Side.BUY,
        )

    def _candle(self, row: BinanceCandleMessage) -> Event:
        candle = row.k
        if candle.i != "1m":
            return Control(name=f"candle {candle.i}")  # we keep candles of one minute only
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


def _whole(pair: Pair, row: BinanceBook, depth: int | None) -> BookUpdate:
    return BookUpdate(
        pair=pair,
        is_snapshot=True,
        bids=row.bids,
        asks=row.asks,
        last_sequence=row.lastUpdateId,
        depth=depth,
    )


def _rest_trade(pair: Pair, row: BinanceRestTrade) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.time),
        id=str(row.id),
        price=row.price,
        size=row.qty,
        side=Side.SELL if row.isBuyerMaker else Side.BUY,
    )


def _rest_candle(pair: Pair, row: BinanceRestCandle) -> Candle:
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


# Symbols have no separator, and frames must be read without asking the exchange.
# 1. No quote currency here ends in another one, so that each symbol can be split in one way only.
# 2. So BIDR (-IDR) and AEUR (-EUR), no longer traded, are left out. `RETIRED_SYMBOLS` has their symbols, which would be
#    split wrongly.
# 3. USD is left out too, since only Binance.US has it (-BUSD, -TUSD). BUSD and PAX are for old recordings.
QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "USD1", "U", "DAI", "EURI", "BUSD", "PAX"),
    *("BTC", "ETH", "BNB", "SOL", "XRP", "TRX", "DOGE", "DOT"),
    *("TRY", "EUR", "BRL", "JPY", "ARS", "MXN", "ZAR", "PLN", "RON", "CZK", "COP", "IDR", "UAH", "GBP", "AUD"),
)
RETIRED_SYMBOLS = frozenset(
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


class BinanceError(msgspec.Struct):
    """An error of the socket or of REST."""

    code: int  # 2; -1121 on REST
    msg: str = ""


class BinanceHead(msgspec.Struct):
    """What tells messages apart: data, answers to requests, and errors in two spellings."""

    stream: str = ""  # "btcusdt@ticker"
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # null: done
    error: BinanceError | None = None  # as observed
    code: int | None = None  # with `msg`: as documented
    msg: str = ""
    id: int | str | None = None


class BinanceEvent(msgspec.Struct):
    """The name of an event."""

    e: str = ""  # "24hrTicker"; whole books and best prices have none


class BinanceTicker(msgspec.Struct):
    """A ticker. Upper and lower case are different fields: `b` is a price, `B` its size."""

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


class BinanceChange(msgspec.Struct):
    """The levels of a book that changed."""

    s: str
    E: int  # ms
    U: int  # the first change in this message
    u: int  # the last one
    b: list[Level]  # ["0.35170000", "4265.00000000"]: price, size
    a: list[Level]


class BinanceBook(msgspec.Struct):
    """A whole book, of the socket or of REST. It has neither a pair nor a time."""

    lastUpdateId: int  # noqa: N815
    bids: list[Level]
    asks: list[Level]


class BinanceTradeValues(msgspec.Struct):
    """What single and aggregated trades have in common."""

    s: str
    p: float
    q: float
    T: int  # ms
    m: bool  # the buyer is the maker: the taker sold


class BinanceTrade(BinanceTradeValues):
    t: int  # id


class BinanceAggregateTrade(BinanceTradeValues):
    a: int  # id


class BinanceCandle(msgspec.Struct):
    """The values of a candle of the socket."""

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


class BinanceCandleMessage(msgspec.Struct):
    """A candle and the time of its message."""

    E: int  # ms
    k: BinanceCandle


class BinanceRestTicker(msgspec.Struct):
    """A ticker of REST; a mini ticker has only some of its fields."""

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


class BinanceRestTrade(msgspec.Struct):
    id: int
    price: float
    qty: float
    time: int  # ms
    isBuyerMaker: bool  # noqa: N815


class BinanceRestCandle(msgspec.Struct, array_like=True):
    time: int  # ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    _close_time: int
    quote_volume: float


class BinanceFilter(msgspec.Struct):
    """A rule for orders. Each kind of filter has fields of its own."""

    filterType: str = ""  # noqa: N815
    tickSize: str | None = None  # noqa: N815  of PRICE_FILTER
    stepSize: str | None = None  # noqa: N815  of LOT_SIZE
    minQty: str | None = None  # noqa: N815
    minNotional: str | None = None  # noqa: N815  of NOTIONAL or, before 2023, MIN_NOTIONAL


class BinanceMarket(msgspec.Struct):
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    status: str | None = None  # "TRADING"
    isSpotTradingAllowed: bool | None = None  # noqa: N815
    symbol: str = ""
    filters: list[BinanceFilter] = []


class BinanceMarkets(msgspec.Struct):
    """The answer that lists all markets."""

    symbols: list[msgspec.Raw]


decode_head = msgspec.json.Decoder(BinanceHead).decode
decode_event = msgspec.json.Decoder(BinanceEvent).decode
decode_ticker = msgspec.json.Decoder(BinanceTicker).decode
decode_change = msgspec.json.Decoder(BinanceChange, strict=False).decode
decode_book = msgspec.json.Decoder(BinanceBook, strict=False).decode
decode_trade = msgspec.json.Decoder(BinanceTrade, strict=False).decode
decode_aggregate = msgspec.json.Decoder(BinanceAggregateTrade, strict=False).decode
decode_candle = msgspec.json.Decoder(BinanceCandleMessage, strict=False).decode
decode_error = msgspec.json.Decoder(BinanceError).decode
decode_rest_tickers = msgspec.json.Decoder(BinanceRestTicker | list[BinanceRestTicker]).decode
decode_rest_trades = msgspec.json.Decoder(list[BinanceRestTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[BinanceRestCandle], strict=False).decode
decode_markets = msgspec.json.Decoder(BinanceMarkets).decode
decode_market = msgspec.json.Decoder(BinanceMarket).decode
