"""Simulate Upbit: whole books in binary frames. Requests are not acknowledged, and unknown codes are ignored."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from coin_platform.exchanges.upbit import CHANNEL_NAMES
from coin_platform.model import SECOND, Channel, Microseconds, Side
from coin_platform.simulator.market import CACHED_TEXTS, Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, prices, taker

# Templates after the recordings in tests/data/upbit. REST names the code `market`.
TICKER = (
    '{{"type":"ticker","{key}":"{code}","opening_price":{open},"high_price":{high},"low_price":{low},'
    '"trade_price":{last},"prev_closing_price":{prev},"change":"{change}","signed_change_price":{by},'
    '"signed_change_rate":{rate:.10f},"ask_bid":"{side}","trade_volume":{size:.8f},"acc_trade_volume":{day:.8f},'
    '"trade_timestamp":{traded},"market_state":"ACTIVE","is_trading_suspended":false,"timestamp":{ms},'
    '"acc_trade_price_24h":{value:.8f},"acc_trade_volume_24h":{volume:.8f},"stream_type":"{stream}"}}'
)
BOOK = (
    '{{"type":"orderbook","{key}":"{code}","timestamp":{ms},"total_ask_size":{asks:.8f},"total_bid_size":{bids:.8f},'
    '"orderbook_units":[{units}],"stream_type":"{stream}","level":0}}'
)
UNIT = '{{"ask_price":{0},"bid_price":{1},"ask_size":{2:.8f},"bid_size":{3:.8f}}}'
TRADE = (
    '{{"type":"trade","{key}":"{code}","timestamp":{ms},"trade_timestamp":{traded},"trade_price":{price},'
    '"trade_volume":{size:.8f},"ask_bid":"{side}","prev_closing_price":{prev},"sequential_id":{id},'
    '"stream_type":"{stream}"}}'
)
CANDLE = (
    '{{"type":"candle.1m","{key}":"{code}","candle_date_time_utc":"{utc}","opening_price":{open},"high_price":{high},'
    '"low_price":{low},"trade_price":{last},"candle_acc_trade_volume":{volume:.8f},'
    '"candle_acc_trade_price":{value:.8f},"timestamp":{ms},"stream_type":"{stream}"}}'
)
UP = control('{"status":"UP"}')
UNKNOWN_PAIR = RestAnswer('{"error":{"name":404,"message":"Code not found"}}', 404)
BOOK_LEVELS = 30


class Upbit(Venue):
    """One connection to Upbit."""

    name = "upbit"
    is_binary = True

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        if text == "PING":
            yield UP
            return
        channels = {name: channel for channel, name in CHANNEL_NAMES.items()}
        self.subscriptions.clear()  # a request replaces the request before
        for part in json.loads(text):
            for listing in map(self.listing, dict.fromkeys(part.get("codes", []))):
                if listing is not None:
                    yield from self.subscribe(channels[part["type"]], listing, time)

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        head = {"key": "code", "stream": "SNAPSHOT" if is_first else "REALTIME", "ms": time // 1000}
        if channel is Channel.CANDLE:
            for bar in (listing.closed, listing.minutes[-1]):
                if bar is not None:
                    yield Message(self._candle(listing, bar, **head))
        elif channel is Channel.TRADE:
            yield Message(self._trade(listing, listing.deals[-1], **head))
        else:
            yield Message((self._ticker if channel is Channel.TICKER else self._book)(listing, **head))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/v1/market/all":
            return RestAnswer(compact([{"market": symbol} for symbol in self.listings()]))
        named = [self.listing(code) for code in (query.get("markets") or query.get("market", "")).split(",")]
        listings = [listing for listing in named if listing is not None]
        if len(listings) < len(named):
            return UNKNOWN_PAIR  # one unknown market fails the whole call
        head, count = {"key": "market", "stream": "SNAPSHOT", "ms": time // 1000}, int(query.get("count", 1))
        match path:
            case "/v1/ticker":
                rows = [self._ticker(listing, **head) for listing in listings]
            case "/v1/orderbook":
                rows = [self._book(listing, **head) for listing in listings]
            case "/v1/trades/ticks":
                deals = [*reversed(listings[0].deals)][:count]
                rows = [self._trade(listings[0], deal, **head | {"ms": deal.time // 1000}) for deal in deals]
            case _:
                rows = [self._candle(listings[0], bar, **head) for bar in [*reversed(listings[0].minutes)][:count]]
        return RestAnswer(f"[{','.join(rows)}]")

    def _ticker(self, listing: Listing, **head: object) -> str:
        deal, last, before = listing.deals[-1], listing.day.close, listing.prev_close
        fixed = {name: f"{float(text):.8f}" for name, text in prices(listing, listing.day).items()}
        return TICKER.format(
            code=self.exchange.symbol(listing.pair),
            prev=f"{listing.number(before):.8f}",
            change="EVEN" if last == before else "RISE" if last > before else "FALL",
            by=f"{listing.number(last - before):.8f}",
            rate=(last - before) / before,
            side=taker(deal.side, "BID", "ASK"),
            size=deal.size,
            traded=deal.time // 1000,
            day=listing.day.volume,
            volume=listing.rolling.volume,
            value=listing.rolling.value,
            **fixed,
            **head,
        )

    def _book(self, listing: Listing, **head: object) -> str:
        asks, bids = listing.levels(Side.SELL, BOOK_LEVELS), listing.levels(Side.BUY, BOOK_LEVELS)
        units = [
            UNIT.format(_java(listing.price(ask)), _java(listing.price(bid)), ask_size, bid_size)
            for (ask, ask_size), (bid, bid_size) in zip(asks, bids, strict=True)
        ]
        totals = {"asks": sum(size for _, size in asks), "bids": sum(size for _, size in bids)}
        return BOOK.format(code=self.exchange.symbol(listing.pair), units=",".join(units), **totals, **head)

    def _trade(self, listing: Listing, deal: Deal, **head: object) -> str:
        return TRADE.format(
            code=self.exchange.symbol(listing.pair),
            traded=deal.time // 1000,
            price=_java(listing.price(deal.ticks)),
            size=deal.size,
            side=taker(deal.side, "BID", "ASK"),
            prev=_java(listing.price(listing.prev_close)),
            id=deal.time // 1000 * 10_000,  # 17853950437790001, beyond 2**53
            **head,
        )

    def _candle(self, listing: Listing, bar: Bar, **head: object) -> str:
        utc = datetime.fromtimestamp(bar.start // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        sums = {"volume": bar.volume, "value": bar.value}
        return CANDLE.format(code=self.exchange.symbol(listing.pair), utc=utc, **prices(listing, bar), **sums, **head)


@lru_cache(CACHED_TEXTS)
def _java(text: str) -> str:
    """Write a number as Java writes doubles: 116539000 as 1.16539E8, and so from ten million on."""
    number = Decimal(text)
    exponent = number.adjusted()
    return f"{number.normalize().scaleb(-exponent):f}E{exponent}" if exponent >= 7 else f"{number.normalize():f}"
