"""Upbit spot: what we send, and what its messages mean.

Source: https://docs.upbit.com/kr/reference/websocket-guide
"""

from __future__ import annotations

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
    Side,
    Ticker,
    Trade,
)

CHANNEL_NAMES = {
    Channel.TICKER: "ticker",
    Channel.ORDERBOOK: "orderbook",
    Channel.TRADE: "trade",
    Channel.CANDLE: "candle.1m",
}


class Upbit(Exchange):
    """Upbit: each book message is the whole book of 30 levels. A lost message leaves no trace and does no lasting harm.

    Rules of a connection (https://docs.upbit.com/kr/reference/websocket-guide):

    1. A request replaces the one before it, so that it always names all pairs.
    2. Nothing is acknowledged. The first message of a pair confirms it; unknown pairs are ignored without an error.
    3. The server never pings, and closes a connection that was quiet for 60 s. We send `PING`.
    4. After an error message the server closes the connection.
    """

    name = "upbit"
    title = "Upbit"
    region = Region.KOREA
    partition = 0
    quote = "KRW"
    channels = frozenset(CHANNEL_NAMES)  # it lists its markets over REST only
    proof = Proof.SNAPSHOT
    depth = 30
    ws_url = "wss://api.upbit.com/websocket/v1"
    rest_url = "https://api.upbit.com"
    replaces_subscription = True
    ping = "PING"

    # Limits (https://docs.upbit.com/kr/reference/rate-limits):
    # 1. 5 connections/s, 5 messages/s and 100 messages/min on a connection, 10 REST requests/s in each group.
    # 2. Above a limit the answer is HTTP 429 until the next second. Repeated offences are blocked with HTTP 418, whose
    #    message says for how long. We wait a minute where we cannot read the length.
    limits = Limits(messages_per_second=0.8, connects_per_minute=150, requests_per_second=5)
    ban_seconds = 60.0
    trades_per_answer = 200
    candle_reach_seconds = 199 * 60.0  # we ask for 200 minutes; minutes without trades are left out, as documented
    refusal_rules = (
        RefusalRule(r"^404:|code not found", Refusal.FINAL),
        RefusalRule(r"^418:|block|차단", is_rate_limit=True),
        RefusalRule(r"too[_ ]many|^429:", is_rate_limit=True, ban_seconds=1.0),
        RefusalRule(r"^INVALID_AUTH|jwt|access_key|no_authorization|out_of_scope|unauthorized", Refusal.CONNECTION),
        RefusalRule(r"^(WRONG_FORMAT|NO_TICKET|NO_TYPE|NO_CODES|INVALID_PARAM)", Refusal.CONNECTION),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.quote}-{pair.base}"

    def pair(self, symbol: str) -> Pair:
        quote, _, base = symbol.partition("-")
        return Pair.read(f"{base}-{quote}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        body: list[dict[str, Any]] = [
            {"ticket": f"coin-platform-{time}-{id}"},
            {"type": CHANNEL_NAMES[channel], "codes": [self.symbol(pair) for pair in pairs]},
        ]
        yield Request(msgspec.json.encode(body).decode(), tuple(pairs))

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return iter(())  # the next subscription replaces this one

    def read(self, frame: Frame) -> Iterator[Event]:
        is_simple = b'"ty":' in frame.payload[:300]
        payload = with_long_names(frame.payload, SIMPLE_NAMES) if is_simple else frame.payload
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
            yield Control(name=head.type)  # we keep candles of a minute only
        elif head.status:
            yield Control(name="pong")
        else:
            raise ValueError(f"type {head.type!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":
            error = decode_head(frame.payload).error
            yield self.refused(frame, f"{error.name}: {error.message}" if error else "not an array")
        elif frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
        elif frame.channel is Channel.TICKER:
            yield from map(self._ticker, decode_tickers(frame.payload))
        elif frame.channel is Channel.ORDERBOOK:
            yield from map(self._book, decode_books(frame.payload))
        elif frame.channel is Channel.TRADE:
            yield from map(self._trade, decode_trades(frame.payload))
        else:
            yield from map(self._candle, decode_candles(frame.payload))

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        symbol = self.symbol(pair)
        paths = {
            Channel.TICKER: f"ticker?markets={symbol}",
            Channel.ORDERBOOK: f"orderbook?markets={symbol}",
            Channel.TRADE: f"trades/ticks?market={symbol}&count=200",
            Channel.CANDLE: f"candles/minutes/1?market={symbol}&count=200",
        }
        return f"{self.rest_url}/v1/{paths[channel]}"

    def read_ban_in_body(self, body: bytes, time: Microseconds) -> float | None:
        """Return the length of a block, which the message of HTTP 418 says and which grows with each offence."""
        return longest_duration_seconds(body)

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v1/market/all?is_details=true"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. All that are listed are traded; steps follow the price and are not in the list.

        Source: https://docs.upbit.com/kr/reference/list-trading-pairs
        """
        market = decode_market(row)
        return Instrument(
            pair=self.pair(market.market),
            state=InstrumentState.TRADING,
            exchange_state=market.market_event.word if market.market_event is not None else None,
        )

    def _ticker(self, row: UpbitTicker) -> Ticker:
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

    def _book(self, row: UpbitBook) -> BookUpdate:
        """Return the whole book. Upbit fills up thin books with units whose price or size is 0: those are no levels."""
        units = row.orderbook_units
        return BookUpdate(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.timestamp),
            is_snapshot=True,
            bids=[Level(unit.bid_price, unit.bid_size) for unit in units if unit.bid_price and unit.bid_size],
            asks=[Level(unit.ask_price, unit.ask_size) for unit in units if unit.ask_price and unit.ask_size],
        )

    def _trade(self, row: UpbitTrade) -> Trade:
        return Trade(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.trade_timestamp or row.timestamp),
            id=None if row.sequential_id is None else str(row.sequential_id),
            price=row.trade_price,
            size=row.trade_volume,
            side={"ASK": Side.SELL, "BID": Side.BUY}.get(row.ask_bid),
        )

    def _candle(self, row: UpbitCandle) -> Candle:
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


class UpbitError(msgspec.Struct):
    """The reason of a refusal."""

    name: str | int  # "NO_TICKET"; on REST the status of HTTP: 404
    message: str = ""  # "Code not found"


class UpbitHead(msgspec.Struct):
    """What tells the messages of the socket apart."""

    type: str = ""  # "ticker" | "orderbook" | "trade" | "candle.1m"
    status: str = ""  # "UP": the answer to PING
    error: UpbitError | None = None


class UpbitTicker(msgspec.Struct):
    """A ticker of the socket or of REST."""

    timestamp: int  # 1745130655651, ms
    trade_price: msgspec.Raw = ABSENT  # 122902000.00000000 or 1.16539E8: numbers are spelled freely
    opening_price: msgspec.Raw = ABSENT  # 122720000.00000000
    high_price: msgspec.Raw = ABSENT  # 123135000.00000000
    low_price: msgspec.Raw = ABSENT  # 122677000.00000000
    prev_closing_price: msgspec.Raw = ABSENT  # 122720000.00000000
    signed_change_price: msgspec.Raw = ABSENT  # 182000.00000000
    signed_change_rate: msgspec.Raw = ABSENT  # 0.0014830508, a fraction: 0.0105 is 1.05 %
    acc_trade_volume_24h: msgspec.Raw = ABSENT  # 345.93826612, base currency
    acc_trade_price_24h: msgspec.Raw = ABSENT  # 42472530132.53, quote currency
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class UpbitBookUnit(msgspec.Struct):
    """One rank of a book: its level of each side."""

    ask_price: float  # 1.16539E8
    bid_price: float  # 1.16538E8
    ask_size: float  # 0.02054761
    bid_size: float  # 0.08120946


class UpbitBook(msgspec.Struct):
    """A whole book of the socket or of REST."""

    orderbook_units: list[UpbitBookUnit]  # best first
    timestamp: int  # 1790134742106, ms
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class UpbitTrade(msgspec.Struct):
    """A trade of the socket or of REST."""

    trade_price: float  # 91361000.0
    trade_volume: float  # 0.01275549
    ask_bid: str  # the taker: "ASK" sold, "BID" bought
    sequential_id: int | None = None  # 17853950437790001, beyond 2**53; answers of 2018 have none
    trade_timestamp: int = 0  # 1785395043779, ms; on the socket only
    timestamp: int = 0  # 1785395043831, ms, of the message; on REST of the trade
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class UpbitCandle(msgspec.Struct):
    """A candle of the socket or of REST."""

    candle_date_time_utc: str  # "2025-01-02T04:28:00", UTC without a zone: the open
    opening_price: float  # 142009000.00000000
    high_price: float
    low_price: float
    trade_price: float  # the close
    candle_acc_trade_volume: float  # 0.00606119, base currency
    candle_acc_trade_price: float  # 860743.53071, quote currency
    timestamp: int  # 1735792085824, ms, of the last trade
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class UpbitMarketEvent(msgspec.Struct):
    """What Upbit warns of in a market."""

    warning: bool = False  # the market may be delisted
    caution: dict[str, bool] = {}  # PRICE_FLUCTUATIONS, TRADING_VOLUME_SOARING ...

    @property
    def word(self) -> str:
        """All that is warned of in one text, such as `WARNING PRICE_FLUCTUATIONS`; `NONE` if that is nothing."""
        words = ["WARNING"] * self.warning + sorted(name for name, is_on in self.caution.items() if is_on)
        return " ".join(words) or "NONE"


class UpbitMarket(msgspec.Struct):
    """A row of the list of markets."""

    market: str  # "KRW-BTC"
    market_event: UpbitMarketEvent | None = None


decode_head = msgspec.json.Decoder(UpbitHead).decode
decode_ticker = msgspec.json.Decoder(UpbitTicker).decode
decode_book = msgspec.json.Decoder(UpbitBook).decode
decode_trade = msgspec.json.Decoder(UpbitTrade).decode
decode_candle = msgspec.json.Decoder(UpbitCandle).decode
decode_tickers = msgspec.json.Decoder(list[UpbitTicker]).decode
decode_books = msgspec.json.Decoder(list[UpbitBook]).decode
decode_trades = msgspec.json.Decoder(list[UpbitTrade]).decode
decode_candles = msgspec.json.Decoder(list[UpbitCandle]).decode
decode_market = msgspec.json.Decoder(UpbitMarket).decode

# The short names of the format SIMPLE. We do not ask for it, but recordings hold it.
SIMPLE_NAMES = {
    "ty": "type",
    "cd": "code",
    "tms": "timestamp",
    "op": "opening_price",
    "hp": "high_price",
    "lp": "low_price",
    "tp": "trade_price",
    "pcp": "prev_closing_price",
    "scp": "signed_change_price",
    "scr": "signed_change_rate",
    "atv24h": "acc_trade_volume_24h",
    "atp24h": "acc_trade_price_24h",
    "obu": "orderbook_units",
    "ap": "ask_price",
    "bp": "bid_price",
    "as": "ask_size",
    "bs": "bid_size",
    "tv": "trade_volume",
    "ab": "ask_bid",
    "sid": "sequential_id",
    "ttms": "trade_timestamp",
    "cdttmu": "candle_date_time_utc",
    "catv": "candle_acc_trade_volume",
    "catp": "candle_acc_trade_price",
}
