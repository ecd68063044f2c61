"""Coinbase Exchange: what we send, and what its messages mean.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from coin_platform.errors import UnknownPair
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import (
    ABSENT,
    chunks,
    decode_rows,
    difference,
    from_rfc3339,
    last_price,
    number,
    price,
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
    Kind,
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

CHANNEL_NAMES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "level2_batch", Channel.TRADE: "matches"}
# The names of channels in answers. `level2_batch` is called `level2_50` there; `level2` is for old recordings.
ANSWERED_CHANNELS = {
    "ticker": Channel.TICKER,
    **dict.fromkeys(("level2_50", "level2_batch", "level2"), Channel.ORDERBOOK),
    "matches": Channel.TRADE,
}
REFUSED_PRODUCT = re.compile(r"([\w.]+-[\w.]+) is ")  # "LOOM-USDC is delisted"
BAD_SIZE = "0.-"  # "0.-10000" was sent once; such a level is left out
TAKER_SIDES = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}  # by the maker's side
MAX_PRODUCTS = 2000  # in one answer; our connections have 50 pairs in 2 channels each

MARKET_STATES = {
    "online": InstrumentState.TRADING,
    "offline": InstrumentState.HALTED,
    "delisted": InstrumentState.DELISTED,
}
MARKET_FLAGS = ("trading_disabled", "cancel_only", "limit_only", "post_only", "auction_mode")


class Coinbase(Exchange):
    """Coinbase: changes of a book have neither a number nor a checksum, so nothing proves that none was lost.

    Rules of a connection (https://docs.cdp.coinbase.com/exchange/websocket-feed/channels):

    1. The first request must come within 5 s of the connect. One bad product may refuse the whole request, and a
       refusal has no number, so we ask for one pair a request.
    2. Each answer lists everything that is subscribed on the connection.
    3. `heartbeat` sends a message a second for each product.
    4. `level2_batch` sends a `snapshot` of all levels, then an `l2update` every 50 ms. Sizes are absolute, and size 0
       deletes a level.
    5. `side` of a trade is the maker's side. The taker's side is the other one.
    6. `last_match` is the trade before the subscription. After a reconnect it may come again, with the same id.
    """

    name = "coinbase"
    title = "Coinbase"
    region = Region.NE
    partition = 2
    quote = "USD"
    channels = frozenset({Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE})  # candles come over REST only
    proof = Proof.NONE
    ws_url = "wss://ws-feed.exchange.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    has_deltas = True
    silence_seconds = 15.0  # see rule 3
    candle_reach_seconds = 299 * 60.0  # the newest 300 minutes; minutes without trades are left out, as documented

    # Limits: 8 connections/s, 100 messages/s and 10 REST requests/s, counted by the second.
    # https://docs.cdp.coinbase.com/exchange/rest-api/rate-limits
    limits = Limits(
        pairs_per_connection=50,
        pairs_per_request=1,
        messages_per_second=50,
        connects_per_minute=240,
        requests_per_second=5,
    )
    refusal_rules = (
        RefusalRule(
            r"is not a valid product|is delisted|\bNotFound\b|invalid product|product not found", Refusal.FINAL
        ),
        RefusalRule(r"rate limit|too many requests", is_rate_limit=True, ban_seconds=1.0),
        RefusalRule(
            r"authenticat|unauthori[sz]ed|forbidden|invalid api key|not allowed|restricted|connections",
            Refusal.CONNECTION,
        ),
    )

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.read(symbol)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("subscribe", channel, pairs)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("unsubscribe", channel, pairs)

    def _requests(self, type: str, channel: Channel, pairs: Sequence[Pair]) -> Iterator[Request]:
        for chunk in chunks(pairs, self.limits.pairs_per_request):
            products = [self.symbol(pair) for pair in chunk]
            body = {"type": type, "product_ids": products, "channels": [CHANNEL_NAMES[channel], "heartbeat"]}
            yield Request(msgspec.json.encode(body).decode(), chunk)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        match head.type:
            case "ticker":
                yield self._ticker(decode_ticker(frame.payload))
            case "snapshot":
                row = _read_book(frame.payload)
                yield _book(self.pair(row.product_id), row)
            case "l2update":
                yield self._changes(decode_changes(frame.payload))
            case "match" | "last_match":
                trade = decode_trade(frame.payload)
                yield _trade(self.pair(trade.product_id), trade)
            case "subscriptions":
                yield from self._subscribed(frame.channel, head.channels)
            case "error" if head.message == "Failed to unsubscribe":
                yield Control(name=f"{head.message}: {head.reason}")
            case "error":
                reason = f"{head.message}: {head.reason}".strip(": ")
                yield self.refused(frame, reason, pair=self._pair_named_in(head.reason))
            case "heartbeat" | "status":
                yield Control(name=head.type)
            case _:
                raise ValueError(f"type {head.type!r} is not known")

    def _subscribed(self, channel: Channel, subscriptions: list[CoinbaseSubscription]) -> Iterator[Event]:
        """Yield the pairs of one channel that an answer lists: see rule 2."""
        if sum(len(subscription.product_ids) for subscription in subscriptions) > MAX_PRODUCTS:
            raise ValueError("more subscriptions than a connection of ours has")
        yield Control(name="subscriptions")
        for subscription in subscriptions:
            if ANSWERED_CHANNELS.get(subscription.name) is channel:
                for product in subscription.product_ids:
                    yield Subscribed(pair=self.pair(product))

    def _pair_named_in(self, reason: str) -> Pair | None:
        """Return the pair that a refusal names; None where it names none."""
        product = REFUSED_PRODUCT.match(reason)
        try:
            return self.pair(product[1]) if product else None
        except UnknownPair:
            return None

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":
            message = decode_error(frame.payload).message
            if message:
                yield self.refused(frame, message)
                return
        if frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
            return
        if frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        match frame.channel:
            case Channel.TICKER:
                yield _rest_ticker(frame.pair, decode_rest_ticker(frame.payload))
            case Channel.ORDERBOOK:
                yield _book(frame.pair, _read_book(frame.payload))
            case Channel.TRADE:
                for trade in decode_rest_trades(frame.payload):
                    yield _trade(frame.pair, trade)
            case _:
                for candle in decode_rest_candles(frame.payload):
                    yield _candle(frame.pair, candle)

    def max_bytes(self, frame: Frame) -> int:
        """Return more for whole books, which have all levels: BTC-USD 44,000 (1.2 MB). 3 MiB are read in 50 ms."""
        is_whole = frame.kind is Kind.REST or b'"snapshot"' in frame.payload[:100]
        return 3 << 20 if frame.channel is Channel.ORDERBOOK and is_whole else super().max_bytes(frame)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        return (
            f"{self.rest_url}/products/{self.symbol(pair)}/"
            + {
                Channel.TICKER: "ticker",
                Channel.ORDERBOOK: "book?level=2",
                Channel.TRADE: "trades?limit=1000",
                Channel.CANDLE: "candles?granularity=60",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/products"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. Source: https://docs.cdp.coinbase.com/api-reference/exchange-api

        The channel `status` of the socket is not used: it sends the whole list, about 0.5 MB, every few seconds.
        """
        market = decode_market(row)
        flags = [name for name in MARKET_FLAGS if getattr(market, name)]
        state = MARKET_STATES.get(market.status or "", InstrumentState.UNKNOWN)
        if state is InstrumentState.TRADING and flags:
            is_halted = bool({"trading_disabled", "cancel_only"} & set(flags))
            state = InstrumentState.HALTED if is_halted else InstrumentState.LIMITED
        return Instrument(
            pair=self.pair(market.id),
            state=state,
            exchange_state=" ".join(filter(None, (market.status, *flags))) or None,
            tick_size=market.quote_increment or None,
            size_step=market.base_increment or None,
            min_size=market.base_min_size or None,
            min_value=market.min_market_funds or None,
        )

    def _ticker(self, row: CoinbaseTicker) -> Ticker:
        opened = price(row.open_24h)
        return Ticker(
            pair=self.pair(row.product_id),
            exchange_time=_time(row.time),
            last=last_price(row.price),
            open_24h=opened,
            high_24h=price(row.high_24h),
            low_24h=price(row.low_24h),
            change_24h=difference(price(row.price), opened),
            volume_24h=number(row.volume_24h),
            best_bid=price(row.best_bid),
            best_bid_size=number(row.best_bid_size),
            best_ask=price(row.best_ask),
            best_ask_size=number(row.best_ask_size),
        )

    def _changes(self, row: CoinbaseChange) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.product_id),
            exchange_time=_time(row.time),
            is_snapshot=False,
            bids=[Level(change.price, change.size) for change in row.changes if change.side is Side.BUY],
            asks=[Level(change.price, change.size) for change in row.changes if change.side is Side.SELL],
        )


def _time(text: str | None) -> Microseconds | None:
    return from_rfc3339(text) if text else None


def _read_book(payload: bytes) -> CoinbaseBook:
    if f'"{BAD_SIZE}'.encode() not in payload:
        return decode_book(payload)
    row = decode_text_book(payload)
    return CoinbaseBook(_levels(row.bids), _levels(row.asks), row.product_id, row.time)


def _levels(rows: list[list[str | int]]) -> list[Level]:
    return [msgspec.convert(row, Level, strict=False) for row in rows if not str(row[1]).startswith(BAD_SIZE)]


def _book(pair: Pair, row: CoinbaseBook) -> BookUpdate:
    return BookUpdate(pair=pair, exchange_time=_time(row.time), is_snapshot=True, bids=row.bids, asks=row.asks)


def _trade(pair: Pair, row: CoinbaseTrade) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_rfc3339(row.time) or 0,  # a trade without a time becomes a dead letter
        id=str(row.trade_id),
        price=row.price,
        size=row.size,
        side=TAKER_SIDES[row.side],
    )


def _rest_ticker(pair: Pair, row: CoinbaseRestTicker) -> Ticker:
    if row == CoinbaseRestTicker():
        raise ValueError("neither a price nor a quote: no ticker")
    return Ticker(
        pair=pair,
        exchange_time=_time(row.time),
        last=last_price(row.price),
        volume_24h=number(row.volume),
        best_bid=price(row.bid),
        best_ask=price(row.ask),
    )


def _candle(pair: Pair, row: CoinbaseCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=row.time * SECOND,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
    )


class CoinbaseSubscription(msgspec.Struct):
    """One channel of an answer."""

    name: str  # "ticker"
    product_ids: list[str] = []


class CoinbaseHead(msgspec.Struct):
    """What tells messages apart."""

    type: str  # "ticker" | "snapshot" | "l2update" | "match" | "subscriptions" | "heartbeat" | "error" ...
    channels: list[CoinbaseSubscription] = []
    message: str = ""
    reason: str = ""


class CoinbaseTicker(msgspec.Struct):
    product_id: str  # "BTC-USD"
    price: msgspec.Raw = ABSENT
    time: str | None = None  # "2026-08-02T03:35:51.660084Z"
    open_24h: str | None = None
    high_24h: str | None = None
    low_24h: str | None = None
    volume_24h: str | None = None
    best_bid: str | None = None
    best_bid_size: str | None = None  # the sizes since 2022
    best_ask: str | None = None
    best_ask_size: str | None = None


class CoinbaseBook(msgspec.Struct):
    bids: list[Level]  # ["37209.96", "0.04016376"]: price, size; on REST also the number of orders
    asks: list[Level]
    product_id: str = ""
    time: str = ""


class CoinbaseTextBook(msgspec.Struct):
    """A whole book whose numbers are not yet read: one of them may be no number."""

    bids: list[list[str | int]]
    asks: list[list[str | int]]
    product_id: str = ""
    time: str = ""


class CoinbaseLevelChange(msgspec.Struct, array_like=True):
    """One changed level of a book."""

    side: Side  # "buy": a bid
    price: float
    size: float  # 0 deletes


class CoinbaseChange(msgspec.Struct):
    product_id: str
    changes: list[CoinbaseLevelChange]
    time: str = ""


class CoinbaseTrade(msgspec.Struct):
    """A trade, of the socket or of REST."""

    trade_id: int
    price: float
    size: float
    side: Side  # the maker's: see rule 5
    time: str
    product_id: str = ""


class CoinbaseRestTicker(msgspec.Struct):
    price: msgspec.Raw = ABSENT
    time: str | None = None  # six or nine digits behind the point
    bid: str | None = None
    ask: str | None = None
    volume: str | None = None  # 24 h, base


class CoinbaseCandle(msgspec.Struct, array_like=True):
    time: int  # s
    low: float
    high: float
    open: float
    close: float
    volume: float


class CoinbaseError(msgspec.Struct):
    message: str = ""


class CoinbaseMarket(msgspec.Struct):
    id: str
    status: str | None = None  # see `MARKET_STATES`
    trading_disabled: bool | None = None
    cancel_only: bool | None = None
    limit_only: bool | None = None
    post_only: bool | None = None
    auction_mode: bool | None = None
    quote_increment: str | None = None  # "0.01"
    base_increment: str | None = None  # "1e-08"
    base_min_size: str | None = None  # of old answers only
    min_market_funds: str | None = None  # quote currency


decode_head = msgspec.json.Decoder(CoinbaseHead).decode
decode_ticker = msgspec.json.Decoder(CoinbaseTicker).decode
decode_book = msgspec.json.Decoder(CoinbaseBook, strict=False).decode
decode_text_book = msgspec.json.Decoder(CoinbaseTextBook).decode
decode_changes = msgspec.json.Decoder(CoinbaseChange, strict=False).decode
decode_trade = msgspec.json.Decoder(CoinbaseTrade, strict=False).decode
decode_error = msgspec.json.Decoder(CoinbaseError).decode
decode_rest_ticker = msgspec.json.Decoder(CoinbaseRestTicker).decode
decode_rest_trades = msgspec.json.Decoder(list[CoinbaseTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[CoinbaseCandle]).decode
decode_market = msgspec.json.Decoder(CoinbaseMarket).decode
