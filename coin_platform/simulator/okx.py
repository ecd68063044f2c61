"""Simulate OKX: one answer an arg. Books are a snapshot, then changes that name the number of the change before."""

import json
from collections.abc import Iterable, Iterator

from coin_platform.exchanges.okx import CHANNEL_NAMES
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.market import Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, prices, quotes, short

# Templates after the recordings in tests/data/okx.
DATA = '{{"arg":{{"channel":"{channel}","instId":"{id}"}},"data":[{row}]}}'
TICKER = (
    '{{"instType":"SPOT","instId":"{id}","last":"{last}","lastSz":"{size}","askPx":"{ask}","askSz":"{ask_size}",'
    '"bidPx":"{bid}","bidSz":"{bid_size}","open24h":"{open}","high24h":"{high}","low24h":"{low}","sodUtc0":"{day}",'
    '"sodUtc8":"{day}","volCcy24h":"{value}","vol24h":"{volume}","ts":"{ms}"}}'
)
BOOK = (
    '{{"arg":{{"channel":"books","instId":"{id}"}},"action":"{action}","data":[{{"asks":{asks},"bids":{bids},'
    '"ts":"{ms}","checksum":0,"seqId":{sequence},"prevSeqId":{previous}}}]}}'
)
REST_BOOK = '{{"asks":{asks},"bids":{bids},"ts":"{ms}","seqId":{sequence}}}'
TRADE = '{{"instId":"{id}","tradeId":"{trade}","px":"{price}","sz":"{size}","side":"{side}","ts":"{ms}","source":"0"}}'
ACK = '{{"event":"{event}","arg":{{"channel":"{channel}","instId":"{id}"}},"connId":"a4d3ae55"}}'
ERROR = (
    '{{"event":"error","msg":"Wrong URL or channel:{channel},instId:{id} doesn\'t exist. Please use the correct URL, '
    'channel and parameters referring to API document.","code":"60018","connId":"a4d3ae55"}}'
)
NOTICE = control(
    '{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please '
    'reconnect.","connId":"a4d3ae55"}'
)
UNKNOWN_PAIR = '{"code":"51001","data":[],"msg":"Instrument ID, Instrument ID code, or Spread ID doesn\'t exist."}'
KEEP_ALIVE_STEPS = 600  # between two empty changes of a book: a minute at 10 steps a second


class Okx(Venue):
    """One connection to OKX."""

    name = "okx"

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        if text == "ping":
            yield control("pong")
            return
        message = json.loads(text)
        for arg in message["args"]:
            listing, names = self.listing(arg["instId"]), {"channel": arg["channel"], "id": arg["instId"]}
            channel = next((channel for channel, name in CHANNEL_NAMES.items() if name == arg["channel"]), None)
            is_business = channel in (Channel.TRADE, Channel.CANDLE)
            if listing is None or channel is None or is_business is not self.path.endswith("/business"):
                yield control(ERROR.format(**names))
                continue
            yield control(ACK.format(event=message["op"], **names))
            if message["op"] == "subscribe":
                yield from self.subscribe(channel, listing, time)
            else:
                self.unsubscribe(channel, listing)

    def idle(self, time: Microseconds) -> Iterator[Message]:
        for channel, pair in self.subscriptions if self.steps % KEEP_ALIVE_STEPS == 0 else ():
            listing = self._listings[self.exchange.symbol(pair)]
            if channel is Channel.ORDERBOOK:  # before the changes of this step
                last = {"sequence": listing.previous, "previous": listing.previous}
                yield Message(self._book(BOOK, listing, [], time, action="update", **last))

    def notice(self, time: Microseconds) -> Iterator[Message]:
        yield NOTICE

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        if channel is Channel.ORDERBOOK:
            changes = _whole(listing) if is_first else listing.changes
            action, previous = ("snapshot", -1) if is_first else ("update", listing.previous)
            link = {"action": action, "sequence": listing.sequence, "previous": previous}
            yield Message(self._book(BOOK, listing, changes, time, **link))
            return
        rows = [self._ticker(listing, time)] if channel is Channel.TICKER else []
        if channel is Channel.TRADE and not is_first:
            rows = [self._trade(listing, listing.deals[-1])]
        if channel is Channel.CANDLE:
            rows = [self._candle(listing, bar) for bar in (listing.closed, listing.minutes[-1]) if bar is not None]
        for row in rows:
            yield Message(DATA.format(channel=CHANNEL_NAMES[channel], id=self.exchange.symbol(listing.pair), row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/api/v5/public/instruments":
            return _answer([compact({"instId": symbol, "state": "live"}) for symbol in self.listings()])
        listing = self.listing(query.get("instId", ""))
        if listing is None:
            return RestAnswer(UNKNOWN_PAIR)
        count = int(query.get("limit", 100))
        match path:
            case "/api/v5/market/ticker":
                return _answer([self._ticker(listing, time)])
            case "/api/v5/market/books":
                return _answer([self._book(REST_BOOK, listing, _whole(listing), time, sequence=listing.sequence)])
            case "/api/v5/market/trades":
                return _answer([self._trade(listing, deal) for deal in [*reversed(listing.deals)][:count]])
        return _answer([self._candle(listing, bar) for bar in [*reversed(listing.minutes)][:count]])

    def _ticker(self, listing: Listing, time: Microseconds) -> str:
        sums = {"value": listing.rolling.value, "volume": listing.rolling.volume, "size": listing.deals[-1].size}
        texts = {**prices(listing, listing.rolling), **quotes(listing), "day": listing.price(listing.day.open), **sums}
        fields = {name: short(value) for name, value in texts.items()}
        return TICKER.format(id=self.exchange.symbol(listing.pair), ms=time // 1000, **fields)

    def _book(
        self,
        template: str,
        listing: Listing,
        changes: Iterable[tuple[Side, int, float]],
        time: Microseconds,
        **link: object,
    ) -> str:
        sides: dict[Side, list[list[str]]] = {Side.BUY: [], Side.SELL: []}
        for side, ticks, size in changes:
            sides[side].append([short(listing.price(ticks)), short(size), "0", "1" if size else "0"])
        texts = {"asks": compact(sides[Side.SELL]), "bids": compact(sides[Side.BUY])}
        return template.format(id=self.exchange.symbol(listing.pair), ms=time // 1000, **texts, **link)

    def _trade(self, listing: Listing, deal: Deal) -> str:
        texts = {"price": short(listing.price(deal.ticks)), "size": short(deal.size), "side": deal.side}
        return TRADE.format(id=self.exchange.symbol(listing.pair), trade=deal.id, ms=deal.time // 1000, **texts)

    def _candle(self, listing: Listing, bar: Bar) -> str:
        texts = [short(text) for text in prices(listing, bar).values()]
        sums = [short(bar.volume), short(bar.value), short(bar.value)]
        is_closed = bar is not listing.minutes[-1]
        return compact([str(bar.start // 1000), *texts, *sums, "1" if is_closed else "0"])


def _whole(listing: Listing) -> list[tuple[Side, int, float]]:
    return [(side, *level) for side in (Side.SELL, Side.BUY) for level in listing.levels(side)]


def _answer(rows: list[str]) -> RestAnswer:
    return RestAnswer(f'{{"code":"0","msg":"","data":[{",".join(rows)}]}}')
