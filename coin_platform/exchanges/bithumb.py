"""Bithumb spot: what we send, and what its messages mean.

Source: https://apidocs.bithumb.com/reference
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

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
    Pair,
    Proof,
    Refusal,
    Region,
    Side,
    Ticker,
    Trade,
)

CHANNEL_NAMES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "orderbook", Channel.TRADE: "trade"}


class Bithumb(Exchange):
    """Bithumb: each book message is the whole book of 15 levels. Candles are not streamed, they come over REST.

    Rules of a connection (https://apidocs.bithumb.com/reference):

    1. A request replaces the one before it, so that it always names all pairs.
    2. Nothing is acknowledged. The first message of a pair confirms it; unknown pairs are ignored without an error.
    3. We ask without options, because only the first message, the snapshot, confirms a pair. Names of options are in
       camel case (`isOnlySnapshot`, `isOnlyRealtime`); names in snake case are ignored without an error.
    4. The server never pings, and closes a connection that was quiet for 60 s. We send `PING`.
    5. After an error message the server closes the connection.
    """

    name = "bithumb"
    title = "Bithumb"
    region = Region.KOREA
    partition = 1
    quote = "KRW"
    channels = frozenset(CHANNEL_NAMES)
    proof = Proof.SNAPSHOT
    depth = 15
    ws_url = "wss://ws-api.bithumb.com/websocket/v1"
    rest_url = "https://api.bithumb.com"
    replaces_subscription = True
    has_ids_by_transport = True
    ping = "PING"

    # Limits (https://apidocs.bithumb.com/docs/api-요청-수-제한-안내):
    # 1. 10 connections/s, 150 REST requests/s in each category.
    # 2. An address that connects more often is banned for 10 minutes.
    limits = Limits(connects_per_minute=150, requests_per_second=75)
    ban_seconds = 600.0
    trades_per_answer = 200
    candle_reach_seconds = 199 * 60.0  # we ask for 200 minutes; minutes without trades are left out
    refusal_rules = (
        RefusalRule(r"^404:|code not found|^5500:", Refusal.FINAL),  # 5500 of the former API: "not a listed coin"
        RefusalRule(r"^418:|block|차단", is_rate_limit=True),
        RefusalRule(r"too[_ ]many|^429:", is_rate_limit=True),
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
            {"format": "DEFAULT"},
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
            row = decode_ticker(payload)
            yield self._ticker(row, from_milliseconds(row.timestamp))
        elif head.type == "orderbook":
            yield self._book(decode_book(payload))
        elif head.type == "trade":
            yield self._trade(decode_trade(payload))
        elif head.status == "UP":
            yield Control(name="pong")
        else:
            raise ValueError(f"type {head.type!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":  # an error, which comes with HTTP 200
            yield self.refused(frame, _reason(decode_head(frame.payload)))
        elif frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
        elif frame.channel is Channel.TICKER:
            for row in decode_tickers(frame.payload):
                yield self._ticker(row, BithumbTimes.of_rest_ticker(row))
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

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v1/market/all?isDetails=true"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. All that are listed are traded; steps follow the price and are not in the list.

        Source: https://apidocs.bithumb.com/reference/거래-대상-목록-조회
        """
        market = decode_market(row)
        return Instrument(
            pair=self.pair(market.market), state=InstrumentState.TRADING, exchange_state=market.market_warning
        )

    def _ticker(self, row: BithumbTicker, time: Microseconds | None) -> Ticker:
        return Ticker(
            pair=self.pair(row.code or row.market),
            exchange_time=time,
            last=last_price(row.trade_price),
            open_day=price(row.opening_price),  # the day begins at 00:00 KST
            high_day=price(row.high_price),
            low_day=price(row.low_price),
            prev_close_day=price(row.prev_closing_price),
            change_day=number(row.signed_change_price),
            change_rate_day=number(row.signed_change_rate),
            volume_24h=number(row.acc_trade_volume_24h),
            quote_volume_24h=number(row.acc_trade_price_24h),
        )

    def _book(self, row: BithumbBook) -> BookUpdate:
        """Return the whole book without the levels that show no size.

        1. Bithumb cuts sizes to 4 digits, so that a level with a small order may show size 0.
        2. Bithumb fills up thin books with units whose price and size are 0.
        """
        units = row.orderbook_units
        return BookUpdate(
            pair=self.pair(row.code or row.market),
            exchange_time=None if row.timestamp is None else BithumbTimes.of_book(row.timestamp),
            is_snapshot=True,
            bids=[Level(unit.bid_price, unit.bid_size) for unit in units if unit.bid_price and unit.bid_size],
            asks=[Level(unit.ask_price, unit.ask_size) for unit in units if unit.ask_price and unit.ask_size],
        )

    def _trade(self, row: BithumbTrade) -> Trade:
        return Trade(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.trade_timestamp or row.timestamp),
            id=None if row.sequential_id is None else str(row.sequential_id),
            price=row.trade_price,
            size=row.trade_volume,
            side={"ASK": Side.SELL, "BID": Side.BUY}.get(row.ask_bid),
        )

    def _candle(self, row: BithumbCandle) -> Event:
        if row.unit != 1:
            return Control(name="candle of another length")  # we keep candles of a minute only
        return Candle(
            pair=self.pair(row.market),
            exchange_time=from_milliseconds(row.timestamp),
            open_time=from_rfc3339(row.candle_date_time_utc) or 0,
            open=row.opening_price,
            high=row.high_price,
            low=row.low_price,
            close=row.trade_price,
            volume=row.candle_acc_trade_volume,
            quote_volume=row.candle_acc_trade_price,
        )


def _reason(head: BithumbHead) -> str:
    """Return why a request was refused. Raises `ValueError` for an object that is no error."""
    error = head.error or BithumbError(name=head.name or head.status, message=head.message)
    if error.name in ("", "0000"):
        raise ValueError("neither rows nor an error")
    return f"{error.name}: {error.message}"


KST: Microseconds = 9 * 3600 * SECOND  # how far Korean wall time is ahead of UTC
_FIRST_TIME_IN_MICROSECONDS = 10**15  # a time in µs has 16 digits, a time in ms has 13


class BithumbTimes:
    """The units and the clocks of Bithumb's times, old and new. Each message itself tells which of them it has.

    1. Tickers and trades of the socket, and trades and candles of REST: ms since 1970, UTC.
    2. Books: µs on the socket, ms on REST. Until 2025-11 REST wrote µs, too.
    3. Tickers of REST: ms of Korean wall time, written as if it were UTC, and so 9 h ahead. In 2023 it was UTC.
    """

    @staticmethod
    def of_book(time: int) -> Microseconds:
        """Return the time of a book: its number of digits tells the unit."""
        return time if time >= _FIRST_TIME_IN_MICROSECONDS else from_milliseconds(time)

    @staticmethod
    def of_rest_ticker(row: BithumbTicker) -> Microseconds | None:
        """Return the time of a REST ticker; None where the row does not tell its clock.

        The row has the time of the last trade twice: as text, which is UTC, and by the clock of the row.
        """
        if not row.trade_date:
            return None
        traded = from_rfc3339(f"{row.trade_date}T{row.trade_time}") or 0
        is_ahead = abs(from_milliseconds(row.trade_timestamp) - traded - KST) < 60 * SECOND
        return from_milliseconds(row.timestamp) - (KST if is_ahead else 0)


class BithumbError(msgspec.Struct):
    """The reason of a refusal."""

    name: str | int  # "NO_TICKET"; on REST the status that HTTP should have: 404
    message: str = ""  # "Code not found"


class BithumbHead(msgspec.Struct):
    """What tells the messages of the socket, and the errors of REST, apart."""

    type: str = ""  # "ticker" | "orderbook" | "trade"
    status: str = ""  # "UP": the answer to PING, repeated every 10 s; on REST "5500": an error of the former API
    error: BithumbError | None = None
    name: str = ""  # "not_found": an unknown path of REST
    message: str = ""  # "No Route matched with those values"


class BithumbTicker(msgspec.Struct):
    """A ticker of the socket or of REST."""

    timestamp: int  # 1783655148485, ms; for its clock see `BithumbTimes`
    trade_price: msgspec.Raw = ABSENT  # 95299000
    opening_price: msgspec.Raw = ABSENT  # 94223000
    high_price: msgspec.Raw = ABSENT  # 95465000
    low_price: msgspec.Raw = ABSENT  # 93601000
    prev_closing_price: msgspec.Raw = ABSENT  # 94201000
    signed_change_price: msgspec.Raw = ABSENT  # 1098000
    signed_change_rate: msgspec.Raw = ABSENT  # 0.01165593, a fraction: 0.0116 is 1.16 %
    acc_trade_volume_24h: msgspec.Raw = ABSENT  # 310.44065227, base currency
    acc_trade_price_24h: msgspec.Raw = ABSENT  # 29226371799.56915, quote currency
    trade_date: str = ""  # "20260730", UTC on REST, KST on the socket
    trade_time: str = ""  # "074830"
    trade_timestamp: int = 0  # 1785430110156, ms
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class BithumbBookUnit(msgspec.Struct):
    """One rank of a book: its level of each side."""

    ask_price: float  # 3715000
    bid_price: float  # 3714000
    ask_size: float  # 8.4592
    bid_size: float  # 3.012


class BithumbBook(msgspec.Struct):
    """A whole book of the socket or of REST."""

    orderbook_units: list[BithumbBookUnit]  # best first
    timestamp: int | None = None  # 1790133505546514, µs; on REST 1785397720965, ms
    code: str = ""  # "KRW-ETH", on the socket
    market: str = ""  # "KRW-ETH", on REST


class BithumbTrade(msgspec.Struct):
    """A trade of the socket or of REST."""

    trade_price: float  # 95539000
    trade_volume: float  # 0.00022664
    ask_bid: str  # the taker: "ASK" sold, "BID" bought
    sequential_id: int | None = None  # 862683813820523888, beyond 2**53; on REST another id of the same trade
    trade_timestamp: int = 0  # 1783658381138, ms; on the socket only
    timestamp: int = 0  # 1783658381398, ms, of the message; on REST of the trade
    code: str = ""  # "KRW-BTC", on the socket
    market: str = ""  # "KRW-BTC", on REST


class BithumbCandle(msgspec.Struct):
    """A candle of REST."""

    market: str  # "KRW-BTC"
    candle_date_time_utc: str  # "2026-07-30T07:48:00", UTC without a zone: the open
    opening_price: float  # 91226000
    high_price: float
    low_price: float
    trade_price: float  # the close
    candle_acc_trade_volume: float  # 0.07725993, base currency
    candle_acc_trade_price: float  # 7044404.52985, quote currency
    timestamp: int  # 1785397710000, ms, of the last trade
    unit: int = 0  # 1, minutes; days, weeks and months have none


class BithumbMarket(msgspec.Struct):
    """A row of the list of markets."""

    market: str  # "KRW-BTC"
    market_warning: str | None = None  # "NONE" | "CAUTION"


decode_head = msgspec.json.Decoder(BithumbHead).decode
decode_ticker = msgspec.json.Decoder(BithumbTicker).decode
decode_book = msgspec.json.Decoder(BithumbBook).decode
decode_trade = msgspec.json.Decoder(BithumbTrade).decode
decode_tickers = msgspec.json.Decoder(list[BithumbTicker]).decode
decode_books = msgspec.json.Decoder(list[BithumbBook]).decode
decode_trades = msgspec.json.Decoder(list[BithumbTrade]).decode
decode_candles = msgspec.json.Decoder(list[BithumbCandle]).decode
decode_market = msgspec.json.Decoder(BithumbMarket).decode

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
}
