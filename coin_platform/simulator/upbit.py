"""Upbit's side: whole books in binary frames, no acknowledgements, unknown codes are ignored without a word."""

import json
from collections.abc import Iterator

from coin_platform.exchanges.upbit import TYPES
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.base import Out, Venue
from coin_platform.simulator.market import Listing

# After tests/data/upbit/ticker.jsonl and orderbook.jsonl.
TICKER = (
    '{{"type":"ticker","code":"{code}","opening_price":{open},"high_price":{high},"low_price":{low},'
    '"trade_price":{last},"prev_closing_price":{open},"change":"RISE","signed_change_price":{change},'
    '"signed_change_rate":{rate:.10f},"ask_bid":"{side}","trade_volume":{size:.8f},'
    '"acc_trade_volume_24h":{volume:.8f},"acc_trade_price_24h":{value:.4f},"trade_timestamp":{ms},"timestamp":{ms},'
    '"stream_type":"{stream}"}}'
)
BOOK = (
    '{{"type":"orderbook","code":"{code}","timestamp":{ms},"total_ask_size":{asks:.8f},"total_bid_size":{bids:.8f},'
    '"orderbook_units":[{units}],"stream_type":"{stream}","level":0}}'
)
UNIT = '{{"ask_price":{0},"bid_price":{1},"ask_size":{2:.8f},"bid_size":{3:.8f}}}'


class Upbit(Venue):
    """One connection to Upbit."""

    name = "upbit"
    is_binary = True

    def received(self, text: str, time: Microseconds) -> Iterator[Out]:
        if text == "PING":
            yield Out('{"status":"UP"}', is_data=False)
            return
        channels = {name: channel for channel, name in TYPES.items()}
        self.subscriptions.clear()  # a request replaces the one before
        for part in json.loads(text):
            for code in part.get("codes", []):
                listing = self.listing(code)
                if listing is not None:
                    yield from self.subscribe(channels[part["type"]], listing, time)

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Out]:
        code, stream, price = self.exchange.symbol(listing.pair), "SNAPSHOT" if is_first else "REALTIME", listing.price
        if channel is Channel.ORDERBOOK:
            bids, asks = listing.levels(Side.BUY), listing.levels(Side.SELL)
            units = ",".join(
                UNIT.format(price(ask), price(bid), ask_size, bid_size)
                for (ask, ask_size), (bid, bid_size) in zip(asks, bids, strict=True)
            )
            totals = {"asks": sum(listing.asks.values()), "bids": sum(listing.bids.values())}
            yield Out(BOOK.format(code=code, ms=time // 1000, units=units, stream=stream, **totals))
        elif channel is Channel.TICKER:
            opened, last = listing.number(listing.open), listing.number(listing.last)
            prices = {name: price(getattr(listing, name)) for name in ("open", "high", "low", "last")}
            change = price(listing.last - listing.open)
            yield Out(
                TICKER.format(
                    **prices,
                    code=code,
                    change=change,
                    rate=(last - opened) / opened,
                    size=listing.last_size,
                    volume=listing.volume,
                    value=listing.volume * last,
                    ms=time // 1000,
                    stream=stream,
                    side="BID" if listing.last_side is Side.BUY else "ASK",
                )
            )
