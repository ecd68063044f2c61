"""Kraken's side: one acknowledgement a symbol, a heartbeat every second, books with a checksum over their own text."""

import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

from coin_platform.exchanges.kraken import NAMES
from coin_platform.model import SECOND, Channel, Microseconds, Side
from coin_platform.simulator.base import Out, Venue
from coin_platform.simulator.market import Listing

# After tests/data/kraken/ticker.jsonl, book_sequence_1.jsonl, control.jsonl and error.jsonl.
STATUS = (
    '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
    '"connection_id":18125794168470749634}]}'
)
TICKER = (
    '{{"channel":"ticker","type":"{type}","data":[{{"symbol":"{symbol}","bid":{bid},"bid_qty":{bid_size:.8f},'
    '"ask":{ask},"ask_qty":{ask_size:.8f},"last":{last},"volume":{volume:.8f},"vwap":{last},"low":{low},"high":{high},'
    '"change":{change},"change_pct":{percent:.2f},"timestamp":"{time}"}}]}}'
)
BOOK = (
    '{{"channel":"book","type":"{type}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
    '"checksum":{checksum},"timestamp":"{time}"}}]}}'
)
LEVEL = '{{"price":{},"qty":{:.8f}}}'


class Kraken(Venue):
    """One connection to Kraken."""

    name = "kraken"

    def received(self, text: str, time: Microseconds) -> Iterator[Out]:
        message = json.loads(text)
        stamps = {"time_in": _time(time), "time_out": _time(time)}
        if message["method"] == "ping":
            yield Out(json.dumps({"method": "pong", **stamps}), is_data=False)
            return
        params, method = message["params"], message["method"]
        channel = next(kind for kind, name in NAMES.items() if name == params["channel"])
        for symbol in params["symbol"]:
            listing = self.listing(symbol)
            answer = {"method": method, "req_id": message.get("req_id"), "symbol": symbol, **stamps}
            if listing is None:
                error = f"Currency pair not supported {symbol}"
                yield Out(json.dumps({"error": error, "success": False, **answer}), is_data=False)
                continue
            result = {**{name: value for name, value in params.items() if name != "symbol"}, "symbol": symbol}
            yield Out(json.dumps({**answer, "result": result, "success": True}), is_data=False)
            if method == "subscribe":
                yield from self.subscribe(channel, listing, time)
            else:
                self.subscriptions.pop((channel, listing.pair), None)

    def idle(self, time: Microseconds) -> Iterator[Out]:
        yield Out(STATUS if self._steps == 10 else '{"channel":"heartbeat"}', is_data=False)

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Out]:
        symbol, price = self.exchange.symbol(listing.pair), listing.price
        names = {"symbol": symbol, "type": "snapshot" if is_first else "update", "time": _time(time)}
        if channel is Channel.ORDERBOOK:
            changes = [(Side.BUY, *level) for level in listing.levels(Side.BUY)]
            changes += [(Side.SELL, *level) for level in listing.levels(Side.SELL)]
            levels: dict[Side, list[str]] = {Side.BUY: [], Side.SELL: []}
            for side, ticks, size in changes if is_first else listing.changes:
                levels[side].append(LEVEL.format(price(ticks), size))
            sides = {"bids": ",".join(levels[Side.BUY]), "asks": ",".join(levels[Side.SELL])}
            yield Out(BOOK.format(checksum=_checksum(listing), **names, **sides))
        elif channel is Channel.TICKER:
            bid, ask = listing.best()
            prices = {name: price(getattr(listing, name)) for name in ("high", "low", "last")}
            sizes = {"bid_size": listing.bids[bid], "ask_size": listing.asks[ask], "volume": listing.volume}
            change, opened = listing.last - listing.open, listing.open
            moved = {"change": price(change), "percent": 100 * change / opened}
            yield Out(TICKER.format(bid=price(bid), ask=price(ask), **names, **prices, **sizes, **moved))


def _checksum(listing: Listing) -> int:
    best = listing.levels(Side.SELL)[:10] + listing.levels(Side.BUY)[:10]
    texts = [(listing.price(ticks), f"{size:.8f}") for ticks, size in best]
    digits = [text.replace(".", "").lstrip("0") for level in texts for text in level]
    return zlib.crc32("".join(digits).encode())


def _time(time: Microseconds) -> str:
    moment = datetime.fromtimestamp(time // SECOND, UTC).replace(microsecond=time % SECOND)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
