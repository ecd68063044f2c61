"""Korbit, since 2026 Digital X: whole books over API v2. https://docs.digitalx.miraeasset.com/index_en.html"""

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

NOTHING = msgspec.Raw(b"{}")


class Head(msgspec.Struct):
    status: str = ""  # "success" | "fail" | "error"; data has a type instead
    type: str = ""  # "ticker" | "orderbook" | "trade"
    symbol: str = ""  # "btc_krw"
    timestamp: int | None = None  # ms, when it was sent
    data: msgspec.Raw = NOTHING
    requestId: int | None = None  # noqa: N815
    code: str = ""  # "INVALID_SYMBOL"
    message: str = ""  # "The symbol does not exist (eth_btc)"


class TickerData(msgspec.Struct):
    close: msgspec.Raw = ABSENT
    open: str | None = None
    high: str | None = None
    low: str | None = None
    prevClose: str | None = None  # noqa: N815
    priceChange: str | None = None  # noqa: N815  signed: close - prevClose
    volume: str | None = None
    quoteVolume: str | None = None  # noqa: N815
    bestBidPrice: str | None = None  # noqa: N815  "0": none
    bestAskPrice: str | None = None  # noqa: N815
    symbol: str = ""  # on REST


class Order(msgspec.Struct):
    price: float
    qty: float


class BookData(msgspec.Struct):
    timestamp: int  # ms, of the last change: days ago where trading has stopped
    bids: list[Order]
    asks: list[Order]


class TradeRow(msgspec.Struct):
    timestamp: int  # ms
    price: float
    qty: float
    isBuyerTaker: bool  # noqa: N815
    tradeId: int | None = None  # noqa: N815


class CandleRow(msgspec.Struct):
    timestamp: int  # ms, the open
    open: float
    high: float
    low: float
    close: float
    volume: float


class Market(msgspec.Struct):
    symbol: str
    status: str | None = None  # "launched" | "stopped"


class Error(msgspec.Struct):
    code: int | str = 0  # the status of HTTP
    message: str = ""  # "INVALID_CURRENCY_PAIR"


class Answer(msgspec.Struct):
    success: bool
    data: msgspec.Raw = NOTHING
    error: Error | None = None


decode_head = msgspec.json.Decoder(Head).decode
decode_ticker = msgspec.json.Decoder(TickerData).decode
decode_book = msgspec.json.Decoder(BookData, strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_tickers = msgspec.json.Decoder(list[TickerData]).decode
decode_candles = msgspec.json.Decoder(list[CandleRow], strict=False).decode
decode_market = msgspec.json.Decoder(Market).decode

TYPES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "orderbook", Channel.TRADE: "trade"}
BAD_SYMBOL = re.compile(r"\(([\w.]+)\)")


class Korbit(Exchange):
    """Korbit: every push is the whole book of 30 levels. It streams no candles: those come over REST.

    It was renamed Digital X in 2026, but keeps its name here; the old hosts still serve the same API.
    """

    name = "korbit"
    title = "Korbit"
    region = Region.KOREA
    partition = 3
    quote = "KRW"
    trades_per_answer = 200
    channels = frozenset(TYPES)
    proof = Proof.SNAPSHOT
    depth = 30
    ws_url = "wss://ws-api.digitalx.miraeasset.com/v2/public"
    rest_url = "https://api.digitalx.miraeasset.com"
    old_ws_url = "wss://ws-api.korbit.co.kr/v2/public"
    old_rest_url = "https://api.korbit.co.kr"
    # The limit of 50 requests is counted by the second.
    refusal_rules = (
        RefusalRule(r"INVALID_(SYMBOL|CURRENCY_PAIR)", Refusal.FINAL),
        RefusalRule(r"^429:|too[_ ]many|rate[_ ]limit|EXCEED_TIME_WINDOW", is_rate_limit=True, ban_seconds=1.0),
        RefusalRule(r"^40[13]:|UNAUTHORI[SZ]ED|FORBIDDEN|_(API_KEY|SIGNATURE)\b", Refusal.CONNECTION),
    )
    limits = Limits(requests_per_second=25)  # of 50/s; for sockets nothing is published
    # Of its markets a third trades less than once a day, and it has no heartbeat but protocol pings.
    is_sparse = True
    mute_seconds = 600.0
    refuses_whole_request = True  # not documented; to ask twice for a pair does no harm

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}_{pair.quote}".lower()

    def pair(self, symbol: str) -> Pair:
        base, _, quote = symbol.partition("_")
        return Pair.read(f"{base}-{quote}".upper())  # it writes all names in lower case

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        for number_, some in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            yield Request(self._command("subscribe", channel, some, {"requestId": number_}), some, number_)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        # Without a number it is not acknowledged: the answer would not say which of the two it confirms.
        for some in chunks(pairs, self.limits.pairs_per_request):
            yield Request(self._command("unsubscribe", channel, some, {}), some)

    def _command(self, method: str, channel: Channel, pairs: Sequence[Pair], number_: dict[str, int]) -> str:
        symbols = [self.symbol(pair) for pair in pairs]
        body = [{**number_, "method": method, "type": TYPES[channel], "symbols": symbols}]
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

    def _refusal(self, frame: Frame, head: Head) -> Refused:
        bad = BAD_SYMBOL.search(head.message) if head.code == "INVALID_SYMBOL" else None
        return self.refused(
            frame,
            f"{head.code or head.status}: {head.message}",
            pair=self.pair(bad[1]) if bad else None,
            request=head.requestId,
        )

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        answer = decode_answer(frame.payload)
        data = answer.data
        if not answer.success:
            yield self.refused(frame, _reason(answer))
        elif frame.channel is Channel.TICKER:
            rows = decode_tickers(data)
            if not rows:  # the answer to an unknown symbol
                yield self.refused(frame, NO_SUCH_MARKET)
            for ticker in rows:
                # `lastTradedAt` is the time of the last trade, maybe hours ago, not of the ticker
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
        symbol = self.symbol(pair)
        return (
            f"{self.rest_url}/v2/"
            + {
                Channel.TICKER: f"tickers?symbol={symbol}",
                Channel.ORDERBOOK: f"orderbook?symbol={symbol}",
                Channel.TRADE: f"trades?symbol={symbol}&limit=200",
                Channel.CANDLE: f"candles?symbol={symbol}&interval=1&limit=200",  # must have a limit
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v2/currencyPairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        answer = decode_answer(payload)
        if not answer.success:
            raise DecodeError(f"korbit: {_reason(answer)}")
        return decode_rows(answer.data)

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        return self.pair(market.symbol) if market.status == "launched" else None

    def _ticker(self, symbol: str, row: TickerData, time: Microseconds | None) -> Ticker:
        change = number(row.priceChange)
        return Ticker(
            pair=self.pair(symbol),
            exchange_time=time,
            last=last_price(row.close),
            open_24h=price(row.open),
            high_24h=price(row.high),
            low_24h=price(row.low),
            change_24h=change,  # to `prevClose`, the last price before these 24 hours: no day's close
            change_rate_24h=_rate(change, price(row.prevClose)),
            volume_24h=number(row.volume),
            quote_volume_24h=number(row.quoteVolume),
            best_bid=price(row.bestBidPrice),
            best_ask=price(row.bestAskPrice),
        )


def _reason(answer: Answer) -> str:
    return f"{answer.error.code}: {answer.error.message}" if answer.error else "no success"


def _rate(change: str | None, base: str | None) -> str | None:
    """Return the fraction of a change; what the exchange sends is in percent and has two digits."""
    return None if change is None or base is None else f"{Decimal(change) / Decimal(base):.10f}"


def _book(pair: Pair, row: BookData) -> BookUpdate:
    return BookUpdate(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        is_snapshot=True,
        bids=[Level(order.price, order.qty) for order in row.bids],
        asks=[Level(order.price, order.qty) for order in row.asks],
    )


def _trade(pair: Pair, row: TradeRow) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_milliseconds(row.timestamp),
        id=None if row.tradeId is None else str(row.tradeId),
        price=row.price,
        size=row.qty,
        side=Side.BUY if row.isBuyerTaker else Side.SELL,
    )


def _candle(pair: Pair, row: CandleRow) -> Candle:
    return Candle(
        pair=pair,
        open_time=from_milliseconds(row.timestamp),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
    )
