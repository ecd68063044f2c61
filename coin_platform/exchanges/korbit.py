"""Korbit spot, API v2: what we send, and what its messages mean.

Source: https://docs.digitalx.miraeasset.com/index_en.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import NO_SUCH_MARKET, Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, chunks, decode_rows, from_milliseconds, last_price, number, price
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Event,
    Frame,
    Instrument,
    InstrumentState,
    Level,
    Microseconds,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Side,
    Subscribed,
    Ticker,
    Trade,
)

CHANNEL_NAMES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "orderbook", Channel.TRADE: "trade"}
_REFUSED_SYMBOL = re.compile(r"\(([\w.]+)\)")  # in "The symbol does not exist (eth_btc)"

MARKET_STATES = {"launched": InstrumentState.TRADING, "stopped": InstrumentState.HALTED}


class Korbit(Exchange):
    """Korbit: each book message is the whole book of 30 levels. Candles are not streamed, they come over REST.

    Korbit was renamed Digital X in 2026, and keeps its name here. Its old hosts, ws-api.korbit.co.kr and
    api.korbit.co.kr, still serve the same API.

    Rules of a connection (https://docs.digitalx.miraeasset.com/index_en.html):

    1. A request is a list of commands. A command with a `requestId` is acknowledged, a refusal always comes.
    2. The server pings by the WebSocket protocol every 30 s, and needs no message of ours.
    3. A bad pair refuses the whole command. This is not documented; to ask twice for a pair does no harm.
    """

    name = "korbit"
    title = "Korbit"
    region = Region.KOREA
    partition = 3
    quote = "KRW"
    channels = frozenset(CHANNEL_NAMES)
    proof = Proof.SNAPSHOT
    depth = 30
    ws_url = "wss://ws-api.digitalx.miraeasset.com/v2/public"
    rest_url = "https://api.digitalx.miraeasset.com"
    refuses_whole_request = True
    is_sparse = True  # a third of its markets trades less than once a day, and only protocol pings are sent meanwhile
    mute_seconds = 600.0  # so that a quiet market does not look like a dead connection

    # Limits (https://docs.digitalx.miraeasset.com/index_en.html): 50 REST requests/s. HTTP 429 ends with the second.
    # Nothing is published about sockets.
    limits = Limits(requests_per_second=25)
    trades_per_answer = 200
    refusal_rules = (
        RefusalRule(r"INVALID_(SYMBOL|CURRENCY_PAIR)", Refusal.FINAL),
        RefusalRule(r"^429:|too[_ ]many|rate[_ ]limit|EXCEED_TIME_WINDOW", is_rate_limit=True, ban_seconds=1.0),
        RefusalRule(r"^40[13]:|UNAUTHORI[SZ]ED|FORBIDDEN|_(API_KEY|SIGNATURE)\b", Refusal.CONNECTION),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}_{pair.quote}".lower()

    def pair(self, symbol: str) -> Pair:
        base, _, quote = symbol.partition("_")
        return Pair.read(f"{base}-{quote}".upper())

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        for request_id, batch in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            yield Request(self._command("subscribe", channel, batch, {"requestId": request_id}), batch, request_id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        """Give up pairs without a `requestId`. An acknowledgement would look like that of a subscription."""
        for batch in chunks(pairs, self.limits.pairs_per_request):
            yield Request(self._command("unsubscribe", channel, batch, {}), batch)

    def _command(self, method: str, channel: Channel, pairs: Sequence[Pair], request_id: dict[str, int]) -> str:
        symbols = [self.symbol(pair) for pair in pairs]
        body = [{**request_id, "method": method, "type": CHANNEL_NAMES[channel], "symbols": symbols}]
        return msgspec.json.encode(body).decode()

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.status == "success":
            yield Subscribed(request=head.requestId)
        elif head.status:
            yield self._refusal(frame, head)
        elif head.type == "ticker":
            time = None if head.timestamp is None else from_milliseconds(head.timestamp)
            yield self._ticker(head.symbol, decode_ticker(head.data), time)
        elif head.type == "orderbook":
            yield _book(self.pair(head.symbol), decode_book(head.data))
        elif head.type == "trade":
            for row in decode_trades(head.data):
                yield _trade(self.pair(head.symbol), row)
        else:
            raise ValueError(f"type {head.type!r} is not known")

    def _refusal(self, frame: Frame, head: KorbitHead) -> Refused:
        symbol = _REFUSED_SYMBOL.search(head.message) if head.code == "INVALID_SYMBOL" else None
        return self.refused(
            frame,
            f"{head.code or head.status}: {head.message}",
            pair=self.pair(symbol[1]) if symbol else None,
            request=head.requestId,
        )

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        data = answer.data
        if not answer.success:
            yield self.refused(frame, _reason(answer))
        elif frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
        elif frame.channel is Channel.TICKER:
            rows = decode_tickers(data)
            if not rows:  # the answer to an unknown symbol
                yield self.refused(frame, NO_SUCH_MARKET)
            for ticker in rows:
                # The row has no time: `lastTradedAt` is the time of the last trade, which may be hours ago.
                yield self._ticker(ticker.symbol, ticker, None)
        elif frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        elif frame.channel is Channel.ORDERBOOK:
            yield _book(frame.pair, decode_book(data))
        elif frame.channel is Channel.TRADE:
            for trade in decode_trades(data):
                yield _trade(frame.pair, trade)
        else:
            for candle in decode_candles(data):
                yield _candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        symbol = self.symbol(pair)
        paths = {
            Channel.TICKER: f"tickers?symbol={symbol}",
            Channel.ORDERBOOK: f"orderbook?symbol={symbol}",
            Channel.TRADE: f"trades?symbol={symbol}&limit=200",
            Channel.CANDLE: f"candles?symbol={symbol}&interval=1&limit=200",  # `limit` is required
        }
        return f"{self.rest_url}/v2/{paths[channel]}"

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v2/currencyPairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if not answer.success:
            raise DecodeError(f"korbit: {_reason(answer)}")
        return decode_rows(answer.data)

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. Its steps are in another answer, as they follow the price."""
        market = decode_market(row)
        return Instrument(
            pair=self.pair(market.symbol),
            state=MARKET_STATES.get(market.status or "", InstrumentState.UNKNOWN),
            exchange_state=market.status or None,
            min_value=market.minOrderValue or None,
        )

    def _ticker(self, symbol: str, row: KorbitTicker, time: Microseconds | None) -> Ticker:
        change = number(row.priceChange)
        return Ticker(
            pair=self.pair(symbol),
            exchange_time=time,
            last=last_price(row.close),
            open_24h=price(row.open),
            high_24h=price(row.high),
            low_24h=price(row.low),
            change_24h=change,
            change_rate_24h=_rate(change, price(row.prevClose)),
            volume_24h=number(row.volume),
            quote_volume_24h=number(row.quoteVolume),
            best_bid=price(row.bestBidPrice),
            best_ask=price(row.bestAskPrice),
        )


def _reason(answer: KorbitAnswer) -> str:
    return f"{answer.error.code}: {answer.error.message}" if answer.error else "no success"


def _rate(change: str | None, base: str | None) -> str | None:
    """Return a change as a fraction of its base. Korbit's own rate is in per cent and has only two digits."""
    return None if change is None or base is None else f"{Decimal(change) / Decimal(base):.10f}"


def _book(pair: Pair, row: KorbitBook) -> BookUpdate:
    return BookUpdate(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        is_snapshot=True,
        bids=[Level(order.price, order.qty) for order in row.bids],
        asks=[Level(order.price, order.qty) for order in row.asks],
    )


def _trade(pair: Pair, row: KorbitTrade) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        id=None if row.tradeId is None else str(row.tradeId),
        price=row.price,
        size=row.qty,
        side=Side.BUY if row.isBuyerTaker else Side.SELL,
    )


def _candle(pair: Pair, row: KorbitCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=from_milliseconds(row.timestamp),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
    )


_NO_DATA = msgspec.Raw(b"{}")


class KorbitHead(msgspec.Struct):
    """A message of the socket. An answer to a request has a status, data has a type."""

    status: str = ""  # "success" | "fail" | "error"
    type: str = ""  # "ticker" | "orderbook" | "trade"
    symbol: str = ""  # "btc_krw"
    timestamp: int | None = None  # 1730365220489, ms, when it was sent
    data: msgspec.Raw = _NO_DATA
    requestId: int | None = None  # noqa: N815  1
    code: str = ""  # "INVALID_SYMBOL"
    message: str = ""  # "The symbol does not exist (eth_btc)"


class KorbitTicker(msgspec.Struct):
    """A ticker of the socket or of REST, of the last 24 hours."""

    close: msgspec.Raw = ABSENT  # "100650000"
    open: str | None = None  # "100501000"
    high: str | None = None  # "100651000"
    low: str | None = None  # "100501000"
    prevClose: str | None = None  # noqa: N815  "100492000", the last price before these 24 hours
    priceChange: str | None = None  # noqa: N815  "158000": close - prevClose
    volume: str | None = None  # "0.81866504", base currency
    quoteVolume: str | None = None  # noqa: N815  "82360867.25161"
    bestBidPrice: str | None = None  # noqa: N815  "100650000"; "0" where there is none
    bestAskPrice: str | None = None  # noqa: N815  "100651000"; "0" where there is none
    symbol: str = ""  # "btc_krw", on REST; the head of a message has it on the socket


class KorbitOrder(msgspec.Struct):
    """One level of a book."""

    price: float  # "116506000"
    qty: float  # "0.27522"


class KorbitBook(msgspec.Struct):
    """A whole book of the socket or of REST."""

    timestamp: int  # 1790134242563, ms, of the last change: days ago where trading has stopped
    bids: list[KorbitOrder]  # best first
    asks: list[KorbitOrder]


class KorbitTrade(msgspec.Struct):
    """A trade of the socket or of REST."""

    timestamp: int  # 1700000001239, ms
    price: float  # "98909000"
    qty: float  # "0.00146702"
    isBuyerTaker: bool  # noqa: N815  true
    tradeId: int | None = None  # noqa: N815  123456


class KorbitCandle(msgspec.Struct):
    """A candle of REST."""

    timestamp: int  # 1708041600000, ms, the open
    open: float  # "71211000"
    high: float
    low: float
    close: float
    volume: float  # "1.932320026577213946", base currency


class KorbitMarket(msgspec.Struct):
    """A row of the list of markets."""

    symbol: str  # "btc_krw"
    status: str | None = None  # "launched" | "stopped"
    minOrderValue: str | None = None  # noqa: N815  "5000", quote currency


class KorbitError(msgspec.Struct):
    """The reason of a refusal over REST."""

    code: int | str = 0  # 400, the status of HTTP
    message: str = ""  # "INVALID_CURRENCY_PAIR"


class KorbitAnswer(msgspec.Struct):
    """An answer of REST."""

    success: bool
    data: msgspec.Raw = _NO_DATA
    error: KorbitError | None = None


decode_head = msgspec.json.Decoder(KorbitHead).decode
decode_ticker = msgspec.json.Decoder(KorbitTicker).decode
decode_book = msgspec.json.Decoder(KorbitBook, strict=False).decode
decode_trades = msgspec.json.Decoder(list[KorbitTrade], strict=False).decode
decode_answer = msgspec.json.Decoder(KorbitAnswer).decode
decode_tickers = msgspec.json.Decoder(list[KorbitTicker]).decode
decode_candles = msgspec.json.Decoder(list[KorbitCandle], strict=False).decode
decode_market = msgspec.json.Decoder(KorbitMarket).decode
