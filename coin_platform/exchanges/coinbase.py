"""Coinbase Exchange: whole books and changes without numbers. https://docs.cdp.coinbase.com/exchange/websocket-feed/channels"""

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


class Subscription(msgspec.Struct):
    name: str  # "ticker"
    product_ids: list[str] = []


class Head(msgspec.Struct):
    type: str  # "ticker" | "snapshot" | "l2update" | "match" | "subscriptions" | "heartbeat" | "error" ...
    channels: list[Subscription] = []
    message: str = ""
    reason: str = ""


class TickerRow(msgspec.Struct):
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


class BookRow(msgspec.Struct):
    bids: list[Level]  # ["37209.96", "0.04016376"]: price, size; on REST also the number of orders
    asks: list[Level]
    product_id: str = ""
    time: str = ""


class TextRow(msgspec.Struct):
    """The same before its numbers are read."""

    bids: list[list[str | int]]
    asks: list[list[str | int]]
    product_id: str = ""
    time: str = ""


class Change(msgspec.Struct, array_like=True):
    side: Side  # "buy": a bid
    price: float
    size: float  # 0 deletes


class ChangeRow(msgspec.Struct):
    product_id: str
    changes: list[Change]
    time: str = ""


class TradeRow(msgspec.Struct):
    trade_id: int
    price: float
    size: float
    side: Side  # the maker's, other than that of a ticker
    time: str
    product_id: str = ""


class RestTicker(msgspec.Struct):
    price: msgspec.Raw = ABSENT
    time: str | None = None  # six or nine digits behind the point
    bid: str | None = None
    ask: str | None = None
    volume: str | None = None  # 24 h, base


class RestCandle(msgspec.Struct, array_like=True):
    time: int  # s
    low: float
    high: float
    open: float
    close: float
    volume: float


class Error(msgspec.Struct):
    message: str = ""


class Market(msgspec.Struct):
    id: str
    status: str | None = None  # "online"
    trading_disabled: bool | None = None


decode_head = msgspec.json.Decoder(Head).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode
decode_book = msgspec.json.Decoder(BookRow, strict=False).decode
decode_texts = msgspec.json.Decoder(TextRow).decode
decode_changes = msgspec.json.Decoder(ChangeRow, strict=False).decode
decode_trade = msgspec.json.Decoder(TradeRow, strict=False).decode
decode_error = msgspec.json.Decoder(Error).decode
decode_rest_ticker = msgspec.json.Decoder(RestTicker).decode
decode_rest_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[RestCandle]).decode
decode_market = msgspec.json.Decoder(Market).decode

NAMES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "level2_batch", Channel.TRADE: "matches"}
# What a channel is called in the answer: `level2_batch` gets another name there; `level2` is for old recordings.
ANSWERED = {
    "ticker": Channel.TICKER,
    **dict.fromkeys(("level2_50", "level2_batch", "level2"), Channel.ORDERBOOK),
    "matches": Channel.TRADE,
}
BAD_PRODUCT = re.compile(r"([\w.]+-[\w.]+) is ")  # "LOOM-USDC is delisted"
BAD_SIZE = "0.-"  # "0.-10000" was sent once: that level is skipped
TAKER = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}  # by the maker's side
MOST_PRODUCTS = 2000  # a connection has 50 pairs and 2 channels


class Coinbase(Exchange):
    """Coinbase: changes of a book bear no numbers, so a lost one cannot be proved."""

    name = "coinbase"
    title = "Coinbase"
    region = Region.NE
    partition = 2
    quote = "USD"
    channels = frozenset({Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE})  # candles are on REST only
    proof = Proof.NONE
    ws_url = "wss://ws-feed.exchange.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    candle_reach_seconds = 299 * 60.0  # of the newest 300 minutes; those without trades are absent, as documented
    # 8 connections/s, 100 messages/s, 10 REST requests/s. One pair a request: a bad one would refuse the others with
    # it, and answers have no number by which to tell.
    limits = Limits(
        pairs_per_connection=50,
        pairs_per_request=1,
        messages_per_second=50,
        connects_per_minute=240,
        requests_per_second=5,
    )
    # Limits are counted by the second: https://docs.cdp.coinbase.com/exchange/rest-api/rate-limits
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
    silence_seconds = 15.0  # a heartbeat comes every second
    has_deltas = True

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.read(symbol)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("subscribe", channel, pairs)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("unsubscribe", channel, pairs)

    def _ask(self, type: str, channel: Channel, pairs: Sequence[Pair]) -> Iterator[Request]:
        for some in chunks(pairs, self.limits.pairs_per_request):
            products = [self.symbol(pair) for pair in some]
            body = {"type": type, "product_ids": products, "channels": [NAMES[channel], "heartbeat"]}
            yield Request(msgspec.json.encode(body).decode(), some)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        match head.type:
            case "ticker":
                yield self._ticker(decode_ticker(frame.payload))
            case "snapshot":
                row = _book_row(frame.payload)
                yield _book(self.pair(row.product_id), row)
            case "l2update":
                yield self._changes(decode_changes(frame.payload))
            case "match" | "last_match":
                # `last_match` is the trade before the subscription: after a reconnect it may come again, with its id.
                trade = decode_trade(frame.payload)
                yield _trade(self.pair(trade.product_id), trade)
            case "subscriptions":
                yield from self._subscribed(frame.channel, head.channels)
            case "error" if head.message == "Failed to unsubscribe":
                yield Control(name=f"{head.message}: {head.reason}")
            case "error":
                reason = f"{head.message}: {head.reason}".strip(": ")
                yield self.refused(frame, reason, pair=self._named(head.reason))
            case "heartbeat" | "status":
                yield Control(name=head.type)
            case _:
                raise ValueError(f"type {head.type!r} is not known")

    def _subscribed(self, channel: Channel, subscriptions: list[Subscription]) -> Iterator[Event]:
        """Every answer lists all that is subscribed on the connection."""
        if sum(len(subscription.product_ids) for subscription in subscriptions) > MOST_PRODUCTS:
            raise ValueError("more subscriptions than anyone has")
        yield Control(name="subscriptions")
        for subscription in subscriptions:
            if ANSWERED.get(subscription.name) is channel:
                for product in subscription.product_ids:
                    yield Subscribed(pair=self.pair(product))

    def _named(self, reason: str) -> Pair | None:
        """Return the pair that a refusal names."""
        product = BAD_PRODUCT.match(reason)
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
        if frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        match frame.channel:
            case Channel.TICKER:
                yield _rest_ticker(frame.pair, decode_rest_ticker(frame.payload))
            case Channel.ORDERBOOK:
                yield _book(frame.pair, _book_row(frame.payload))
            case Channel.TRADE:
                for trade in decode_rest_trades(frame.payload):
                    yield _trade(frame.pair, trade)
            case _:
                for candle in decode_rest_candles(frame.payload):
                    yield _candle(frame.pair, candle)

    def max_bytes(self, frame: Frame) -> int:
        """Its whole books alone have all levels, BTC-USD 44,000 (1.2 MB); 3 MiB are read in 50 ms."""
        is_whole = frame.kind is Kind.REST or b'"snapshot"' in frame.payload[:100]
        return 3 << 20 if frame.channel is Channel.ORDERBOOK and is_whole else super().max_bytes(frame)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
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

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        return self.pair(market.id) if market.status == "online" and not market.trading_disabled else None

    def _ticker(self, row: TickerRow) -> Ticker:
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

    def _changes(self, row: ChangeRow) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.product_id),
            exchange_time=_time(row.time),
            is_snapshot=False,
            bids=[Level(change.price, change.size) for change in row.changes if change.side is Side.BUY],
            asks=[Level(change.price, change.size) for change in row.changes if change.side is Side.SELL],
        )


def _time(text: str | None) -> Microseconds | None:
    return from_rfc3339(text) if text else None


def _book_row(payload: bytes) -> BookRow:
    if f'"{BAD_SIZE}'.encode() not in payload:
        return decode_book(payload)
    row = decode_texts(payload)
    return BookRow(_levels(row.bids), _levels(row.asks), row.product_id, row.time)


def _levels(rows: list[list[str | int]]) -> list[Level]:
    return [msgspec.convert(row, Level, strict=False) for row in rows if not str(row[1]).startswith(BAD_SIZE)]


def _book(pair: Pair, row: BookRow) -> BookUpdate:
    return BookUpdate(pair=pair, exchange_time=_time(row.time), is_snapshot=True, bids=row.bids, asks=row.asks)


def _trade(pair: Pair, row: TradeRow) -> Trade:
    return Trade(
        pair=pair,
        exchange_time=from_rfc3339(row.time) or 0,  # no trade is older than 1971: a dead letter
        id=str(row.trade_id),
        price=row.price,
        size=row.size,
        side=TAKER[row.side],
    )


def _rest_ticker(pair: Pair, row: RestTicker) -> Ticker:
    if row == RestTicker():
        raise ValueError("neither a price nor a quote: no ticker")
    return Ticker(
        pair=pair,
        exchange_time=_time(row.time),
        last=last_price(row.price),
        volume_24h=number(row.volume),
        best_bid=price(row.bid),
        best_ask=price(row.ask),
    )


def _candle(pair: Pair, row: RestCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=row.time * SECOND,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
    )
