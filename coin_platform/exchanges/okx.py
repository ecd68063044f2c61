"""OKX spot, API v5: what we send, and what its messages mean.

Source: https://www.okx.com/docs-v5/en/
"""

from __future__ import annotations

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
    Instrument,
    InstrumentState,
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

CHANNEL_NAMES = {
    Channel.TICKER: "tickers",
    Channel.ORDERBOOK: "books",
    Channel.TRADE: "trades-all",
    Channel.CANDLE: "candle1m",
}
_CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()} | {
    # Channels that we do not ask for but recordings hold. Their messages follow the same rules.
    **dict.fromkeys(("books5", "bbo-tbt", "books-l2-tbt", "books50-l2-tbt"), Channel.ORDERBOOK),
    "trades": Channel.TRADE,  # one row stands for all trades of one order at one price
}
_WHOLE_BOOK_CHANNELS = ("books5", "bbo-tbt")  # each message is the whole book, and has no action

MARKET_STATES = {
    "live": InstrumentState.TRADING,
    "post_only": InstrumentState.LIMITED,
    "suspend": InstrumentState.HALTED,
    "rebase": InstrumentState.HALTED,
    "preopen": InstrumentState.UPCOMING,
}


class Okx(Exchange):
    """OKX: each change of a book names the change before it, so that the next message reveals a lost one.

    Rules of a connection (https://www.okx.com/docs-v5/en/#overview-websocket):

    1. Candles, and trades that are not aggregated, have a socket of their own.
    2. Each pair of a request is acknowledged by itself.
    3. Error 60018, an unknown pair, names no pair. The pairs that stay unconfirmed are the refused ones.
    4. The server closes a connection that was quiet for 30 s. We send the text `ping`, and it answers `pong`.
    """

    name = "okx"
    title = "OKX"
    region = Region.ASIA
    partition = 0
    quote = "USDT"
    channels = frozenset(CHANNEL_NAMES)  # it lists its markets over REST only
    proof = Proof.SEQUENCE
    depth = 400
    has_deltas = True
    is_chained = True
    ws_url = "wss://ws.okx.com:8443/ws/v5/public"
    business_url = "wss://ws.okx.com:8443/ws/v5/business"
    rest_url = "https://www.okx.com"
    ping = "ping"

    # Limits (https://www.okx.com/docs-v5/en/#overview-websocket, https://www.okx.com/docs-v5/en/#error-code):
    # 1. 3 connections/s, 480 requests/h on a connection, fewer than 30 books on a connection.
    # 2. 20 REST requests in 2 s. Above a limit the answer is an error until the 2 s are over.
    limits = Limits(pairs_per_connection=15, messages_per_second=1, connects_per_minute=90, requests_per_second=5)
    refusal_rules = (
        RefusalRule(r"^(60018|51001|51015|51087):", Refusal.FINAL),
        RefusalRule(r"^(50011|50061|60014):|too many requests", is_rate_limit=True, ban_seconds=2.0),
        RefusalRule(r"^(50001|50013|50040):|systems? (is|are) busy", is_rate_limit=True),
        RefusalRule(
            r"^(6000[4-9]|60011|6002\d|6003[0-3]|64003|501\d\d|50030|50035):|^channel-conn-count-error",
            Refusal.CONNECTION,
        ),
    )

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.read(symbol)

    def socket_url(self, channel: Channel) -> str:
        return self.business_url if channel in (Channel.TRADE, Channel.CANDLE) else self.ws_url

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("subscribe", channel, pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("unsubscribe", channel, pairs, id)

    def _requests(self, operation: str, channel: Channel, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for request_id, batch in enumerate(chunks(pairs, self.limits.pairs_per_request), id):
            args = [{"channel": CHANNEL_NAMES[channel], "instId": self.symbol(pair)} for pair in batch]
            body = {"id": str(request_id), "op": operation, "args": args}
            yield Request(msgspec.json.encode(body).decode(), batch, request_id)

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
        if head.code != "0":  # an error, which may come with HTTP 200
            yield self.refused(frame, f"{head.code}: {head.msg}")
        elif frame.channel is Channel.INSTRUMENT:
            yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
        elif frame.pair is None:
            raise ValueError("a REST answer needs its pair")
        else:
            arg = OkxArg(channel=CHANNEL_NAMES[frame.channel], instId=self.symbol(frame.pair))
            yield from self._data(frame, OkxHead(arg=arg, action="snapshot"))

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        symbol = self.symbol(pair)
        paths = {
            Channel.TICKER: f"ticker?instId={symbol}",
            Channel.ORDERBOOK: f"books?instId={symbol}&sz=400",
            Channel.TRADE: f"trades?instId={symbol}&limit=500",
            Channel.CANDLE: f"candles?instId={symbol}&bar=1m&limit=300",
        }
        return f"{self.rest_url}/api/v5/market/{paths[channel]}"

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/api/v5/public/instruments?instType=SPOT"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        head = decode_head(payload)
        if head.code != "0":
            raise DecodeError(f"okx: {head.code}: {head.msg}")
        return decode_instruments(payload).data

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. Source: https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments

        The channel `instruments` of the socket is not used: its messages do not say whether they are the whole list.
        """
        instrument = decode_instrument(row)
        return Instrument(
            pair=self.pair(instrument.instId),
            state=MARKET_STATES.get(instrument.state or "", InstrumentState.UNKNOWN),
            exchange_state=instrument.state or None,
            tick_size=instrument.tickSz or None,
            size_step=instrument.lotSz or None,
            min_size=instrument.minSz or None,
            listed_time=from_milliseconds(int(instrument.listTime)) if instrument.listTime else None,
        )

    def checksum(self, book: Book) -> int | None:
        return OkxChecksum.of(book)

    def _data(self, frame: Frame, head: OkxHead) -> Iterator[Event]:
        if head.arg is None:
            raise ValueError("neither event nor arg")
        match _CHANNELS.get(head.arg.channel):
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

    def _books(self, frame: Frame, arg: OkxArg, action: str) -> Iterator[BookUpdate]:
        """Yield whole books and changes.

        Rules (https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel):

        1. `snapshot` replaces the book, `update` changes it. A message of `books5` or `bbo-tbt` is the whole book.
        2. `prevSeqId` of an update is `seqId` of the message before it. Any other number means a lost message.
        3. An update without levels, whose two numbers are equal, keeps the connection alive.
        4. `seqId` below `prevSeqId` restarts the numbering.
        5. A message that has neither number nor checksum could hide a loss, and is not accepted.
        """
        if action not in ("snapshot", "update") and arg.channel not in _WHOLE_BOOK_CHANNELS:
            raise ValueError(f"action {action!r} is not known")
        is_snapshot = action != "update"
        rows = decode_books(frame.payload).data
        if any(row.checksum for row in rows):
            OkxChecksum.keep_digits(rows, frame.payload)
        for row in rows:
            is_chained = row.seqId is not None and (is_snapshot or row.prevSeqId is not None)
            if not (is_chained or row.checksum or arg.channel in _WHOLE_BOOK_CHANNELS or frame.kind is Kind.REST):
                raise ValueError("neither seqId nor checksum: a loss after it could not be seen")
            yield BookUpdate(
                pair=self.pair(arg.instId),
                exchange_time=from_milliseconds(row.ts),
                is_snapshot=is_snapshot,
                bids=row.bids,
                asks=row.asks,
                first_sequence=row.prevSeqId + 1 if row.prevSeqId is not None else None,
                last_sequence=row.seqId,
                checksum=row.checksum or None,
            )

    def _ticker(self, row: OkxTicker) -> Ticker:
        open_price = price(row.open24h)
        return Ticker(
            pair=self.pair(row.instId),
            exchange_time=from_milliseconds(row.ts),
            last=last_price(row.last),
            open_24h=open_price,
            high_24h=price(row.high24h),
            low_24h=price(row.low24h),
            change_24h=difference(price(row.last), open_price),
            volume_24h=number(row.vol24h),
            quote_volume_24h=number(row.volCcy24h),
            best_bid=price(row.bidPx),
            best_bid_size=number(row.bidSz),
            best_ask=price(row.askPx),
            best_ask_size=number(row.askSz),
        )

    def _trade(self, row: OkxTrade) -> Trade:
        return Trade(
            pair=self.pair(row.instId),
            exchange_time=from_milliseconds(row.ts),
            id=row.tradeId,
            price=row.px,
            size=row.sz,
            side=row.side,
            count=row.count,
        )

    def _candle(self, pair: Pair, row: OkxCandle) -> Candle:
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


class OkxChecksum:
    """The checksum of OKX's books, which old recordings hold: it has been 0, for "none", since 2026-06-23.

    1. It is the CRC32, as a signed number, of the text `bid:size:ask:size:…` of the best 25 levels of each side.
    2. Prices and sizes are in the exchange's own digits. Where a side has fewer levels, those of the other side follow.
    3. Messages from before 2022-12 have no sequence numbers, so that only the checksum proves them.
    """

    @staticmethod
    def of(book: Book) -> int:
        """Return the checksum of a book whose levels keep their digits."""
        bids, asks = book.bids.top(25), book.asks.top(25)
        texts: list[str] = []
        for rank in range(25):
            texts += [
                level.text for side in (bids, asks) for level in side[rank : rank + 1] if isinstance(level, TextLevel)
            ]
        crc = zlib.crc32(":".join(texts).encode())
        return crc - ((crc >> 31) << 32)

    @staticmethod
    def keep_digits(rows: list[OkxBook], payload: bytes) -> None:
        """Replace the levels of a message's rows by levels that keep the digits in which the message has them."""
        for row, text_row in zip(rows, decode_text_books(payload).data, strict=True):
            row.bids = [_text_level(level) for level in text_row.bids]
            row.asks = [_text_level(level) for level in text_row.asks]


def _text_level(level: list[str]) -> TextLevel:
    price_text, size_text, *_ = level
    return TextLevel(float(price_text), float(size_text), f"{price_text}:{size_text}")


class OkxArg(msgspec.Struct):
    """A channel of a pair."""

    channel: str = ""  # "books"
    instId: str = ""  # noqa: N815  "BTC-USDT"


class OkxHead(msgspec.Struct):
    """What tells the messages of the socket, and the errors of REST, apart."""

    event: str = ""  # "subscribe" | "unsubscribe" | "error" | "notice"; empty: data
    arg: OkxArg | None = None
    action: str = ""  # "snapshot" | "update", of books
    channel: str = ""  # "books", of the event "channel-conn-count-error"
    code: str | int = ""  # "60018"; "0" is the success of REST
    msg: str = ""  # "Please log in"
    id: str = ""  # "1512", of the request that is answered


class OkxTicker(msgspec.Struct):
    """A row of a ticker message or answer."""

    instId: str  # noqa: N815  "BTC-USDT"
    ts: int  # "1786538789464", ms
    last: msgspec.Raw = ABSENT  # "64028.6"
    askPx: str | None = None  # noqa: N815  "64028.7"
    askSz: str | None = None  # noqa: N815  "2.31126955"
    bidPx: str | None = None  # noqa: N815  "64028.6"
    bidSz: str | None = None  # noqa: N815  "0.00503393"
    open24h: str | None = None  # "64324"
    high24h: str | None = None  # "64496.9"
    low24h: str | None = None  # "63237.6"
    volCcy24h: str | None = None  # noqa: N815  "374703695.177360964": the quote volume of spot, despite its name
    vol24h: str | None = None  # "5874.19398956", base currency


class OkxBook(msgspec.Struct):
    """A row of a book message or answer."""

    asks: list[Level]  # ["65140.4", "0.875077", "0", "7"]: price, size, nothing, number of orders
    bids: list[Level]
    ts: int  # "1786182438509", ms
    seqId: int | None = None  # noqa: N815  8693644373
    prevSeqId: int | None = None  # noqa: N815  8693644364; -1 of a snapshot
    checksum: int | None = None  # 0: none, see `OkxChecksum`


class OkxTextBook(msgspec.Struct):
    """The levels of a book as texts."""

    asks: list[list[str]]
    bids: list[list[str]]


class OkxTrade(msgspec.Struct):
    """A row of a trade message or answer."""

    instId: str  # noqa: N815  "BTC-USDT"
    tradeId: str  # noqa: N815  "1040968613"
    px: float  # "64040.2"
    sz: float  # "0.00240857"
    side: Side  # "buy" | "sell", the taker's
    ts: int  # "1786538760218", ms
    count: int = 1  # "2", of the channel "trades": how many trades this is, whose ids end in `tradeId`


class OkxCandle(msgspec.Struct, array_like=True):
    """A row of a candle message or answer."""

    time: int  # "1786538760000", ms, the open
    open: float  # "64040.2"
    high: float
    low: float
    close: float
    volume: float  # "2.16787395", base currency
    quote_volume: float | None = None  # "138825.265446816"; rows of 2022 end here
    _quote_volume: float | None = None
    confirm: str = ""  # "0" | "1": the minute is over


class OkxTickers(msgspec.Struct):
    """A ticker message or answer."""

    data: list[OkxTicker]


class OkxBooks(msgspec.Struct):
    """A book message or answer."""

    data: list[OkxBook]


class OkxTextBooks(msgspec.Struct):
    """A book message, levels as texts."""

    data: list[OkxTextBook]


class OkxTrades(msgspec.Struct):
    """A trade message or answer."""

    data: list[OkxTrade]


class OkxCandles(msgspec.Struct):
    """A candle message or answer."""

    data: list[OkxCandle]


class OkxInstruments(msgspec.Struct):
    """The answer that lists the markets."""

    data: list[msgspec.Raw]


class OkxInstrument(msgspec.Struct):
    """A row of the list of markets."""

    instId: str  # noqa: N815  "BTC-USDT"
    state: str | None = "live"  # see `MARKET_STATES`
    tickSz: str | None = None  # noqa: N815  "0.1"
    lotSz: str | None = None  # noqa: N815  "0.00000001"
    minSz: str | None = None  # noqa: N815
    listTime: str | None = None  # noqa: N815  "1548133413000", ms


decode_head = msgspec.json.Decoder(OkxHead).decode
decode_tickers = msgspec.json.Decoder(OkxTickers, strict=False).decode
decode_books = msgspec.json.Decoder(OkxBooks, strict=False).decode
decode_text_books = msgspec.json.Decoder(OkxTextBooks).decode
decode_trades = msgspec.json.Decoder(OkxTrades, strict=False).decode
decode_candles = msgspec.json.Decoder(OkxCandles, strict=False).decode
decode_instruments = msgspec.json.Decoder(OkxInstruments).decode
decode_instrument = msgspec.json.Decoder(OkxInstrument).decode
