"""Simulate Bithumb: Upbit's protocol without candles, with sizes cut to four digits and times in three units."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from coin_platform.exchanges.bithumb import CHANNEL_NAMES, KST
from coin_platform.model import SECOND, Channel, Microseconds, Side
from coin_platform.simulator.market import Bar, Deal, Listing, Market
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, figures, short, taker

# Templates after the recordings in tests/data/bithumb.
SOCKET = '{{"type":"{type}","code":"{code}",{row},"stream_type":"{stream}"}}'
REST = '{{"market":"{code}",{row}}}'
TICKER = (
    '"opening_price":{open},"high_price":{high},"low_price":{low},"trade_price":{last},"prev_closing_price":{prev},'
    '"change":"{change}","signed_change_price":{by},"signed_change_rate":{rate},"trade_volume":{size},'
    '"acc_trade_volume":{volume},"acc_trade_price":{value},"acc_trade_volume_24h":{volume_24h},"acc_trade_price_24h":{value_24h},'
    '"trade_date":"{date:%Y%m%d}","trade_time":"{date:%H%M%S}","trade_timestamp":{traded},"ask_bid":"{side}",'
    '"timestamp":{ms}'
)
BOOK = (
    '"total_ask_size":{asks:.4f},"total_bid_size":{bids:.4f},"orderbook_units":[{units}],"level":1,"timestamp":{stamp}'
)
UNIT = '{{"ask_price":{},"bid_price":{},"ask_size":{},"bid_size":{}}}'
TRADE = (
    '"trade_price":{price},"trade_volume":{size},"ask_bid":"{side}","prev_closing_price":{prev},'
    '"trade_date":"{kst:%Y-%m-%d}","trade_time":"{kst:%H:%M:%S}","trade_timestamp":{traded},'
    '"sequential_id":{traded}{id:05},"timestamp":{ms}'
)
REST_TRADE = (
    '"trade_date_utc":"{utc:%Y-%m-%d}","trade_time_utc":"{utc:%H:%M:%S}","timestamp":{traded},"trade_price":{price},'
    '"trade_volume":{size},"prev_closing_price":{prev},"ask_bid":"{side}","sequential_id":{traded}0000'
)
CANDLE = (
    '"candle_date_time_utc":"{utc:%Y-%m-%dT%H:%M:%S}","candle_date_time_kst":"{kst:%Y-%m-%dT%H:%M:%S}",'
    '"opening_price":{open},"high_price":{high},"low_price":{low},"trade_price":{last},"timestamp":{ms},'
    '"candle_acc_trade_price":{value},"candle_acc_trade_volume":{volume},"unit":1'
)
UP = control('{"status":"UP"}')
UNKNOWN_PAIR = RestAnswer('{"error":{"name":404,"message":"Code not found"}}')  # Bithumb sends errors with HTTP 200
BOOK_LEVELS, REST_BOOK_LEVELS = 15, 30
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Bithumb(Venue):
    """One connection to Bithumb."""

    name = "bithumb"
    is_binary = True

    def __init__(self, market: Market, path: str = "") -> None:
        super().__init__(market, path)
        self._was_pinged = False

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        if text == "PING":
            self._was_pinged = True
            yield UP
            return
        self.subscriptions.clear()  # a request replaces the request before
        for part in json.loads(text):
            for listing in map(self.listing, dict.fromkeys(part.get("codes", []))):
                if listing is not None:
                    yield from self.subscribe(CHANNELS[part["type"]], listing, time)

    def idle(self, time: Microseconds) -> Iterator[Message]:
        if self._was_pinged and self.steps % 100 == 0:  # every 10 s after the first ping
            yield UP

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        match channel:
            case Channel.TICKER:
                row = _ticker(listing, time, is_rest=False)
            case Channel.ORDERBOOK:
                row = _book(listing, BOOK_LEVELS, stamp=time)  # µs; all other times are in ms
            case _:
                row = _trade(TRADE, listing, listing.deals[-1], time)
        names = {"type": CHANNEL_NAMES[channel], "code": self.exchange.symbol(listing.pair)}
        yield Message(SOCKET.format(**names, row=row, stream="SNAPSHOT" if is_first else "REALTIME"))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/v1/market/all":
            return RestAnswer(compact([{"market": symbol} for symbol in self.listings()]))
        symbol, count = (
            query.get("markets") or query.get("market", ""),
            int(query.get("count", 1)),
        )  # one market a request
        listing = self.listing(symbol)
        if listing is None:
            return UNKNOWN_PAIR
        match path:
            case "/v1/ticker":
                rows = [_ticker(listing, time, is_rest=True)]
            case "/v1/orderbook":
                rows = [_book(listing, REST_BOOK_LEVELS, stamp=time // 1000)]
            case "/v1/trades/ticks":
                rows = [_trade(REST_TRADE, listing, deal, time) for deal in [*reversed(listing.deals)][:count]]
            case _:
                rows = [_candle(listing, bar, time) for bar in [*reversed(listing.minutes)][:count]]
        return RestAnswer(f"[{','.join(REST.format(code=symbol, row=row) for row in rows)}]")


def _ticker(listing: Listing, time: Microseconds, *, is_rest: bool) -> str:
    deal, last, before = listing.deals[-1], listing.day.close, listing.prev_close
    # The socket writes the date in KST, and REST writes it in UTC. But the time stamps of REST are 9 h ahead.
    shown, ahead = (0, KST) if is_rest else (KST, 0)
    return TICKER.format(
        **figures(listing, listing.day),
        prev=short(listing.price(before)),
        change="EVEN" if last == before else "RISE" if last > before else "FALL",
        by=short(listing.price(last - before)),
        rate=f"{(last - before) / before:.{4 if is_rest else 8}f}",
        size=short(deal.size),
        volume_24h=short(listing.rolling.volume),
        value_24h=short(listing.rolling.value),
        date=_date(deal.time + shown),
        traded=(deal.time + ahead) // 1000,
        side=taker(deal.side, "BID", "ASK"),
        ms=(time + ahead) // 1000,
    )


def _book(listing: Listing, depth: int, *, stamp: int) -> str:
    asks, bids = listing.levels(Side.SELL, depth), listing.levels(Side.BUY, depth)
    units = [
        UNIT.format(short(listing.price(ask)), short(listing.price(bid)), _cut(ask_size), _cut(bid_size))
        for (ask, ask_size), (bid, bid_size) in zip(asks, bids, strict=True)
    ]
    totals = {"asks": sum(size for _, size in asks), "bids": sum(size for _, size in bids)}
    return BOOK.format(**totals, units=",".join(units), stamp=stamp)


def _trade(template: str, listing: Listing, deal: Deal, time: Microseconds) -> str:
    sold = {"price": short(listing.price(deal.ticks)), "size": short(deal.size)}
    sold |= {"side": taker(deal.side, "BID", "ASK"), "prev": short(listing.price(listing.prev_close))}
    dates = {"utc": _date(deal.time), "kst": _date(deal.time + KST)}
    return template.format(**sold, **dates, traded=deal.time // 1000, ms=time // 1000, id=deal.id % 100_000)


def _candle(listing: Listing, bar: Bar, time: Microseconds) -> str:
    return CANDLE.format(utc=_date(bar.start), kst=_date(bar.start + KST), ms=time // 1000, **figures(listing, bar))


def _cut(size: float) -> str:
    """Write a size with the four digits that Bithumb shows. A small size becomes 0.0000."""
    return f"{size:.6f}"[:-2]


def _date(time: Microseconds) -> datetime:
    return datetime.fromtimestamp(time // SECOND, UTC)
