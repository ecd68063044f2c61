"""Gate.io spot, WebSocket v4: books of 400 levels, numbered. https://www.gate.com/docs/developers/apiv4/ws/en/"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from coin_platform.book import Applied, Book
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import ABSENT, chunks, decode_rows, from_milliseconds, last_price, number, price
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
    Subscribed,
    Ticker,
    Trade,
)

NOTHING = msgspec.Raw(b"null")


class Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class Status(msgspec.Struct):
    status: str = ""  # "success" | "fail"


class Head(msgspec.Struct):
    channel: str  # "spot.tickers"
    event: str = ""  # "update": data; "subscribe" | "unsubscribe": an answer to us
    time: int = 0  # s; books V2 have none
    time_ms: int = 0  # not in 2021
    id: int | None = None
    error: Error | None = None
    payload: list[str] | None = None  # of the request that is answered
    result: msgspec.Raw = NOTHING


class TickerRow(msgspec.Struct):
    currency_pair: str  # "BTC_USDT"
    last: msgspec.Raw = ABSENT
    lowest_ask: str | None = None
    lowest_size: str | None = None  # the sizes: only on REST, when one pair is asked for
    highest_bid: str | None = None
    highest_size: str | None = None
    change_percentage: str | None = None  # "-0.4034": per cent of the price 24 hours ago
    base_volume: str | None = None
    quote_volume: str | None = None
    high_24h: str | None = None
    low_24h: str | None = None


class BookRow(msgspec.Struct):
    """Of `spot.obu` and `spot.order_book_update`."""

    t: int  # ms
    s: str  # "ob.BTC_USDT.400" | "BTC_USDT"
    u: int  # the last change in this message
    U: int | None = None  # the first one; a whole book of `spot.obu` has none
    full: bool = False
    l: int | None = None  # noqa: E741  text, levels
    b: list[Level] = []  # a side without changes is left out
    a: list[Level] = []


class WholeRow(msgspec.Struct):
    """Of `spot.order_book`."""

    t: int  # ms
    s: str
    bids: list[Level]
    asks: list[Level]
    lastUpdateId: int  # noqa: N815
    l: int | None = None  # noqa: E741  text, levels


class TradeRow(msgspec.Struct):
    id: int  # text on REST
    create_time_ms: float  # text: "1786539952742.901000"
    side: Side  # the taker's
    amount: float
    price: float
    currency_pair: str
    range: str = ""  # "214976613-214976615": the ids of those that the exchange tells as one; not on REST


class CandleRow(msgspec.Struct):
    t: int  # text, s
    n: str  # "1m_BTC_USDT"
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float  # quote volume, whatever its name says
    a: float | None = None  # base volume; not in 2021
    w: bool | None = None  # is it closed; not before 2022


class RestBook(msgspec.Struct):
    bids: list[Level]
    asks: list[Level]
    id: int | None = None  # only when asked for
    current: int | None = None  # ms, of the answer; these two not in 2021
    update: int | None = None  # ms, of the last change


class RestCandle(msgspec.Struct, array_like=True):
    time: int  # text, s
    quote_volume: float
    close: float
    high: float
    low: float
    open: float
    volume: float
    is_closed: bool | None = None  # text


class RestError(msgspec.Struct):
    label: str = ""  # "INVALID_CURRENCY_PAIR"
    message: str = ""


class Market(msgspec.Struct):
    id: str
    trade_status: str | None = None  # "tradable" | "untradable" | "buyable" | "sellable"


decode_head = msgspec.json.Decoder(Head).decode
decode_status = msgspec.json.Decoder(Status | None).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode
decode_book = msgspec.json.Decoder(BookRow, strict=False).decode
decode_whole = msgspec.json.Decoder(WholeRow, strict=False).decode
decode_trade = msgspec.json.Decoder(TradeRow, strict=False).decode
decode_candle = msgspec.json.Decoder(CandleRow, strict=False).decode
decode_rest_error = msgspec.json.Decoder(RestError).decode
decode_rest_tickers = msgspec.json.Decoder(list[TickerRow]).decode
decode_rest_book = msgspec.json.Decoder(RestBook, strict=False).decode
decode_rest_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[RestCandle], strict=False).decode
decode_market = msgspec.json.Decoder(Market).decode

NAMES = {
    Channel.TICKER: "spot.tickers",
    Channel.ORDERBOOK: "spot.obu",
    Channel.TRADE: "spot.trades",
    Channel.CANDLE: "spot.candlesticks",
}
DEPTH = 400  # every 100 ms; the other choice is 50, every 20 ms


class Gateio(Exchange):
    """Gate.io: each change of a book names the numbers it spans, so a loss shows at the next one."""

    name = "gateio"
    title = "Gateio"
    region = Region.ASIA
    partition = 2
    quote = "USDT"
    channels = frozenset(Channel)
    proof = Proof.SEQUENCE
    depth = DEPTH
    ws_url = "wss://api.gateio.ws/ws/v4/"
    rest_url = "https://api.gateio.ws/api/v4"
    # 200 REST requests in 10 s for each kind; nothing is published about sockets
    limits = Limits(messages_per_second=5, requests_per_second=10)
    # https://www.gate.com/docs/developers/apiv4/en/#label-list: limits are counted by ten seconds. Codes are of the
    # socket: 2 is an invalid argument, and says in words whether it means the pair; 4 is of keys.
    refusal_rules = (
        RefusalRule(r"^2:.*(unknown|invalid) currency|^INVALID_CURRENCY(_PAIR)?:", Refusal.FINAL),
        RefusalRule(r"^(TOO_MANY_REQUESTS|TOO_BUSY|TOO_FAST):|too many requests|rate limit", is_rate_limit=True),
        RefusalRule(
            r"^4:|^(INVALID_(CREDENTIALS|KEY|SIGNATURE)|IP_FORBIDDEN|FORBIDDEN|READ_ONLY|ACCOUNT_LOCKED):",
            Refusal.CONNECTION,
        ),
    )
    ping = '{"channel":"spot.ping"}'  # the documents' has the time too, which is not needed
    ping_every = 15.0  # a connection without traffic is closed after 30 to 60 s
    has_deltas = True
    refuses_whole_request = True

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}_{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        base, _, quote = symbol.partition("_")
        return Pair.read(f"{base}-{quote}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("subscribe", channel, pairs, id, time)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("unsubscribe", channel, pairs, id, time)

    def _ask(
        self, event: str, channel: Channel, pairs: Sequence[Pair], id: int, time: Microseconds
    ) -> Iterator[Request]:
        size = 1 if channel is Channel.CANDLE else self.limits.pairs_per_request
        for number_, some in enumerate(chunks(pairs, size), id):
            symbols = [self.symbol(pair) for pair in some]
            if channel is Channel.ORDERBOOK:
                symbols = [f"ob.{symbol}.{DEPTH}" for symbol in symbols]
            elif channel is Channel.CANDLE:
                symbols = ["1m", *symbols]
            head = {"time": time // SECOND, "id": number_, "channel": NAMES[channel], "event": event}
            yield Request(msgspec.json.encode({**head, "payload": symbols}).decode(), some, number_)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.event != "update":
            yield self._answer(frame, head)
            return
        match head.channel:
            case "spot.tickers":
                yield self._ticker(decode_ticker(head.result), from_milliseconds(head.time_ms) or head.time * SECOND)
            case "spot.obu":
                row = decode_book(head.result)
                symbol, _, depth = row.s.removeprefix("ob.").rpartition(".")  # names may have dots
                yield self._book(row, symbol, int(depth))
            case "spot.order_book_update":
                row = decode_book(head.result)
                yield self._book(row, row.s, row.l)
            case "spot.order_book":
                yield self._whole(decode_whole(head.result))
            case "spot.trades":
                yield self._trade(decode_trade(head.result))
            case "spot.candlesticks":
                yield self._candle(decode_candle(head.result), from_milliseconds(head.time_ms) or head.time * SECOND)
            case "spot.book_ticker":
                yield Control(name=head.channel)  # the best prices, which the book has too
            case _:
                raise ValueError(f"channel {head.channel!r} is not known")

    def _answer(self, frame: Frame, head: Head) -> Event:
        if not head.channel.startswith("spot."):
            raise ValueError(f"channel {head.channel!r} is not known")
        if head.event != "subscribe":
            return Control(name=head.event or head.channel)  # refused or not: unsubscribed, or a pong
        status = decode_status(head.result)
        if head.error is None and status is not None and status.status == "success":
            return Subscribed(request=head.id)
        error = head.error or Error(message="no success")
        named = self._named(head, error.message)
        return self.refused(frame, f"{error.code}: {error.message}", pair=named, request=head.id)

    def _named(self, head: Head, message: str) -> Pair | None:
        """Return the pair of a refused request that the reason names."""
        words = message.split()
        entries = [entry for entry in head.payload or () if entry in words]
        named = [e.removeprefix("ob.").rpartition(".")[0] if e.startswith("ob.") else e for e in entries]
        return self.pair(named[0]) if named else None

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":
            error = decode_rest_error(frame.payload)
            if error.label:
                yield self.refused(frame, f"{error.label}: {error.message}")
                return
        match frame.channel:
            case Channel.TICKER:
                for ticker in decode_rest_tickers(frame.payload):
                    yield self._ticker(ticker, None)
            case Channel.TRADE:
                yield from map(self._trade, decode_rest_trades(frame.payload))
            case _ if frame.pair is None:
                raise ValueError("a REST answer needs its pair")
            case Channel.ORDERBOOK:
                yield _rest_book(frame.pair, decode_rest_book(frame.payload))
            case _:
                for candle in decode_rest_candles(frame.payload):
                    yield _rest_candle(frame.pair, candle)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        market = f"currency_pair={self.symbol(pair)}"
        return (
            f"{self.rest_url}/spot/"
            + {
                Channel.TICKER: f"tickers?{market}",
                Channel.ORDERBOOK: f"order_book?{market}&limit=100&with_id=true",
                Channel.TRADE: f"trades?{market}&limit=1000",
                Channel.CANDLE: f"candlesticks?{market}&interval=1m&limit=1000",
            }[channel]
        )

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/spot/currency_pairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def market(self, row: msgspec.Raw) -> Pair | None:
        market = decode_market(row)
        return self.pair(market.id) if market.trade_status == "tradable" else None

    def book(self) -> Book:
        """Books of `spot.obu` bring their own snapshot; those of `spot.order_book_update` are bridged from REST."""
        return Book(is_bridged=True)

    def apply(self, book: Book, update: BookUpdate) -> Applied:
        """A whole book of the socket always counts: unlike a REST answer, no change can have overtaken it."""
        if update.is_snapshot and update.depth is not None:
            book.invalidate()
        return super().apply(book, update)

    def _ticker(self, row: TickerRow, time: Microseconds | None) -> Ticker:
        return Ticker(
            pair=self.pair(row.currency_pair),
            exchange_time=time,
            last=last_price(row.last),
            # The price 24 hours ago is not sent, and from a rounded percentage it could only be guessed.
            high_24h=price(row.high_24h),
            low_24h=price(row.low_24h),
            change_rate_24h=_fraction(row.change_percentage),
            volume_24h=number(row.base_volume),
            quote_volume_24h=number(row.quote_volume),
            best_bid=price(row.highest_bid),
            best_bid_size=number(row.highest_size),
            best_ask=price(row.lowest_ask),
            best_ask_size=number(row.lowest_size),
        )

    def _book(self, row: BookRow, symbol: str, depth: int | None) -> BookUpdate:
        if not row.full and row.U is None:
            raise ValueError("U is missing")
        return BookUpdate(
            pair=self.pair(symbol),
            exchange_time=from_milliseconds(row.t),
            is_snapshot=row.full,
            bids=row.b,
            asks=row.a,
            first_sequence=None if row.full else row.U,
            last_sequence=row.u,
            depth=depth if row.full else None,
        )

    def _whole(self, row: WholeRow) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.t),
            is_snapshot=True,
            bids=row.bids,
            asks=row.asks,
            last_sequence=row.lastUpdateId,
            depth=row.l,
        )

    def _trade(self, row: TradeRow) -> Trade:
        return Trade(
            pair=self.pair(row.currency_pair),
            exchange_time=round(row.create_time_ms * 1000),
            id=str(row.id),
            price=row.price,
            size=row.amount,
            side=row.side,
            count=_count(row),
        )

    def _candle(self, row: CandleRow, time: Microseconds) -> Event:
        interval, _, symbol = row.n.partition("_")
        if interval != "1m" or row.a is None:
            return Control(name=f"candle {row.n}")  # we keep minutes, and their base volume
        return Candle(
            pair=self.pair(symbol),
            exchange_time=time,
            open_time=row.t * SECOND,
            open=row.o,
            high=row.h,
            low=row.l,
            close=row.c,
            volume=row.a,
            quote_volume=row.v,
            is_closed=row.w,
        )


def _count(row: TradeRow) -> int:
    """Return how many trades one stands for: 1 where its range is none of ids that end in its own."""
    first, _, last = row.range.partition("-")
    is_range = first.isdecimal() and last.isdecimal() and int(last) == row.id
    return max(1, int(last) - int(first) + 1) if is_range else 1


def _rest_book(pair: Pair, row: RestBook) -> BookUpdate:
    time = row.update or row.current
    return BookUpdate(
        pair=pair,
        exchange_time=from_milliseconds(time) if time else None,
        is_snapshot=True,
        bids=row.bids,
        asks=row.asks,
        last_sequence=row.id,
    )


def _rest_candle(pair: Pair, row: RestCandle) -> Candle:
    return Candle(
        pair=pair,
        open_time=row.time * SECOND,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.quote_volume,
        is_closed=row.is_closed,
    )


def _fraction(percent: str | None) -> str | None:
    """Return a hundredth of a number, exactly; None for null and the empty text."""
    if not percent:
        return None
    if percent.strip("0123456789.+-"):
        raise ValueError(f"change_percentage is {percent[:40]!r}, not a number")
    return f"{Decimal(percent).scaleb(-2):f}"
