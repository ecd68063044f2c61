"""Gate.io spot, API v4: what we send, and what its messages mean.

Source: https://www.gate.com/docs/developers/apiv4/ws/en/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from coin_platform.book import Applied, Book
from coin_platform.exchanges.base import Exchange, Limits, RefusalRule, Request
from coin_platform.exchanges.parsing import (
    ABSENT,
    chunks,
    decode_rows,
    from_milliseconds,
    last_price,
    number,
    price,
    step,
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

CHANNEL_NAMES = {
    Channel.TICKER: "spot.tickers",
    Channel.ORDERBOOK: "spot.obu",
    Channel.TRADE: "spot.trades",
    Channel.CANDLE: "spot.candlesticks",
}
DEPTH = 400  # levels a side, every 100 ms; the other choice is 50 levels, every 20 ms

MARKET_STATES = {
    "tradable": InstrumentState.TRADING,
    "buyable": InstrumentState.LIMITED,
    "sellable": InstrumentState.LIMITED,
    "untradable": InstrumentState.HALTED,
}


class Gateio(Exchange):
    """Gate.io: each change of a book names the numbers that it spans, so that the next message reveals a lost one.

    Rules of a connection (https://www.gate.com/docs/developers/apiv4/ws/en/):

    1. A request has one channel, the time in seconds, and any number of pairs. A request of candles has one pair.
    2. An answer repeats `id`. A bad pair refuses the whole request, and the text of the refusal may name the pair.
    3. The server closes a connection that was quiet for 30 to 60 s. Our ping leaves out the time, which is not needed.
    """

    name = "gateio"
    title = "Gateio"
    region = Region.ASIA
    partition = 2
    quote = "USDT"
    channels = frozenset(CHANNEL_NAMES)  # it lists its markets over REST only
    proof = Proof.SEQUENCE
    depth = DEPTH
    has_deltas = True
    ws_url = "wss://api.gateio.ws/ws/v4/"
    rest_url = "https://api.gateio.ws/api/v4"
    refuses_whole_request = True
    ping = '{"channel":"spot.ping"}'
    ping_every = 15.0

    # Limits (https://www.gate.com/docs/developers/apiv4/en/#label-list):
    # 1. 200 REST requests in 10 s on each path. Nothing is published about sockets.
    # 2. REST refuses with a label. The socket refuses with a code: 2 is any bad argument, and its text says whether
    #    the pair is meant; 4 means keys.
    limits = Limits(messages_per_second=5, requests_per_second=10)
    refusal_rules = (
        RefusalRule(r"^2:.*(unknown|invalid) currency|^INVALID_CURRENCY(_PAIR)?:", Refusal.FINAL),
        RefusalRule(r"^(TOO_MANY_REQUESTS|TOO_BUSY|TOO_FAST):|too many requests|rate limit", is_rate_limit=True),
        RefusalRule(
            r"^4:|^(INVALID_(CREDENTIALS|KEY|SIGNATURE)|IP_FORBIDDEN|FORBIDDEN|READ_ONLY|ACCOUNT_LOCKED):",
            Refusal.CONNECTION,
        ),
    )

    def symbol(self, pair: Pair) -> str:
        return f"{pair.base}_{pair.quote}"

    def pair(self, symbol: str) -> Pair:
        base, _, quote = symbol.partition("_")
        return Pair.read(f"{base}-{quote}")

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("subscribe", channel, pairs, id, time)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._requests("unsubscribe", channel, pairs, id, time)

    def _requests(
        self, event: str, channel: Channel, pairs: Sequence[Pair], id: int, time: Microseconds
    ) -> Iterator[Request]:
        size = 1 if channel is Channel.CANDLE else self.limits.pairs_per_request
        for request_id, batch in enumerate(chunks(pairs, size), id):
            symbols = [self.symbol(pair) for pair in batch]
            if channel is Channel.ORDERBOOK:
                symbols = [f"ob.{symbol}.{DEPTH}" for symbol in symbols]
            elif channel is Channel.CANDLE:
                symbols = ["1m", *symbols]
            head = {"time": time // SECOND, "id": request_id, "channel": CHANNEL_NAMES[channel], "event": event}
            yield Request(msgspec.json.encode({**head, "payload": symbols}).decode(), batch, request_id)

    def read(self, frame: Frame) -> Iterator[Event]:
        head = decode_head(frame.payload)
        if head.event != "update":
            yield self._answer(frame, head)
            return
        match head.channel:
            case "spot.tickers":
                yield self._ticker(decode_ticker(head.result), _head_time(head))
            case "spot.obu":
                row = decode_book(head.result)
                symbol, _, depth = row.s.removeprefix("ob.").rpartition(".")  # names of currencies may have dots
                yield self._book(row, symbol, int(depth))
            case "spot.order_book_update":  # not ours, but recordings hold it
                row = decode_book(head.result)
                yield self._book(row, row.s, row.l)
            case "spot.order_book":  # not ours, but recordings hold it
                yield self._whole_book(decode_whole_book(head.result))
            case "spot.trades":
                yield self._trade(decode_trade(head.result))
            case "spot.candlesticks":
                yield self._candle(decode_candle(head.result), _head_time(head))
            case "spot.book_ticker":
                yield Control(name=head.channel)  # the best prices, which the book has, too
            case _:
                raise ValueError(f"channel {head.channel!r} is not known")

    def _answer(self, frame: Frame, head: GateioHead) -> Event:
        if not head.channel.startswith("spot."):
            raise ValueError(f"channel {head.channel!r} is not known")
        if head.event != "subscribe":
            return Control(name=head.event or head.channel)  # a pong, or unsubscribed, refused or not
        status = decode_status(head.result)
        if head.error is None and status is not None and status.status == "success":
            return Subscribed(request=head.id)
        error = head.error or GateioError(message="no success")
        pair = self._refused_pair(head, error.message)
        return self.refused(frame, f"{error.code}: {error.message}", pair=pair, request=head.id)

    def _refused_pair(self, head: GateioHead, reason: str) -> Pair | None:
        """Return the pair of a refused request that the reason names; None where it names none."""
        words = reason.split()
        for entry in head.payload or ():
            if entry in words:
                return self.pair(entry.removeprefix("ob.").rpartition(".")[0] if entry.startswith("ob.") else entry)
        return None

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.lstrip()[:1] == b"{":
            error = decode_rest_error(frame.payload)
            if error.label:
                yield self.refused(frame, f"{error.label}: {error.message}")
                return
        match frame.channel:
            case Channel.INSTRUMENT:
                yield from self.read_instruments(self.market_rows(frame.payload), frame.received_time)
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
        if channel is Channel.INSTRUMENT:
            return self.markets_url()
        market = f"currency_pair={self.symbol(pair)}"
        paths = {
            Channel.TICKER: f"tickers?{market}",
            Channel.ORDERBOOK: f"order_book?{market}&limit=100&with_id=true",
            Channel.TRADE: f"trades?{market}&limit=1000",
            Channel.CANDLE: f"candlesticks?{market}&interval=1m&limit=1000",
        }
        return f"{self.rest_url}/spot/{paths[channel]}"

    def markets_url(self) -> str | None:
        return f"{self.rest_url}/spot/currency_pairs"

    def market_rows(self, payload: bytes) -> list[msgspec.Raw]:
        return decode_rows(payload)

    def instrument(self, row: msgspec.Raw) -> Instrument:
        """Return a market. Source: https://www.gate.com/docs/developers/apiv4/en/#list-all-currency-pairs-supported"""
        market = decode_market(row)
        return Instrument(
            pair=self.pair(market.id),
            state=MARKET_STATES.get(market.trade_status or "", InstrumentState.UNKNOWN),
            exchange_state=market.trade_status or None,
            tick_size=step(market.precision),
            size_step=step(market.amount_precision),
            min_size=market.min_base_amount or None,
            min_value=market.min_quote_amount or None,
            listed_time=market.buy_start * SECOND if market.buy_start else None,
        )

    def book(self) -> Book:
        """Return an empty book that can also be bridged from REST, which `spot.order_book_update` needs."""
        return Book(is_bridged=True)

    def apply(self, book: Book, update: BookUpdate) -> Applied:
        """Bring an update into a book. A whole book of the socket always replaces the book.

        No change can have overtaken it on its way, unlike an answer of REST.
        """
        if update.is_snapshot and update.depth is not None:
            book.invalidate()
        return super().apply(book, update)

    def _ticker(self, row: GateioTicker, time: Microseconds | None) -> Ticker:
        """Return a ticker without the price 24 hours ago: it is not sent, and the rate of change is rounded."""
        return Ticker(
            pair=self.pair(row.currency_pair),
            exchange_time=time,
            last=last_price(row.last),
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

    def _book(self, row: GateioBook, symbol: str, depth: int | None) -> BookUpdate:
        """Return a whole book or a change of `spot.obu` or `spot.order_book_update`.

        Rules (https://www.gate.com/docs/developers/apiv4/ws/en/):

        1. A message with `full` replaces the book, and may come at any time. `u` is its number.
        2. Any other message changes the book. `U` is one higher than `u` of the message before it.
        3. A side without changes is left out.
        4. `spot.order_book_update` begins without a whole book, which REST must bring.
        """
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

    def _whole_book(self, row: GateioWholeBook) -> BookUpdate:
        return BookUpdate(
            pair=self.pair(row.s),
            exchange_time=from_milliseconds(row.t),
            is_snapshot=True,
            bids=row.bids,
            asks=row.asks,
            last_sequence=row.lastUpdateId,
            depth=row.l,
        )

    def _trade(self, row: GateioTrade) -> Trade:
        return Trade(
            pair=self.pair(row.currency_pair),
            exchange_time=round(row.create_time_ms * 1000),
            id=str(row.id),
            price=row.price,
            size=row.amount,
            side=row.side,
            count=_trade_count(row),
        )

    def _candle(self, row: GateioCandle, time: Microseconds) -> Event:
        interval, _, symbol = row.n.partition("_")
        if interval != "1m" or row.a is None:
            return Control(name=f"candle {row.n}")  # we keep candles of a minute that have a base volume
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


def _head_time(head: GateioHead) -> Microseconds:
    """Return when a message was sent. Messages of 2021 have whole seconds only."""
    return from_milliseconds(head.time_ms) or head.time * SECOND


def _trade_count(row: GateioTrade) -> int:
    """Return how many trades a row stands for; 1 where its range of ids does not end in its own id."""
    first, _, last = row.range.partition("-")
    is_range = first.isdecimal() and last.isdecimal() and int(last) == row.id
    return max(1, int(last) - int(first) + 1) if is_range else 1


def _rest_book(pair: Pair, row: GateioRestBook) -> BookUpdate:
    time = row.update or row.current
    return BookUpdate(
        pair=pair,
        exchange_time=from_milliseconds(time) if time else None,
        is_snapshot=True,
        bids=row.bids,
        asks=row.asks,
        last_sequence=row.id,
    )


def _rest_candle(pair: Pair, row: GateioRestCandle) -> Candle:
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


class GateioError(msgspec.Struct):
    """The reason of a refusal on the socket."""

    code: int = 0  # 2
    message: str = ""  # "unknown currency pair: NOPE_XXX"


class GateioStatus(msgspec.Struct):
    """The result of a request."""

    status: str = ""  # "success" | "fail"


class GateioHead(msgspec.Struct):
    """A message of the socket."""

    channel: str  # "spot.tickers"
    event: str = ""  # "update": data; "subscribe" | "unsubscribe": an answer to us
    time: int = 0  # 1786539989, s; messages of `spot.obu` have none
    time_ms: int = 0  # 1786539989549, ms; messages of 2021 have none
    id: int | None = None  # 1, of the request that is answered
    error: GateioError | None = None
    payload: list[str] | None = None  # ["BTC_USDT"], of the request that is answered
    result: msgspec.Raw = msgspec.Raw(b"null")


class GateioTicker(msgspec.Struct):
    """A ticker of the socket or of REST."""

    currency_pair: str  # "BTC_USDT"
    last: msgspec.Raw = ABSENT  # "64043.9"
    lowest_ask: str | None = None  # "64043.9"
    lowest_size: str | None = None  # "2.192231"; sizes come only over REST, when one pair is asked for
    highest_bid: str | None = None  # "64043.8"
    highest_size: str | None = None  # "2.306681"
    change_percentage: str | None = None  # "-0.4034": per cent of the price 24 hours ago
    base_volume: str | None = None  # "5291.366688"
    quote_volume: str | None = None  # "337744396.9986996"
    high_24h: str | None = None  # "64473.5"
    low_24h: str | None = None  # "63234.7"


class GateioBook(msgspec.Struct):
    """The result of a message of `spot.obu` or `spot.order_book_update`."""

    t: int  # 1786541318124, ms
    s: str  # "ob.BTC_USDT.400"; "BTC_USDT" in `spot.order_book_update`
    u: int  # 39106162816, the number of the last change in this message
    U: int | None = None  # 39106162813, the number of the first change; a whole book of `spot.obu` has none
    full: bool = False  # it is the whole book
    l: int | None = None  # noqa: E741  "100", levels
    b: list[Level] = []  # [["63915.2","0.022796"]]: price, size; a side without changes is left out
    a: list[Level] = []


class GateioWholeBook(msgspec.Struct):
    """The result of a message of `spot.order_book`."""

    t: int  # 1606295412123, ms
    s: str  # "BTC_USDT"
    bids: list[Level]  # [["19079.55","0.0195"]]: price, size
    asks: list[Level]
    lastUpdateId: int  # noqa: N815  48791820
    l: int | None = None  # noqa: E741  "5", levels


class GateioTrade(msgspec.Struct):
    """A trade of the socket or of REST."""

    id: int  # 214976613; on REST a text
    create_time_ms: float  # "1786539952742.901000"
    side: Side  # "buy" | "sell", the taker's
    amount: float  # "0.0803", base currency
    price: float  # "64028.2"
    currency_pair: str  # "BTC_USDT"
    range: str = ""  # "214976613-214976615": the ids of the trades that this row stands for; not on REST


class GateioCandle(msgspec.Struct):
    """A candle of the socket."""

    t: int  # "1786539960", s, the open
    n: str  # "1m_BTC_USDT"
    o: float  # "64035.1"
    h: float
    l: float  # noqa: E741
    c: float
    v: float  # "120920.0651408", the quote volume, despite its name
    a: float | None = None  # "1.888203", base volume; not in 2021
    w: bool | None = None  # the minute is over; neither in 2021 nor in 2022


class GateioRestBook(msgspec.Struct):
    """A book of REST."""

    bids: list[Level]  # [["112095.8","2.255276"]]: price, size
    asks: list[Level]
    id: int | None = None  # 27596272445; only when asked for
    current: int | None = None  # 1759104757920, ms, of the answer; like the next one, not in 2021
    update: int | None = None  # 1759104757919, ms, of the last change


class GateioRestCandle(msgspec.Struct, array_like=True):
    """A candle of REST."""

    time: int  # "1539852480", s, the open
    quote_volume: float  # "971519.677"
    close: float  # "0.0021724"
    high: float
    low: float
    open: float
    volume: float  # "447513890", base currency
    is_closed: bool | None = None  # "true"


class GateioRestError(msgspec.Struct):
    """The reason of a refusal over REST."""

    label: str = ""  # "INVALID_CURRENCY_PAIR"
    message: str = ""  # "Invalid currency pair BTC_USDTT"


class GateioMarket(msgspec.Struct):
    """A row of the list of markets."""

    id: str  # "BTC_USDT"
    trade_status: str | None = None  # see `MARKET_STATES`
    precision: int | None = None  # digits of a price behind the point
    amount_precision: int | None = None  # of a size
    min_base_amount: str | None = None
    min_quote_amount: str | None = None
    buy_start: int | None = None  # seconds; 0 means "not known"


decode_head = msgspec.json.Decoder(GateioHead).decode
decode_status = msgspec.json.Decoder(GateioStatus | None).decode
decode_ticker = msgspec.json.Decoder(GateioTicker).decode
decode_book = msgspec.json.Decoder(GateioBook, strict=False).decode
decode_whole_book = msgspec.json.Decoder(GateioWholeBook, strict=False).decode
decode_trade = msgspec.json.Decoder(GateioTrade, strict=False).decode
decode_candle = msgspec.json.Decoder(GateioCandle, strict=False).decode
decode_rest_error = msgspec.json.Decoder(GateioRestError).decode
decode_rest_tickers = msgspec.json.Decoder(list[GateioTicker]).decode
decode_rest_book = msgspec.json.Decoder(GateioRestBook, strict=False).decode
decode_rest_trades = msgspec.json.Decoder(list[GateioTrade], strict=False).decode
decode_rest_candles = msgspec.json.Decoder(list[GateioRestCandle], strict=False).decode
decode_market = msgspec.json.Decoder(GateioMarket).decode
