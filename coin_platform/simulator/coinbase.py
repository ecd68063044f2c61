"""Simulate Coinbase: each answer lists all subscriptions, heartbeats come every second, books have no numbers."""

import json
from collections.abc import Iterator

from coin_platform.exchanges.coinbase import CHANNEL_NAMES
from coin_platform.model import SECOND, Channel, Microseconds, Pair, Side
from coin_platform.simulator.market import Deal, Listing, Market
from coin_platform.simulator.venue import (
    Message,
    RestAnswer,
    Venue,
    compact,
    control,
    prices,
    quotes,
    rfc3339,
    short,
    taker,
)

# Templates after the recordings in tests/data/coinbase.
TICKER = (
    '{{"type":"ticker","sequence":{sequence},"product_id":"{id}","price":"{last}","open_24h":"{open}",'
    '"volume_24h":"{volume:.8f}","low_24h":"{low}","high_24h":"{high}","volume_30d":"{month:.8f}","best_bid":"{bid}",'
    '"best_bid_size":"{bid_size:.8f}","best_ask":"{ask}","best_ask_size":"{ask_size:.8f}","side":"{side}",'
    '"time":"{time}","trade_id":{trade},"last_size":"{size}"}}'
)
REST_TICKER = (
    '{{"ask":"{ask}","bid":"{bid}","volume":"{volume:.8f}","trade_id":{trade},"price":"{last}","size":"{size}",'
    '"time":"{time}","rfq_volume":"0.000000"}}'
)
BOOK = '{{"type":"snapshot","product_id":"{id}","asks":{asks},"bids":{bids}}}'
REST_BOOK = '{{"bids":{bids},"asks":{asks},"sequence":{sequence},"auction_mode":false,"auction":null,"time":"{time}"}}'
CHANGES = '{{"type":"l2update","product_id":"{id}","changes":{changes},"time":"{time}"}}'
TRADE = (
    '{{"type":"{type}","trade_id":{trade},"maker_order_id":"27fff20b-af29-4f45-8744-56dd1ef57dc0","taker_order_id":'
    '"1da6ce16-c8da-4732-9f71-6049f4c6aaf8","side":"{side}","size":"{size:.8f}","price":"{price}","product_id":"{id}",'
    '"sequence":{trade},"time":"{time}"}}'
)
REST_TRADE = '{{"trade_id":{trade},"side":"{side}","size":"{size:.8f}","price":"{price}","time":"{time}"}}'
HEARTBEAT = '{{"type":"heartbeat","last_trade_id":{trade},"product_id":"{id}","sequence":{sequence},"time":"{time}"}}'
REFUSED = '{{"type":"error","message":"Failed to subscribe","reason":"{id} is not a valid product"}}'
UNKNOWN_PAIR = RestAnswer('{"message":"NotFound"}', 404)
SIDES = {"asks": Side.SELL, "bids": Side.BUY}
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}
ANSWER_CHANNEL_NAMES = CHANNEL_NAMES | {Channel.ORDERBOOK: "level2_50"}  # the names of channels in answers


class Coinbase(Venue):
    """One connection to Coinbase."""

    name = "coinbase"

    def __init__(self, market: Market, path: str = "") -> None:
        super().__init__(market, path)
        self._beating: dict[Pair, None] = {}  # the pairs of the channel `heartbeat`

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        is_new = message["type"] == "subscribe"
        listings = {product: self.listing(product) for product in message["product_ids"]}
        wrong = [product for product, listing in listings.items() if listing is None]
        if is_new and wrong:
            yield control(REFUSED.format(id=wrong[0]))
            return  # Coinbase refuses the whole request
        first_messages: list[Message] = []
        for listing in filter(None, listings.values()):
            for name in message["channels"]:
                first_messages += self._change(name, listing, time, is_new=is_new)
        yield control(self._subscriptions())
        yield from first_messages

    def _change(self, name: str, listing: Listing, time: Microseconds, *, is_new: bool) -> Iterator[Message]:
        if name == "heartbeat":
            self._beating.pop(listing.pair, None)
            if is_new:
                self._beating[listing.pair] = None
        elif is_new:
            yield from self.subscribe(CHANNELS[name], listing, time)
        else:
            self.unsubscribe(CHANNELS[name], listing)

    def _subscriptions(self) -> str:
        products: dict[str, list[str]] = {}
        for channel, pair in self.subscriptions:
            products.setdefault(ANSWER_CHANNEL_NAMES[channel], []).append(self.exchange.symbol(pair))
        if self._beating:
            products["heartbeat"] = [self.exchange.symbol(pair) for pair in self._beating]
        channels = [{"name": name, "product_ids": ids} for name, ids in products.items()]
        return compact({"type": "subscriptions", "channels": channels})

    def idle(self, time: Microseconds) -> Iterator[Message]:
        for pair in self._beating:
            symbol = self.exchange.symbol(pair)
            yield control(HEARTBEAT.format(**_head(symbol, self._listings[symbol]), time=rfc3339(time)))

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        head, deal = _head(self.exchange.symbol(listing.pair), listing), listing.deals[-1]
        match channel:
            case Channel.TICKER:
                yield Message(_ticker(TICKER, listing, head))
            case Channel.TRADE:
                yield Message(_trade(TRADE, listing, deal, head | {"type": "last_match" if is_first else "match"}))
            case _ if is_first:
                sides = {name: compact(_levels(listing, side)) for name, side in SIDES.items()}
                yield Message(BOOK.format(**head, **sides))
            case _:
                changes = [[side, listing.price(ticks), f"{size:.8f}"] for side, ticks, size in listing.changes]
                yield Message(CHANGES.format(**head, changes=compact(changes), time=rfc3339(time)))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/products":
            rows = [{"id": symbol, "status": "online", "trading_disabled": False} for symbol in self.listings()]
            return RestAnswer(compact(rows))
        _, _, symbol, call = path.split("/")
        listing = self.listing(symbol)
        if listing is None:
            return UNKNOWN_PAIR
        head = _head(symbol, listing)
        match call:
            case "ticker":
                return RestAnswer(_ticker(REST_TICKER, listing, head))
            case "book":
                sides = {name: compact([[*row, 1] for row in _levels(listing, side)]) for name, side in SIDES.items()}
                return RestAnswer(REST_BOOK.format(**head, **sides, time=rfc3339(time)))
            case "trades":
                texts = [_trade(REST_TRADE, listing, deal, head) for deal in reversed(listing.deals)]
                return RestAnswer(f"[{','.join(texts)}]")
        number = listing.number
        bars = [
            [bar.start // SECOND, *map(number, (bar.low, bar.high, bar.open, bar.close)), bar.volume]
            for bar in reversed(listing.minutes)
        ]
        return RestAnswer(compact(bars))


def _head(symbol: str, listing: Listing) -> dict[str, object]:
    return {"id": symbol, "sequence": listing.sequence, "trade": listing.deals[-1].id}


def _ticker(template: str, listing: Listing, head: dict[str, object]) -> str:
    bar, deal = listing.rolling, listing.deals[-1]
    sums = {"volume": bar.volume, "month": 30 * bar.volume, "size": short(deal.size), "side": deal.side}
    return template.format(**head, **prices(listing, bar), **quotes(listing), **sums, time=rfc3339(deal.time))


def _trade(template: str, listing: Listing, deal: Deal, head: dict[str, object]) -> str:
    sold = {"trade": deal.id, "price": listing.price(deal.ticks), "size": deal.size}
    maker = taker(deal.side, "sell", "buy")
    return template.format(**head | sold, side=maker, time=rfc3339(deal.time))


def _levels(listing: Listing, side: Side) -> list[list[str | int]]:
    return [[listing.price(ticks), f"{size:.8f}"] for ticks, size in listing.levels(side)]
