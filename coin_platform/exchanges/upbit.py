"""Upbit spot: whole books, no acknowledgements. https://docs.upbit.com/kr/reference/websocket-guide"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from coin_platform.exchanges.bans import longest_duration_seconds
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import (
    ABSENT,
    decode_rows,
    from_milliseconds,
    from_rfc3339,
    last_price,
    number,
    price,
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
    Ticker,
    Trade,
)


class Error(msgspec.Struct):
    name: str | int  # "NO_TICKET", a number on REST
    message: str = ""


class Head(msgspec.Struct):
    type: str = ""  # "ticker" | "orderbook" | "trade" | "candle.1m"
    status: str = ""  # "UP", the answer to PING
    error: Error | None = None


class Unit(msgspec.Struct):
    ask_price: float
    bid_price: float
    ask_size: float
    bid_size: float


class TickerMessage(msgspec.Struct):
    timestamp: int  # ms
    trade_price: msgspec.Raw = ABSENT  # 122902000.00000000: numbers in free spelling, also 1.16539E8
    opening_price: msgspec.Raw = ABSENT
    high_price: msgspec.Raw = ABSENT
    low_price: msgspec.Raw = ABSENT
    prev_closing_price: msgspec.Raw = ABSENT
    signed_change_price: msgspec.Raw = ABSENT
    signed_change_rate: msgspec.Raw = ABSENT  # a fraction: 0.0105 is 1.05 %
    acc_trade_volume_24h: msgspec.Raw = ABSENT
    acc_trade_price_24h: msgspec.Raw = ABSENT
    code: str = ""  # "KRW-BTC"
    market: str = ""  # the same on REST


class BookMessage(msgspec.Struct):
    orderbook_units: list[Unit]
    timestamp: int  # ms
    code: str = ""
    market: str = ""


class TradeMessage(msgspec.Struct):
    trade_price: float
    trade_volume: float
    ask_bid: str  # the taker: "ASK" sold, "BID" bought
    sequential_id: int | None = None  # 17853950437790001, beyond 2**53; older answers have none
    trade_timestamp: int = 0  # ms
    timestamp: int = 0  # ms; on REST the time of the trade
    code: str = ""
    market: str = ""


class CandleMessage(msgspec.Struct):
    candle_date_time_utc: str  # "2025-01-02T04:28:05", UTC without a zone
    opening_price: float
    high_price: float
    low_price: float
    trade_price: float
    candle_acc_trade_volume: float
    candle_acc_trade_price: float
    timestamp: int  # ms of the last tick, not of the open
    code: str = ""
    market: str = ""


class Market(msgspec.Struct):
    market: str


decode_head = msgspec.json.Decoder(Head).decode
decode_ticker = msgspec.json.Decoder(TickerMessage).decode
decode_book = msgspec.json.Decoder(BookMessage).decode
decode_trade = msgspec.json.Decoder(TradeMessage).decode
decode_candle = msgspec.json.Decoder(CandleMessage).decode
decode_tickers = msgspec.json.Decoder(list[TickerMessage]).decode
decode_books = msgspec.json.Decoder(list[BookMessage]).decode
decode_trades = msgspec.json.Decoder(list[TradeMessage]).decode
decode_candles = msgspec.json.Decoder(list[CandleMessage]).decode
decode_market = msgspec.json.Decoder(Market).decode

decode_short = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_short_units = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode

# The names of the form SIMPLE, which we do not ask for but recordings hold.
LONG = {
    "ty": "type",
    "cd": "code",
    "tms": "timestamp",
    "ttms": "trade_timestamp",
    "obu": "orderbook_units",
    "op": "opening_price",
    "hp": "high_price",
    "lp": "low_price",
    "tp": "trade_price",
    "pcp": "prev_closing_price",
    "scp": "signed_change_price",
    "scr": "signed_change_rate",
    "tv": "trade_volume",
    "ab": "ask_bid",
    "atv24h": "acc_trade_volume_24h",
    "atp24h": "acc_trade_price_24h",
    "sid": "sequential_id",
    "ap": "ask_price",
    "bp": "bid_price",
    "as": "ask_size",
    "bs": "bid_size",
    "cdttmu": "candle_date_time_utc",
    "catv": "candle_acc_trade_volume",
    "catp": "candle_acc_trade_price",
}

TYPES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "orderbook", Channel.TRADE: "trade", Channel.CANDLE: "candle.1m"}


class Upbit(Exchange):
    """Upbit: every push is the whole book of 30 levels, so nothing can be out of step and nothing proves a loss."""

    name = "upbit"
    title = "Upbit"
    region = Region.KOREA
    partition = 0
    quote = "KRW"
    trades_per_answer = 200
    channels = frozenset(Channel)
    proof = Proof.SNAPSHOT
    depth = 30
    ws_url = "wss://api.upbit.com/websocket/v1"
    rest_url = "https://api.upbit.com"
    limits = Limits(messages_per_second=0.8, connects_per_minute=150, requests_per_second=5)  # of 100/min, 5/s, 10/s
    ban_seconds = 60.0  # the answer says how long; where it cannot be read, a minute
    candle_reach_seconds = 199 * 60.0  # 200 are asked for; a minute without trades has none, as documented
    # https://docs.upbit.com/kr/reference/rate-limits: limits are counted by the second, and repeated offences block
    refusal_rules = (
        RefusalRule(r"^404:|code not found", Refusal.FINAL),
        RefusalRule(r"^418:|block|차단", is_rate_limit=True),
        RefusalRule(r"too[_ ]many|^429:", is_rate_limit=True, ban_seconds=1.0),
        RefusalRule(r"^INVALID_AUTH|jwt|access_key|no_authorization|out_of_scope|unauthorized", Refusal.CONNECTION),
        # After these the server closes the connection.
        RefusalRule(r"^(WRONG_FORMAT|NO_TICKET|NO_TYPE|NO_CODES|INVALID_PARAM)", Refusal.CONNECTION),
    )
    ping = "PING"  # the server never pings, and closes after 60 s without traffic
    replaces_subscription = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.quote}-{pair.base}"

    def pair(self, symbol: str) -> Pair:
        quote, _, base = symbol.partition("-")
        return Pair.read(f"{base}-{quote}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        body: list[dict[str, Any]] = [
            {"ticket": f"coin-platform-{time}-{id}"},
            {"type": TYPES[channel], "codes": [self.symbol(pair) for pair in pairs]},
        ]
        yield Request(msgspec.json.encode(body).decode(), tuple(pairs))

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return iter(())  # the next subscription replaces this one

    def read(self, frame: Frame) -> Iterator[Event]:
        payload = frame.payload if b'"ty":' not in frame.payload[:300] else lengthen(frame.payload)
        head = decode_head(payload)
        if head.error is not None:
            yield self.refused(frame, f"{head.error.name}: {head.error.message}")
        elif head.type == "ticker":
            yield self._ticker(decode_ticker(payload))
        elif head.type == "orderbook":
            yield self._book(decode_book(payload))
        elif head.type == "trade":
            yield self._trade(decode_trade(payload))
        elif head.type == "candle.1m":
            yield self._candle(decode_candle(payload))
        elif head.type.startswith("candle."):
            yield Control(name=head.type)  # we keep minutes
        elif head.status:
            yield Control(name="pong")
        else:
            raise ValueError(f"type {head.type!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":
            error = decode_head(frame.payload).error
            yield self.refused(frame, f"{error.name}: {error.message}" if error else "not an array")
        elif frame.channel is Channel.TICKER:
            yield from map(self._ticker, decode_tickers(frame.payload))
        elif frame.channel is Channel.ORDERBOOK:
            yield from map(self._book, decode_books(frame.payload))
        elif frame.channel is Channel.TRADE:
            yield from map(self._trade, decode_trades(frame.payload))
        else:
            yield from map(self._candle, decode_candles(frame.payload))

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        symbol = self.symbol(pair)
        return (
            self.rest_url
            + {
                Channel.TICKER: f"/v1/ticker?markets={symbol}",
                Channel.ORDERBOOK: f"/v1/orderbook?markets={symbol}",
                Channel.TRADE: f"/v1/trades/ticks?market={symbol}&count=200",
                Channel.CANDLE: f"/v1/candles/minutes/1?market={symbol}&count=200",
            }[channel]
        )

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """The message of HTTP 418 names the time of the block, which grows with each offence."""
        return longest_duration_seconds(body)

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v1/market/all"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def market(self, row: msgspec.Raw) -> Pair | None:
        return self.pair(decode_market(row).market)

    def _ticker(self, row: TickerMessage) -> Ticker:
        return Ticker(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.timestamp),
            last=last_price(row.trade_price),
            open_day=price(row.opening_price),  # the day begins at 00:00 UTC
            high_day=price(row.high_price),
            low_day=price(row.low_price),
            prev_close_day=price(row.prev_closing_price),
            change_day=number(row.signed_change_price),
            change_rate_day=number(row.signed_change_rate),
            volume_24h=number(row.acc_trade_volume_24h),
            quote_volume_24h=number(row.acc_trade_price_24h),
        )

    def _book(self, row: BookMessage) -> BookUpdate:
        # Thin books are padded with units of price 0 or size 0, on either side.
        units = row.orderbook_units
        return BookUpdate(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.timestamp),
            is_snapshot=True,
            bids=[Level(unit.bid_price, unit.bid_size) for unit in units if unit.bid_price and unit.bid_size],
            asks=[Level(unit.ask_price, unit.ask_size) for unit in units if unit.ask_price and unit.ask_size],
        )

    def _trade(self, row: TradeMessage) -> Trade:
        return Trade(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.trade_timestamp or row.timestamp),
            id=None if row.sequential_id is None else str(row.sequential_id),
            price=row.trade_price,
            size=row.trade_volume,
            side={"ASK": Side.SELL, "BID": Side.BUY}.get(row.ask_bid),
        )

    def _candle(self, row: CandleMessage) -> Candle:
        return Candle(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.timestamp),
            open_time=from_rfc3339(row.candle_date_time_utc) or 0,
            open=row.opening_price,
            high=row.high_price,
            low=row.low_price,
            close=row.trade_price,
            volume=row.candle_acc_trade_volume,
            quote_volume=row.candle_acc_trade_price,
        )


def lengthen(payload: bytes) -> bytes:
    """Give a message of the form SIMPLE its long names; numbers keep their digits."""
    long = {LONG.get(name, name): value for name, value in decode_short(payload).items()}
    body: dict[str, Any] = dict(long)
    if "orderbook_units" in long:
        units = decode_short_units(long["orderbook_units"])
        body["orderbook_units"] = [{LONG.get(name, name): value for name, value in unit.items()} for unit in units]
    return msgspec.json.encode(body)
