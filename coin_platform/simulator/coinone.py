"""Simulate Coinone: one request a pair, confirmed even if the pair is unknown. Books are whole, worst ask first."""

import json
from collections.abc import Iterator

from coin_platform.exchanges.coinone import CHANNEL_NAMES
from coin_platform.model import SECOND, Channel, Microseconds, Side
from coin_platform.simulator.market import Bar, Deal, Listing
from coin_platform.simulator.venue import (
    Message,
    RestAnswer,
    Venue,
    compact,
    control,
    figures,
    prices,
    quotes,
    short,
    taker,
)

# Templates after the recordings in tests/data/coinone.
DATA = '{{"response_type":"DATA","channel":"{channel}","data":{{{row}}}}}'
TOPIC = '"quote_currency":"{quote}","target_currency":"{base}"'
TICKER = (
    '{topic},"timestamp":{ms},"quote_volume":"{value}","target_volume":"{volume}","high":"{high}","low":"{low}",'
    '"first":"{open}","last":"{last}","volume_power":"100","ask_best_price":"{ask}","ask_best_qty":"{ask_size}",'
    '"bid_best_price":"{bid}","bid_best_qty":"{bid_size}","id":"{ms}001","yesterday_last":"{prev}"'
)
REST_TICKER = (
    '"tickers":[{{{lower_topic},"timestamp":{ms},"high":"{high}","low":"{low}","first":"{open}","last":"{last}",'
    '"quote_volume":"{value}","target_volume":"{volume}","best_asks":[{{"price":"{ask}","qty":"{ask_size}"}}],'
    '"best_bids":[{{"price":"{bid}","qty":"{bid_size}"}}],"id":"{ms}001"}}]'
)
BOOK = '{topic},"timestamp":{changed},"id":"{ms}001","asks":[{asks}],"bids":[{bids}]'
REST_BOOK = '"timestamp":{changed},"id":"{ms}001",{topic},"order_book_unit":"0.0","bids":[{bids}],"asks":[{asks}]'
LEVEL = '{{"price":"{}","qty":"{}"}}'
TRADE = '"id":"{ms}{id:03}","timestamp":{ms},"price":"{price}","qty":"{size}","is_seller_maker":{is_sold}'
CANDLE = (
    '{topic},"interval":"1m","timestamp":{ms},"id":"{ms}001","candle_timestamp":{begin},"high":"{high}","low":"{low}",'
    '"first":"{open}","last":"{last}","quote_volume":"{value}","target_volume":"{volume}"'
)
REST_CANDLE = (
    '{{"timestamp":{begin},"open":"{open}","high":"{high}","low":"{low}","close":"{last}","target_volume":"{volume}",'
    '"quote_volume":"{value}"}}'
)
CONNECTED = '{"response_type":"CONNECTED","data":{"session_id":"6f3e1d0f-f9ab-f300-1567-0eb31af6d6ef"}}'
PONG = control('{"response_type":"PONG"}')
INVALID_TOPIC = control('{"response_type":"ERROR","error_code":160012,"message":"Invalid Topic"}')
UNKNOWN_PAIR = RestAnswer(
    '{"result":"error","error_code":"107","error_msg":"Parameter value is wrong"}'
)  # with HTTP 200
BOOK_LEVELS = 16
FIRST_BOOK_AGE = 10 * SECOND  # µs; the age of the first book after a subscription
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Coinone(Venue):
    """One connection to Coinone."""

    name = "coinone"

    def opened(self, time: Microseconds) -> Iterator[Message]:
        yield control(CONNECTED)

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        request = message["request_type"]
        if request == "PING":
            yield PONG
            return
        topic, channel = message["topic"], CHANNELS[message["channel"]]
        # Coinone confirms a request before it checks the pair.
        yield control(compact({"response_type": f"{request}D", "channel": message["channel"], "data": topic}))
        listing = self.listing(f"{topic['quote_currency']}/{topic['target_currency']}")
        if listing is None:
            yield INVALID_TOPIC
        elif request == "SUBSCRIBE":
            yield from self.subscribe(channel, listing, time)
        else:
            self.unsubscribe(channel, listing)

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        rows = []
        match channel:
            case Channel.TICKER:
                rows = [_ticker(TICKER, listing, listing.day, time)]
            case Channel.ORDERBOOK:
                rows = [_book(BOOK, listing, BOOK_LEVELS, time, changed=time - FIRST_BOOK_AGE if is_first else time)]
            case Channel.TRADE if not is_first:
                rows = [f"{_topic(listing)},{_trade(listing, listing.deals[-1])}"]
            case Channel.CANDLE:
                rows = [_candle(CANDLE, listing, bar, time) for bar in (listing.closed, listing.minutes[-1]) if bar]
        for row in rows:
            yield Message(DATA.format(channel=CHANNEL_NAMES[channel], row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        call, *symbol = path.removeprefix("/public/v2/").split("/")
        if call == "markets":
            state = {"maintenance_status": 0, "trade_status": 1}
            pairs = [listing.pair for listing in self.listings().values()]
            rows = [{"quote_currency": pair.quote, "target_currency": pair.base, **state} for pair in pairs]
            return _answer(f'"markets":{compact(rows)}', time)
        listing = self.listing("/".join(symbol))
        if listing is None:
            return UNKNOWN_PAIR
        count = int(query.get("size", 200))
        match call:
            case "ticker_new":
                return _answer(_ticker(REST_TICKER, listing, listing.rolling, time), time)
            case "orderbook":
                return _answer(_book(REST_BOOK, listing, min(count, BOOK_LEVELS), time, changed=time), time)
            case "trades":
                texts = [f"{{{_trade(listing, deal)}}}" for deal in [*reversed(listing.deals)][:count]]
                return _answer(f'{_topic(listing)},"transactions":[{",".join(texts)}]', time)
        texts = [_candle(REST_CANDLE, listing, bar, time) for bar in [*reversed(listing.minutes)][:count]]
        return _answer(f'"is_last":true,"chart":[{",".join(texts)}]', time)


def _topic(listing: Listing) -> str:
    return TOPIC.format(quote=listing.pair.quote, base=listing.pair.base)


def _answer(row: str, time: Microseconds) -> RestAnswer:
    return RestAnswer(f'{{"result":"success","error_code":"0","server_time":{time // 1000},{row}}}')


def _ticker(template: str, listing: Listing, bar: Bar, time: Microseconds) -> str:
    """Write a ticker. Prices are of the day on the socket, and of 24 hours on REST. Volumes are always of 24 hours."""
    sums = {"volume": listing.rolling.volume, "value": listing.rolling.value}
    texts = {**prices(listing, bar), **quotes(listing), **sums, "prev": listing.price(listing.prev_close)}
    fields = {name: short(value) for name, value in texts.items()}
    topic = _topic(listing)
    return template.format(topic=topic, lower_topic=topic.lower(), ms=time // 1000, **fields)


def _book(template: str, listing: Listing, depth: int, time: Microseconds, *, changed: Microseconds) -> str:
    sides = {"bids": listing.levels(Side.BUY, depth), "asks": listing.levels(Side.SELL, depth)}
    if template is BOOK:
        sides["asks"].reverse()
    texts = {
        name: ",".join(LEVEL.format(short(listing.price(ticks)), short(size)) for ticks, size in levels)
        for name, levels in sides.items()
    }
    return template.format(topic=_topic(listing), changed=changed // 1000, ms=time // 1000, **texts)


def _trade(listing: Listing, deal: Deal) -> str:
    is_sold = taker(deal.side, "false", "true")  # after the documentation; the field's name says the opposite
    sold = {"price": short(listing.price(deal.ticks)), "size": short(deal.size), "is_sold": is_sold}
    return TRADE.format(ms=deal.time // 1000, id=deal.id % 1000, **sold)


def _candle(template: str, listing: Listing, bar: Bar, time: Microseconds) -> str:
    return template.format(topic=_topic(listing), begin=bar.start // 1000, ms=time // 1000, **figures(listing, bar))
