"""OKX spot, API v5: chained books. https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel"""

import zlib
from collections.abc import Iterator, Sequence

import msgspec

from coin_platform.book import Book
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, chunks, difference, from_milliseconds, last_price, number, price
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
    Kind,
    Level,
    Microseconds,
    Notice,
    Pair,
    Proof,
    Refusal,
    Region,
    Side,
    Subscribed,
    TextLevel,
    Ticker,
    Trade,
)


class Arg(msgspec.Struct):
    channel: str = ""  # "books"
    instId: str = ""  # noqa: N815  "BTC-USDT"


class Head(msgspec.Struct):
    event: str = ""  # "subscribe" | "unsubscribe" | "error" | "notice"; empty: data
    arg: Arg | None = None
    action: str = ""  # "snapshot" | "update", of books
    channel: str = ""  # of "channel-conn-count-error"
    code: str | int = ""  # "60018"
    msg: str = ""
    id: str = ""


class TickerRow(msgspec.Struct):
    instId: str  # noqa: N815
    ts: int  # text, ms
    last: msgspec.Raw = ABSENT
    askPx: str | None = None  # noqa: N815
    askSz: str | None = None  # noqa: N815
    bidPx: str | None = None  # noqa: N815
    bidSz: str | None = None  # noqa: N815
    open24h: str | None = None
    high24h: str | None = None
    low24h: str | None = None
    volCcy24h: str | None = None  # noqa: N815  quote volume for spot, whatever its name says
    vol24h: str | None = None


class BookRow(msgspec.Struct):
    asks: list[Level]  # ["65140.4", "0.875077", "0", "7"]: price, size, nothing, orders
    bids: list[Level]
    ts: int
    seqId: int | None = None  # noqa: N815
    prevSeqId: int | None = None  # noqa: N815
    checksum: int | None = None  # 0 since 2026-06-23: not present


class TextRow(msgspec.Struct):
    asks: list[list[str]]
    bids: list[list[str]]


class TradeRow(msgspec.Struct):
    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: float
    sz: float
    side: Side  # the taker's
    ts: int
    count: int = 1  # text; of "trades": how many it stands for, whose ids end in `tradeId`


class CandleRow(msgspec.Struct, array_like=True):
    time: int  # text, ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None  # messages of 2022 end here
    _quote_volume: float | None = None
    confirm: str = ""  # "0" | "1"


class Tickers(msgspec.Struct):
    data: list[TickerRow]


class Books(msgspec.Struct):
    data: list[BookRow]


class Texts(msgspec.Struct):
    data: list[TextRow]


class Trades(msgspec.Struct):
    data: list[TradeRow]


class Candles(msgspec.Struct):
    data: list[CandleRow]


class Instrument(msgspec.Struct):
    instId: str  # noqa: N815
    state: str | None = "live"


class Instruments(msgspec.Struct):
    data: list[msgspec.Raw]


decode_head = msgspec.json.Decoder(Head).decode
decode_tickers = msgspec.json.Decoder(Tickers, strict=False).decode
decode_books = msgspec.json.Decoder(Books, strict=False).decode
decode_texts = msgspec.json.Decoder(Texts).decode
decode_trades = msgspec.json.Decoder(Trades, strict=False).decode
decode_candles = msgspec.json.Decoder(Candles, strict=False).decode
decode_instruments = msgspec.json.Decoder(Instruments).decode
decode_instrument = msgspec.json.Decoder(Instrument).decode

NAMES = {Channel.TICKER: "tickers", Channel.ORDERBOOK: "books", Channel.TRADE: "trades-all", Channel.CANDLE: "candle1m"}
CHANNELS = {name: channel for channel, name in NAMES.items()} | {
    # Other books that recordings hold; they follow the same rules.
    **dict.fromkeys(("books5", "bbo-tbt", "books-l2-tbt", "books50-l2-tbt"), Channel.ORDERBOOK),
    "trades": Channel.TRADE,  # what one order took at one price is one trade there
}
WHOLE = ("books5", "bbo-tbt")  # every message is the whole book, and has no action


class Okx(Exchange):
    """OKX: each change names the one before it (`prevSeqId`), so the first message after a loss reveals it."""

    name = "okx"
    title = "OKX"
    region = Region.ASIA
    partition = 0
    quote = "USDT"
    channels = frozenset(Channel)
    proof = Proof.SEQUENCE
    depth = 400
    ws_url = "wss://ws.okx.com:8443/ws/v5/public"
    business_url = "wss://ws.okx.com:8443/ws/v5/business"
    rest_url = "https://www.okx.com"
    # 480 requests an hour and connection, fewer than 30 books a connection, 3 connections/s, 20 requests in 2 s
    limits = Limits(pairs_per_connection=15, messages_per_second=1, connects_per_minute=90, requests_per_second=5)
    # https://www.okx.com/docs-v5/en/#error-code: limits are counted by two seconds
    refusal_rules = (
        RefusalRule(r"^(60018|51001|51015|51087):", Refusal.FINAL),
        RefusalRule(r"^(50011|50061|60014):|too many requests", is_rate_limit=True, ban_seconds=2.0),
        RefusalRule(r"^(50001|50013|50040):|systems? (is|are) busy", is_rate_limit=True),
        RefusalRule(
            r"^(6000[4-9]|60011|6002\d|6003[0-3]|64003|501\d\d|50030|50035):|^channel-conn-count-error",
            Refusal.CONNECTION,
        ),
    )
    ping = "ping"
    has_deltas = True
    is_chained = True

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.read(symbol)

    def socket_url(self, channel: Channel) -> str:
        """Candles, and trades that are not aggregated, are on a socket of their own."""
        return self.business_url if channel in (Channel.TRADE, Channel.CANDLE) else self.ws_url

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("unsubscribe", channel, pairs, id)

    def _ask(self, operation: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for number_, some in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            args = [{"channel": NAMES[channel], "instId": self.symbol(pair)} for pair in some]
            body = {"id": str(number_), "op": operation, "args": args}
            yield Request(msgspec.json.encode(body).decode(), some, number_)

    def read(self, frame: Frame) -> Iterator[Event]:
        if frame.payload == b"pong":
            yield Control(name="pong")
            return
        head = decode_head(frame.payload)
        match head.event:
            case "":
                yield from self._data(frame, head)
            case "subscribe" if head.arg is not None:
                yield Subscribed(pair=self.pair(head.arg.instId))
            case "error":
                # 60018 names no arg: the pairs that stay unconfirmed are the refused ones
                yield self.refused(
                    frame,
                    f"{head.code}: {head.msg}",
                    pair=self.pair(head.arg.instId) if head.arg is not None and head.arg.instId else None,
                    request=int(head.id) if head.id.isdecimal() else None,
                )
            case "channel-conn-count-error":
                yield self.refused(frame, f"{head.event}: too many connections carry {head.channel or 'this channel'}")
            case "notice":
                yield Notice(reason=f"{head.code}: {head.msg}")
            case "subscribe" | "unsubscribe" | "login" | "channel-conn-count":
                yield Control(name=head.event)
            case unknown:
                raise ValueError(f"event {unknown!r} is not known")

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.code != "0":  # errors come with HTTP 200 too
            yield self.refused(frame, f"{head.code}: {head.msg}")
        elif frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        else:
            arg = Arg(channel=NAMES[frame.channel], instId=self.symbol(frame.pair))
            yield from self._data(frame, Head(arg=arg, action="snapshot"))

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        symbol = self.symbol(pair)
        return (
            f"{self.rest_url}/api/v5/market/"
            + {
                Channel.TICKER: f"ticker?instId={symbol}",
                Channel.ORDERBOOK: f"books?instId={symbol}&sz=400",
                Channel.TRADE: f"trades?instId={symbol}&limit=500",
                Channel.CANDLE: f"candles?instId={symbol}&bar=1m&limit=300",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/api/v5/public/instruments?instType=SPOT"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        head = decode_head(payload)
        if head.code != "0":
            raise DecodeError(f"okx: {head.code}: {head.msg}")
        return decode_instruments(payload).data

    def market(self, row: msgspec.Raw) -> Pair | None:
        instrument = decode_instrument(row)
        return self.pair(instrument.instId) if instrument.state == "live" else None

    def checksum(self, book: Book) -> int | None:
        """CRC32 of `bid:size:ask:size:…` over the best 25 levels, signed; sent until 2026-06-23."""
        bids, asks = book.bids.top(25), book.asks.top(25)
        parts: list[str] = []
        for rank in range(25):
            parts += [
                level.text for side in (bids, asks) for level in side[rank : rank + 1] if isinstance(level, TextLevel)
            ]
        crc = zlib.crc32(":".join(parts).encode())
        return crc - ((crc >> 31) << 32)

    def _data(self, frame: Frame, head: Head) -> Iterator[Event]:
        if head.arg is None:
            raise ValueError("neither event nor arg")
        match CHANNELS.get(head.arg.channel):
            case Channel.TICKER:
                yield from map(self._ticker, decode_tickers(frame.payload).data)
            case Channel.ORDERBOOK:
                yield from self._books(frame, head.arg, head.action)
            case Channel.TRADE:
                yield from map(self._trade, decode_trades(frame.payload).data)
            case Channel.CANDLE:
                pair = self.pair(head.arg.instId)
                for row in decode_candles(frame.payload).data:
                    yield self._candle(pair, row)
            case _:
                yield Control(name=f"channel {head.arg.channel}")

    def _books(self, frame: Frame, arg: Arg, action: str) -> Iterator[BookUpdate]:
        if action not in ("snapshot", "update") and arg.channel not in WHOLE:
            raise ValueError(f"action {action!r} is not known")
        is_snapshot = action != "update"
        rows = decode_books(frame.payload).data
        # The checksum is made of the exchange's own digits; only old recordings have one.
        texts = decode_texts(frame.payload).data if any(row.checksum for row in rows) else []
        for index, row in enumerate(rows):
            is_chained = row.seqId is not None and (is_snapshot or row.prevSeqId is not None)
            if not (is_chained or row.checksum or arg.channel in WHOLE or frame.kind is Kind.REST):
                raise ValueError("neither seqId nor checksum: a loss after it could not be seen")
            yield BookUpdate(
                pair=self.pair(arg.instId),
                exchange_time=from_milliseconds(row.ts),
                is_snapshot=is_snapshot,
                bids=[_text_level(level) for level in texts[index].bids] if texts else row.bids,
                asks=[_text_level(level) for level in texts[index].asks] if texts else row.asks,
                first_sequence=row.prevSeqId + 1 if row.prevSeqId is not None else None,
                last_sequence=row.seqId,
                checksum=row.checksum or None,
            )

    def _ticker(self, row: TickerRow) -> Ticker:
        opened = price(row.open24h)
        change = difference(price(row.last), opened)
        return Ticker(
            pair=self.pair(row.instId),
            exchange_time=from_milliseconds(row.ts),
            last=last_price(row.last),
            open_24h=opened,
            high_24h=price(row.high24h),
            low_24h=price(row.low24h),
            change_24h=change,
            volume_24h=number(row.vol24h),
            quote_volume_24h=number(row.volCcy24h),
            best_bid=price(row.bidPx),
            best_bid_size=number(row.bidSz),
            best_ask=price(row.askPx),
            best_ask_size=number(row.askSz),
        )

    def _trade(self, row: TradeRow) -> Trade:
        return Trade(
            pair=self.pair(row.instId),
            exchange_time=from_milliseconds(row.ts),
            id=row.tradeId,
            price=row.px,
            size=row.sz,
            side=row.side,
            count=row.count,
        )

    def _candle(self, pair: Pair, row: CandleRow) -> Candle:
        return Candle(
            pair=pair,
            open_time=from_milliseconds(row.time),
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
            quote_volume=row.quote_volume,
            is_closed=row.confirm == "1" if row.confirm else None,
        )


def _text_level(level: list[str]) -> TextLevel:
    price_text, size_text, *_ = level
    return TextLevel(float(price_text), float(size_text), f"{price_text}:{size_text}")
