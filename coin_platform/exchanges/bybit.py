"""Bybit spot, API v5: numbered books. https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook"""

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

NOTHING = msgspec.Raw(b"{}")


class Head(msgspec.Struct):
    topic: str = ""  # "orderbook.200.BTCUSDT"
    type: str = ""  # "snapshot" | "delta"
    ts: int = 0  # ms
    cts: int | None = None  # ms, of the matching engine; of books only, and not in 2023
    data: msgspec.Raw = NOTHING
    op: str = ""  # "subscribe" | "unsubscribe" | "ping": an answer to us
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


class TickerRow(msgspec.Struct):
    symbol: str  # "BTCUSDT"
    lastPrice: msgspec.Raw = ABSENT  # noqa: N815
    prevPrice24h: str | None = None  # noqa: N815  24 hours ago
    highPrice24h: str | None = None  # noqa: N815
    lowPrice24h: str | None = None  # noqa: N815
    volume24h: str | None = None
    turnover24h: str | None = None  # quote
    bid1Price: str | None = None  # noqa: N815  only on REST, as the next three
    bid1Size: str | None = None  # noqa: N815
    ask1Price: str | None = None  # noqa: N815
    ask1Size: str | None = None  # noqa: N815


class BookRow(msgspec.Struct):
    s: str  # "BTCUSDT"
    b: list[Level]  # ["65140.4", "0.875077"]: price, size
    a: list[Level]
    u: int  # 62505425, rises by 1; 1 after a restart of the service
    ts: int = 0  # these two on REST
    cts: int | None = None


class TradeRow(msgspec.Struct):
    s: str
    i: str  # "2290000001189048101"
    T: int  # ms
    p: float
    v: float
    S: str  # "Buy" | "Sell", the taker's


class CandleRow(msgspec.Struct):
    start: int  # ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float
    confirm: bool
    timestamp: int  # ms


class RestTrade(msgspec.Struct):
    symbol: str
    execId: str  # noqa: N815
    time: int  # text, ms
    price: float
    size: float
    side: str  # "Buy" | "Sell"


class RestCandle(msgspec.Struct, array_like=True):
    start: int  # text, ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float


class Market(msgspec.Struct):
    baseCoin: str  # noqa: N815
    quoteCoin: str  # noqa: N815
    status: str | None = None  # "Trading"
    symbol: str = ""


class Answer(msgspec.Struct):
    retCode: int  # noqa: N815  not 0: an error, which comes with HTTP 200
    retMsg: str = ""  # noqa: N815
    result: msgspec.Raw = NOTHING
    time: int = 0  # ms


class Tickers(msgspec.Struct):
    list: list[TickerRow]


class Trades(msgspec.Struct):
    list: list[RestTrade]


class Candles(msgspec.Struct):
    list: list[RestCandle]


class Markets(msgspec.Struct):
    list: list[msgspec.Raw]


decode_head = msgspec.json.Decoder(Head).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode
decode_book = msgspec.json.Decoder(BookRow, strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_candles = msgspec.json.Decoder(list[CandleRow], strict=False).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_rest_tickers = msgspec.json.Decoder(Tickers).decode
decode_rest_trades = msgspec.json.Decoder(Trades, strict=False).decode
decode_rest_candles = msgspec.json.Decoder(Candles, strict=False).decode
decode_markets = msgspec.json.Decoder(Markets).decode
decode_market = msgspec.json.Decoder(Market).decode

TOPICS = {
    Channel.TICKER: "tickers",
    Channel.ORDERBOOK: "orderbook.200",
    Channel.TRADE: "publicTrade",
    Channel.CANDLE: "kline.1",
}
# Symbols have no separator, and frames must be read without asking the exchange. All 558 markets of 2026-08 have one of
# these quotes. Two quotes end in a third one, so that BTCXUSD could be BTCX-USD: `QUOTE_OF` has the symbols of which it
# is known, the others are dead letters.
QUOTES = (
    *("RLUSD", "USDT", "USDC", "USDE", "USD1", "XUSD"),
    *("USD", "EUR", "GBP", "BRL", "AED", "PLN", "TRY", "BTC", "ETH", "SOL"),
)
QUOTE_OF = {
    **dict.fromkeys(("BTCXUSD",), "XUSD"),
    **dict.fromkeys(("BTCRLUSD", "ETHRLUSD", "XRPRLUSD"), "RLUSD"),
    **dict.fromkeys(("AVAXUSD", "TRXUSD", "DYDXUSD", "IMXUSD", "SNXUSD", "STXUSD", "ZRXUSD"), "USD"),
}
BAD_TOPIC = re.compile(r"(?:tickers|publicTrade|orderbook\.\w+|kline\.\w+)\.([\w.]+)")


class Bybit(Exchange):
    """Bybit: each change of a book is numbered one higher than the one before it, so a loss shows at the next one."""

    name = "bybit"
    title = "Bybit"
    region = Region.ASIA
    partition = 1
    quote = "USDT"
    channels = frozenset(Channel)
    proof = Proof.SEQUENCE
    depth = 200
    ws_url = "wss://stream.bybit.com/v5/public/spot"
    rest_url = "https://api.bybit.com"
    # 10 topics a request, 500 connections and 600 REST requests in 5 min and 5 s; no message rate is published
    limits = Limits(pairs_per_request=10, connects_per_minute=50, requests_per_second=60)
    ban_seconds = 600.0  # "access too frequent": 10 minutes, as documented
    # https://bybit-exchange.github.io/docs/v5/error: 10006 is the limit of an endpoint, counted by up to 5 seconds;
    # 10018 and 10009 are that of an address. 10001 says in words whether it means the symbol.
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
    ping = '{"req_id":"ping","op":"ping"}'
    has_deltas = True
    refuses_whole_request = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        return split_symbol(symbol, QUOTES, QUOTE_OF)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("unsubscribe", channel, pairs, id)

    def _ask(self, operation: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for number_, some in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            topics = [f"{TOPICS[channel]}.{self.symbol(pair)}" for pair in some]
            body = {"req_id": str(number_), "op": operation, "args": topics}
            yield Request(msgspec.json.encode(body).decode(), some, number_)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.op or head.success is False:
            yield self._answer(frame, head)
            return
        match head.topic.split(".", 1 + head.topic.startswith(("orderbook.", "kline."))):
            case ["tickers", _] if head.type == "snapshot":  # derivatives have changes too: not ours
                yield self._ticker(decode_ticker(head.data), head.ts)
            case ["orderbook", depth, _] if depth.isdecimal():
                yield self._book(head, int(depth))
            case ["publicTrade", _]:
                yield from map(self._trade, decode_trades(head.data))
            case ["kline", "1", symbol]:
                for row in decode_candles(head.data):
                    yield _candle(self.pair(symbol), row)
            case ["orderbook" | "kline", _, _]:
                yield Control(name=head.topic)  # we keep minutes, and books without retail orders
            case _:
                raise ValueError(f"topic {head.topic!r} of type {head.type!r} is not known")

    def _answer(self, frame: Frame, head: Head) -> Event:
        request = int(head.req_id) if head.req_id.isdecimal() else None
        if head.op == "unsubscribe":
            return Control(name=head.op)  # refused or not: the pair is not subscribed any more
        if head.success is False:
            return self.refused(frame, head.ret_msg, pair=self._named(head.ret_msg), request=request)
        if head.op == "subscribe":
            return Subscribed(request=request)
        return Control(name="pong" if head.op == "ping" else head.op)  # spot answers "ping", others "pong"

    def _named(self, reason: str) -> Pair | None:
        """Return the pair of the topic that a refusal names, if it is one."""
        topic = BAD_TOPIC.search(reason)
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
            case Channel.TICKER:
                rows = decode_rest_tickers(answer.result).list
                if not rows:
                    yield self.refused(frame, NO_SUCH_MARKET)
                for ticker in rows:
                    yield self._ticker(ticker, answer.time)
            case Channel.ORDERBOOK:
                book = decode_book(answer.result)
                # its `u` is of the stream of 1000 levels: no bridge to any other
                yield BookUpdate(
                    pair=self.pair(book.s),
                    exchange_time=from_milliseconds(book.ts if book.cts is None else book.cts),
                    is_snapshot=True,
                    bids=book.b,
                    asks=book.a,
                )
            case Channel.TRADE:
                yield from map(self._rest_trade, decode_rest_trades(answer.result).list)
            case _:
                if frame.pair is None:
                    raise ValueError("a REST answer needs its pair")
                for candle in decode_rest_candles(answer.result).list:
                    yield _rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        market = f"category=spot&symbol={self.symbol(pair)}"
        return (
            f"{self.rest_url}/v5/market/"
            + {
                Channel.TICKER: f"tickers?{market}",
                Channel.ORDERBOOK: f"orderbook?{market}&limit=200",
                Channel.TRADE: f"recent-trade?{market}&limit=60",
                Channel.CANDLE: f"kline?{market}&interval=1&limit=1000",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v5/market/instruments-info?category=spot"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if answer.retCode != 0:
            raise DecodeError(f"bybit: {answer.retCode}: {answer.retMsg}")
        return decode_markets(answer.result).list

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        pair = Pair.read(f"{market.baseCoin}-{market.quoteCoin}")
        return pair if market.status == "Trading" and market.symbol in ("", self.symbol(pair)) else None

    def _ticker(self, row: TickerRow, time: int) -> Ticker:
        opened = price(row.prevPrice24h)
        return Ticker(
            pair=self.pair(row.symbol),
            exchange_time=from_milliseconds(time),
            last=last_price(row.lastPrice),
            open_24h=opened,
            high_24h=price(row.highPrice24h),
            low_24h=price(row.lowPrice24h),
            change_24h=difference(price(row.lastPrice), opened),  # the rate that is sent has four digits: not used
            volume_24h=number(row.volume24h),
            quote_volume_24h=number(row.turnover24h),
            best_bid=price(row.bid1Price),
            best_bid_size=number(row.bid1Size),
            best_ask=price(row.ask1Price),
            best_ask_size=number(row.ask1Size),
        )

    def _book(self, head: Head, depth: int) -> BookUpdate:
        row = decode_book(head.data)
        # 1: the service was restarted, this is the whole book
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

    def _trade(self, row: TradeRow) -> Trade:
        return Trade(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.T),
            id=row.i,
            price=row.p,
            size=row.v,
            side=Side(row.S.lower()),
        )

    def _rest_trade(self, row: RestTrade) -> Trade:
        return Trade(
            pair=self.pair(row.symbol),
            exchange_time=from_milliseconds(row.time),
            id=row.execId,
            price=row.price,
            size=row.size,
            side=Side(row.side.lower()),
        )


def _candle(pair: Pair, row: CandleRow) -> Candle:
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


def _rest_candle(pair: Pair, row: RestCandle) -> Candle:
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
