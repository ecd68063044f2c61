"""Bithumb spot: whole books, no acknowledgements, three units of time. https://apidocs.bithumb.com/reference"""

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
from coin_platform.exchanges.upbit import (
    Error,
    TradeMessage,
    Unit,
    decode_market,
    decode_trade,
    decode_trades,
    lengthen,
)
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
    Pair,
    Proof,
    Refusal,
    Region,
    Side,
    Ticker,
    Trade,
)

# Bithumb speaks Upbit's language; what means the same (trades, units, markets) is Upbit's own struct.


class Head(msgspec.Struct):
    type: str = ""  # "ticker" | "orderbook" | "trade"
    status: str = ""  # "UP", the answer to PING, then every 10 s; on REST "5500", of the former API
    error: Error | None = None
    name: str = ""  # "not_found", of an unknown path
    message: str = ""


class TickerMessage(msgspec.Struct):
    timestamp: int  # ms
    trade_price: msgspec.Raw = ABSENT  # 95299000
    opening_price: msgspec.Raw = ABSENT
    high_price: msgspec.Raw = ABSENT
    low_price: msgspec.Raw = ABSENT
    prev_closing_price: msgspec.Raw = ABSENT
    signed_change_price: msgspec.Raw = ABSENT
    signed_change_rate: msgspec.Raw = ABSENT  # a fraction: 0.0116 is 1.16 %
    acc_trade_volume_24h: msgspec.Raw = ABSENT
    acc_trade_price_24h: msgspec.Raw = ABSENT
    trade_date: str = ""  # "20260730", UTC on REST, KST on the socket
    trade_time: str = ""  # "074830"
    trade_timestamp: int = 0  # ms
    code: str = ""  # "KRW-BTC"
    market: str = ""  # the same on REST


class BookMessage(msgspec.Struct):
    orderbook_units: list[Unit]
    timestamp: int | None = None  # 1790133505546514, µs; on REST 1785397720965, ms
    code: str = ""
    market: str = ""


class CandleRow(msgspec.Struct):
    market: str
    candle_date_time_utc: str  # "2026-07-30T07:48:00", UTC without a zone
    opening_price: float
    high_price: float
    low_price: float
    trade_price: float
    candle_acc_trade_volume: float
    candle_acc_trade_price: float
    timestamp: int  # ms of the last tick, not of the open
    unit: int = 0  # minutes; days, weeks and months have none


decode_head = msgspec.json.Decoder(Head).decode
decode_ticker = msgspec.json.Decoder(TickerMessage).decode
decode_book = msgspec.json.Decoder(BookMessage).decode
decode_tickers = msgspec.json.Decoder(list[TickerMessage]).decode
decode_books = msgspec.json.Decoder(list[BookMessage]).decode
decode_candles = msgspec.json.Decoder(list[CandleRow]).decode

TYPES = {Channel.TICKER: "ticker", Channel.ORDERBOOK: "orderbook", Channel.TRADE: "trade"}
KST: Microseconds = 9 * 3600 * SECOND
FIRST_IN_MICROSECONDS = 10**15  # what has 16 digits is µs, what has 13 is ms


class Bithumb(Exchange):
    """Bithumb: every push is the whole book of 15 levels. It streams no candles: those come over REST.

    We ask without options, because only the snapshot confirms a pair. Options would be in camel case
    (`isOnlySnapshot`, `isOnlyRealtime`): Upbit's snake case is ignored without a word, as are unknown codes.
    """

    name = "bithumb"
    title = "Bithumb"
    region = Region.KOREA
    partition = 1
    quote = "KRW"
    trades_per_answer = 200
    channels = frozenset(TYPES)
    proof = Proof.SNAPSHOT
    depth = 15
    ws_url = "wss://ws-api.bithumb.com/websocket/v1"
    rest_url = "https://api.bithumb.com"
    # Of 10 connections a second, over which it bans for 10 minutes, and 150 requests/s
    limits = Limits(connects_per_minute=150, requests_per_second=75)
    ban_seconds = 600.0  # too many connects: 10 minutes, as documented
    candle_reach_seconds = 199 * 60.0  # 200 are asked for; a minute without trades has none
    # https://apidocs.bithumb.com/reference; 5500 is of the former API: "not a listed coin"
    refusal_rules = (
        RefusalRule(r"^404:|code not found|^5500:", Refusal.FINAL),
        RefusalRule(r"^418:|block|차단", is_rate_limit=True),
        RefusalRule(r"too[_ ]many|^429:", is_rate_limit=True),
        RefusalRule(r"^INVALID_AUTH|jwt|access_key|no_authorization|out_of_scope|unauthorized", Refusal.CONNECTION),
        # After these the server closes the connection.
        RefusalRule(r"^(WRONG_FORMAT|NO_TICKET|NO_TYPE|NO_CODES|INVALID_PARAM)", Refusal.CONNECTION),
    )
    ping = "PING"  # the server never pings, and closes after 60 s without traffic
    replaces_subscription = True
    has_ids_by_transport = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.quote}-{pair.base}"

    def pair(self, symbol: str) -> Pair:
        quote, _, base = symbol.partition("-")
        return Pair.read(f"{base}-{quote}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        body: list[dict[str, Any]] = [
            {"ticket": f"coin-platform-{time}-{id}"},
            {"type": TYPES[channel], "codes": [self.symbol(pair) for pair in pairs]},
            {"format": "DEFAULT"},
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
        if frame.payload.lstrip()[:1] == b"{":  # errors, which come with HTTP 200
            yield self.refused(frame, _reason(decode_head(frame.payload)))
        elif frame.channel is Channel.TICKER:
            for row in decode_tickers(frame.payload):
                yield self._ticker(row, _rest_time(row))
        elif frame.channel is Channel.ORDERBOOK:
            yield from map(self._book, decode_books(frame.payload))
        elif frame.channel is Channel.TRADE:
            yield from map(self._trade, decode_trades(frame.payload))
        else:
            yield from map(self._candle, decode_candles(frame.payload))

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        symbol = self.symbol(pair)
        return (
            f"{self.rest_url}/v1/"
            + {
                Channel.TICKER: f"ticker?markets={symbol}",
                Channel.ORDERBOOK: f"orderbook?markets={symbol}",
                Channel.TRADE: f"trades/ticks?market={symbol}&count=200",
                Channel.CANDLE: f"candles/minutes/1?market={symbol}&count=200",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/v1/market/all"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def market(self, row: msgspec.Raw) -> Pair | None:
        return self.pair(decode_market(row).market)

    def _ticker(self, row: TickerMessage, time: Microseconds | None) -> Ticker:
        return Ticker(
            pair=self.pair(row.code or row.market),
            exchange_time=time,
            last=last_price(row.trade_price),
            open_day=price(row.opening_price),  # the day begins at 00:00 KST, unlike Upbit's
            high_day=price(row.high_price),
            low_day=price(row.low_price),
            prev_close_day=price(row.prev_closing_price),
            change_day=number(row.signed_change_price),
            change_rate_day=number(row.signed_change_rate),
            volume_24h=number(row.acc_trade_volume_24h),
            quote_volume_24h=number(row.acc_trade_price_24h),
        )

    def _book(self, row: BookMessage) -> BookUpdate:
        # Sizes are cut to 4 digits, so that a living level may show 0; thin books are padded with price 0.
        units = row.orderbook_units
        return BookUpdate(
            pair=self.pair(row.code or row.market),
            exchange_time=None if row.timestamp is None else _book_time(row.timestamp),
            is_snapshot=True,
            bids=[Level(unit.bid_price, unit.bid_size) for unit in units if unit.bid_price and unit.bid_size],
            asks=[Level(unit.ask_price, unit.ask_size) for unit in units if unit.ask_price and unit.ask_size],
        )

    def _trade(self, row: TradeMessage) -> Trade:
        return Trade(
            pair=self.pair(row.code or row.market),
            exchange_time=from_milliseconds(row.trade_timestamp or row.timestamp),
            # the same trade has another id on REST than on the socket
            id=None if row.sequential_id is None else str(row.sequential_id),
            price=row.trade_price,
            size=row.trade_volume,
            side={"ASK": Side.SELL, "BID": Side.BUY}.get(row.ask_bid),
        )

    def _candle(self, row: CandleRow) -> Event:
        if row.unit != 1:
            return Control(name="candle of another length")  # we keep minutes
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


def _reason(head: Head) -> str:
    """Return why a request was refused. Raises `ValueError` for an object that is no error."""
    error = head.error or Error(name=head.name or head.status, message=head.message)
    if error.name in ("", "0000"):
        raise ValueError("neither rows nor an error")
    return f"{error.name}: {error.message}"


def _book_time(stamp: int) -> Microseconds:
    """Return the time of a book: µs on the socket, ms on REST (where it was µs until 2025-11)."""
    return stamp if stamp >= FIRST_IN_MICROSECONDS else from_milliseconds(stamp)


def _rest_time(row: TickerMessage) -> Microseconds | None:
    """Return the time of a REST ticker; None where the row does not tell which clock it was written by.

    Its time stamps are KST wall time written as if it were UTC, 9 h ahead, but have not always been:
    the row's date and time of the last trade, which are UTC, tell.
    """
    if not row.trade_date:
        return None
    traded = from_rfc3339(f"{row.trade_date}T{row.trade_time}") or 0
    is_ahead = abs(from_milliseconds(row.trade_timestamp) - traded - KST) < 60 * SECOND
    return from_milliseconds(row.timestamp) - (KST if is_ahead else 0)
