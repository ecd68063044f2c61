"""Simulate Bybit: one answer a request, refused as a whole for one bad topic. The changes of books are counted."""

import json
from collections.abc import Iterable, Iterator

from coin_platform.exchanges.bybit import CHANNEL_NAMES
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.market import MINUTE, SIDE_LEVELS, Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, figures, quotes, short, taker

# Templates after the recordings in tests/data/bybit.
DATA = '{{"topic":"{topic}","ts":{ms},"type":"{type}",{row}}}'
TICKER = (
    '{{"symbol":"{symbol}",{best}"lastPrice":"{last}","highPrice24h":"{high}","lowPrice24h":"{low}",'
    '"prevPrice24h":"{open}","volume24h":"{volume}","turnover24h":"{value}","price24hPcnt":"{rate:.4f}",'
    '"usdIndexPrice":""}}'
)
REST_QUOTES = '"bid1Price":"{bid}","bid1Size":"{bid_size}","ask1Price":"{ask}","ask1Size":"{ask_size}",'
TRADE = (
    '{{"i":"{id}","T":{ms},"p":"{price}","v":"{size}","S":"{side}","seq":{sequence},"s":"{symbol}","BT":false,'
    '"RPI":false}}'
)
REST_TRADE = (
    '{{"execId":"{id}","symbol":"{symbol}","price":"{price}","size":"{size}","side":"{side}","time":"{ms}",'
    '"isBlockTrade":false,"isRPITrade":false,"seq":"{sequence}"}}'
)
CANDLE = (
    '{{"start":{begin},"end":{end},"interval":"1","open":"{open}","close":"{last}","high":"{high}","low":"{low}",'
    '"volume":"{volume}","turnover":"{value}","confirm":{closed},"timestamp":{ms}}}'
)
REST_CANDLE = '["{begin}","{open}","{high}","{low}","{last}","{volume}","{value}"]'
CONNECTION_ID = "d9avt8shteepr00gfc1g-4zd1x"
REQUEST_TOPICS = 10  # at most in one request
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Bybit(Venue):
    """One connection to Bybit."""

    name = "bybit"

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        operation, topics = message["op"], {topic: self._find(topic) for topic in message.get("args", [])}
        error = self._error(operation, topics)
        answer_text = error or ("pong" if operation == "ping" else operation)
        number = {"req_id": message["req_id"]} if "req_id" in message else {}
        answer = {"success": not error, "ret_msg": answer_text, "conn_id": CONNECTION_ID, **number, "op": operation}
        yield control(compact(answer))
        if error:
            return  # one bad topic spoils the whole request
        for channel, listing in filter(None, topics.values()):
            if operation == "subscribe":
                yield from self.subscribe(channel, listing, time)
            else:
                self.unsubscribe(channel, listing)

    def _find(self, topic: str) -> tuple[Channel, Listing] | None:
        name, _, symbol = topic.rpartition(".")
        channel, listing = CHANNELS.get(name), self.listing(symbol)
        return None if channel is None or listing is None else (channel, listing)

    def _error(self, operation: str, topics: dict[str, tuple[Channel, Listing] | None]) -> str:
        if len(topics) > REQUEST_TOPICS:
            return f"args size >{REQUEST_TOPICS}"
        for topic, named in topics.items():
            if named is None:
                return f"Invalid symbol :[{topic}]"
            channel, listing = named
            if operation == "subscribe" and (channel, listing.pair) in self.subscriptions:
                return f"error:already subscribed,topic:{topic}"
        return ""

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        update_type, rows = "snapshot", []
        match channel:
            case Channel.TICKER:
                rows = [f'"cs":{listing.sequence},"data":{_ticker(listing, with_quotes=False)}']
            case Channel.ORDERBOOK:
                changes = _whole(listing) if is_first else listing.changes
                update_type = "snapshot" if is_first else "delta"
                book = {**_book(listing, changes), "u": listing.updates, "seq": listing.sequence}
                rows = [f'"data":{compact(book)},"cts":{time // 1000}']
            case Channel.TRADE if not is_first:
                rows = [f'"data":[{_trade(TRADE, listing, listing.deals[-1])}]']
            case Channel.CANDLE:
                bars = [bar for bar in (listing.closed, listing.minutes[-1]) if bar]
                rows = [f'"data":[{_candle(CANDLE, listing, bar, time)}]' for bar in bars]
        topic = f"{CHANNEL_NAMES[channel]}.{self.exchange.symbol(listing.pair)}"
        for row in rows:
            yield Message(DATA.format(topic=topic, ms=time // 1000, type=update_type, row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/v5/market/instruments-info":
            pairs = [listing.pair for listing in self.listings().values()]
            rows = [{"baseCoin": pair.base, "quoteCoin": pair.quote, "status": "Trading"} for pair in pairs]
            return _answer(f'{{"category":"spot","list":{compact(rows)}}}', time)
        symbol, count = query.get("symbol", ""), int(query.get("limit", 1))
        listing = self.listing(symbol)
        if listing is None:
            return _answer("{}", time, code=10001, reason="Not supported symbols")
        match path:
            case "/v5/market/tickers":
                texts = [_ticker(listing, with_quotes=True)]
            case "/v5/market/orderbook":
                # These numbers count a stream of 1000 levels. They do not fit the numbers of the socket.
                counted = {"u": listing.updates // 2, "seq": listing.sequence}
                book = {**_book(listing, _whole(listing, count)), "ts": time // 1000, **counted, "cts": time // 1000}
                return _answer(compact(book), time)
            case "/v5/market/recent-trade":
                texts = [_trade(REST_TRADE, listing, deal) for deal in [*reversed(listing.deals)][:count]]
            case _:
                texts = [_candle(REST_CANDLE, listing, bar, time) for bar in [*reversed(listing.minutes)][:count]]
        return _answer(f'{{"category":"spot","list":[{",".join(texts)}]}}', time)


def _answer(result: str, time: Microseconds, *, code: int = 0, reason: str = "OK") -> RestAnswer:
    return RestAnswer(
        f'{{"retCode":{code},"retMsg":"{reason}","result":{result},"retExtInfo":{{}},"time":{time // 1000}}}'
    )


def _symbol(listing: Listing) -> str:
    return f"{listing.pair.base}{listing.pair.quote}"


def _ticker(listing: Listing, *, with_quotes: bool) -> str:
    bar = listing.rolling
    quoted = {name: short(value) for name, value in quotes(listing).items()}
    best = REST_QUOTES.format(**quoted) if with_quotes else ""  # the socket sends none
    return TICKER.format(symbol=_symbol(listing), best=best, rate=bar.close / bar.open - 1, **figures(listing, bar))


def _whole(listing: Listing, count: int = SIDE_LEVELS) -> list[tuple[Side, int, float]]:
    return [(side, *level) for side in (Side.BUY, Side.SELL) for level in listing.levels(side, count)]


def _book(listing: Listing, changes: Iterable[tuple[Side, int, float]]) -> dict[str, object]:
    sides: dict[Side, list[list[str]]] = {Side.BUY: [], Side.SELL: []}
    for side, ticks, size in changes:
        sides[side].append([short(listing.price(ticks)), short(size)])
    return {"s": _symbol(listing), "b": sides[Side.BUY], "a": sides[Side.SELL]}


def _trade(template: str, listing: Listing, deal: Deal) -> str:
    texts = {"price": short(listing.price(deal.ticks)), "size": short(deal.size), "symbol": _symbol(listing)}
    texts |= {"id": f"229{deal.id:016}", "side": taker(deal.side, "Buy", "Sell")}
    return template.format(ms=deal.time // 1000, sequence=deal.id, **texts)


def _candle(template: str, listing: Listing, bar: Bar, time: Microseconds) -> str:
    begin, end = bar.start // 1000, (bar.start + MINUTE) // 1000 - 1
    closed = "false" if bar is listing.minutes[-1] else "true"
    return template.format(begin=begin, end=end, closed=closed, ms=time // 1000, **figures(listing, bar))
