"""OKX's side: one acknowledgement an arg, a snapshot, then changes that name their predecessor."""

import json
from collections.abc import Iterator

from coin_platform.exchanges.okx import CHANNELS
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.base import Out, Venue
from coin_platform.simulator.market import Listing

# After tests/data/okx/ticker.jsonl, book_sequence_4.jsonl, control.jsonl and error.jsonl.
TICKER = (
    '{{"arg":{{"channel":"tickers","instId":"{id}"}},"data":[{{"instType":"SPOT","instId":"{id}","last":"{last}",'
    '"lastSz":"{size}","askPx":"{ask}","askSz":"{ask_size}","bidPx":"{bid}","bidSz":"{bid_size}","open24h":"{open}",'
    '"high24h":"{high}","low24h":"{low}","sodUtc0":"{open}","sodUtc8":"{open}","volCcy24h":"{value:.6f}",'
    '"vol24h":"{volume}","ts":"{ms}"}}]}}'
)
BOOK = (
    '{{"arg":{{"channel":"books","instId":"{id}"}},"action":"{action}","data":[{{"asks":{asks},"bids":{bids},'
    '"ts":"{ms}","checksum":0,"seqId":{sequence},"prevSeqId":{previous}}}]}}'
)
ACK = '{{"event":"{event}","arg":{{"channel":"{channel}","instId":"{id}"}},"connId":"a4d3ae55"}}'
ERROR = (
    '{{"event":"error","msg":"Wrong URL or channel:{channel},instId:{id} doesn\'t exist. Please use the correct URL, '
    'channel and parameters referring to API document.","code":"60018","connId":"a4d3ae55"}}'
)


class Okx(Venue):
    """One connection to OKX."""

    name = "okx"

    def received(self, text: str, time: Microseconds) -> Iterator[Out]:
        if text == "ping":
            yield Out("pong", is_data=False)
            return
        message = json.loads(text)
        for arg in message["args"]:
            listing, channel, event = self.listing(arg["instId"]), CHANNELS.get(arg["channel"]), message["op"]
            names = {"channel": arg["channel"], "id": arg["instId"]}
            if listing is None or channel is None:
                yield Out(ERROR.format(**names), is_data=False)
                continue
            yield Out(ACK.format(event=event, **names), is_data=False)
            if event == "subscribe":
                yield from self.subscribe(channel, listing, time)
            else:
                self.subscriptions.pop((channel, listing.pair), None)

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Out]:
        symbol, price = self.exchange.symbol(listing.pair), listing.price
        if channel is Channel.ORDERBOOK:
            changes = [(Side.BUY, *level) for level in listing.levels(Side.BUY)]
            changes += [(Side.SELL, *level) for level in listing.levels(Side.SELL)]
            sides: dict[Side, list[list[str]]] = {Side.BUY: [], Side.SELL: []}
            for side, ticks, size in changes if is_first else listing.changes:
                sides[side].append([price(ticks), f"{size:.6f}".rstrip("0").rstrip("."), "0", "1" if size else "0"])
            yield Out(
                BOOK.format(
                    id=symbol,
                    action="snapshot" if is_first else "update",
                    ms=time // 1000,
                    asks=_json(sides[Side.SELL]),
                    bids=_json(sides[Side.BUY]),
                    sequence=listing.sequence,
                    previous=-1 if is_first else listing.sequence - 1,
                )
            )
        elif channel is Channel.TICKER:
            bid, ask = listing.best()
            prices = {name: price(getattr(listing, name)) for name in ("open", "high", "low", "last")}
            sizes = {"bid_size": listing.bids[bid], "ask_size": listing.asks[ask], "size": f"{listing.last_size:.6f}"}
            value = listing.volume * listing.number(listing.last)
            rest = {"volume": listing.volume, "value": value, "ms": time // 1000}
            yield Out(TICKER.format(id=symbol, bid=price(bid), ask=price(ask), **prices, **sizes, **rest))


def _json(levels: list[list[str]]) -> str:
    return json.dumps(levels, separators=(",", ":"))
