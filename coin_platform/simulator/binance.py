"""Simulate Binance: every stream is acknowledged, even if it does not exist. Whole books come over REST only."""

import json
from collections.abc import Iterator

from coin_platform.exchanges.binance import STREAM_NAMES
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.market import DAY, MINUTE, Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, prices, quotes, taker

# Templates after the recordings in tests/data/binance.
DATA = '{{"stream":"{stream}","data":{row}}}'
TICKER = (
    '{{"e":"24hrTicker","E":{ms},"s":"{symbol}","p":"{change}","P":"{percent:.3f}","w":"{average}","x":"{open}",'
    '"c":"{last}","Q":"{size:.8f}","b":"{bid}","B":"{bid_size:.8f}","a":"{ask}","A":"{ask_size:.8f}","o":"{open}",'
    '"h":"{high}","l":"{low}","v":"{volume:.8f}","q":"{value:.8f}","O":{since},"C":{ms},"F":1,"L":{id},"n":{id}}}'
)
REST_TICKER = (
    '{{"symbol":"{symbol}","priceChange":"{change}","priceChangePercent":"{percent:.3f}","weightedAvgPrice":"{average}",'
    '"prevClosePrice":"{open}","lastPrice":"{last}","lastQty":"{size:.8f}","bidPrice":"{bid}","bidQty":"{bid_size:.8f}",'
    '"askPrice":"{ask}","askQty":"{ask_size:.8f}","openPrice":"{open}","highPrice":"{high}","lowPrice":"{low}",'
    '"volume":"{volume:.8f}","quoteVolume":"{value:.8f}","openTime":{since},"closeTime":{ms},"firstId":1,"lastId":{id},'
    '"count":{id}}}'
)
BOOK = '{{"e":"depthUpdate","E":{ms},"s":"{symbol}","U":{first},"u":{last},"b":{bids},"a":{asks}}}'
REST_BOOK = '{{"lastUpdateId":{last},"bids":{bids},"asks":{asks}}}'
TRADE = (
    '{{"e":"trade","E":{ms},"s":"{symbol}","t":{id},"p":"{price}","q":"{size:.8f}","T":{traded},"m":{maker},"M":true}}'
)
REST_TRADE = (
    '{{"id":{id},"price":"{price}","qty":"{size:.8f}","quoteQty":"{value:.8f}","time":{traded},"isBuyerMaker":{maker},'
    '"isBestMatch":true}}'
)
CANDLE = (
    '{{"e":"kline","E":{ms},"s":"{symbol}","k":{{"t":{begin},"T":{end},"s":"{symbol}","i":"1m","f":{id},"L":{id},'
    '"o":"{open}","c":"{last}","h":"{high}","l":"{low}","v":"{volume:.8f}","n":1,"x":{closed},"q":"{value:.8f}",'
    '"V":"0.00000000","Q":"0.00000000","B":"0"}}}}'
)
REST_CANDLE = (
    '[{begin},"{open}","{high}","{low}","{last}","{volume:.8f}",{end},"{value:.8f}",1,"0.00000000","0.00000000","0"]'
)
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
UNKNOWN_PAIR = RestAnswer('{"code":-1121,"msg":"Invalid symbol."}', 400)
CHANNELS = {name: channel for channel, name in STREAM_NAMES.items()}


class Binance(Venue):
    """One connection to Binance."""

    name = "binance"

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        method, answer = message["method"], {"id": message.get("id")}
        if method not in METHODS:
            names = ", ".join(f"`{name}`" for name in METHODS)
            error = f"Invalid request: unknown variant `{method}`, expected one of {names}"
            yield control(compact({"error": {"code": 2, "msg": error}, **answer}))
            return
        yield control(compact({"result": None, **answer}))
        for stream in message["params"]:
            symbol, _, stream_name = stream.partition("@")
            listing, channel = self.listing(symbol.upper()), CHANNELS.get(stream_name)
            if listing is None or channel is None or stream != stream.lower():
                continue  # the stream is acknowledged, but it never sends anything
            if method == "SUBSCRIBE":
                yield from self.subscribe(channel, listing, time)
            elif method == "UNSUBSCRIBE":
                self.unsubscribe(channel, listing)

    def notice(self, time: Microseconds) -> Iterator[Message]:
        yield control(DATA.format(stream="!serverShutdown", row=compact({"e": "serverShutdown", "E": time // 1000})))

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        if is_first:
            return  # a subscription begins with the next change
        match channel:
            case Channel.TICKER:
                rows = [_ticker(TICKER, listing, self._head(listing, time))]
            case Channel.ORDERBOOK:
                span = {"first": listing.previous + 1, "last": listing.sequence}
                rows = [BOOK.format(**span, **_sides(listing, listing.changes), **self._head(listing, time))]
            case Channel.TRADE:
                rows = [_trade(TRADE, listing, listing.deals[-1], self._head(listing, time))]
            case Channel.CANDLE:
                bars = filter(None, (listing.closed, listing.minutes[-1]))
                rows = [_candle(CANDLE, listing, bar, self._head(listing, time)) for bar in bars]
        stream = f"{self.exchange.symbol(listing.pair).lower()}@{STREAM_NAMES[channel]}"
        for row in rows:
            yield Message(DATA.format(stream=stream, row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/api/v3/exchangeInfo":
            rows = [_market(symbol, listing) for symbol, listing in self.listings().items()]
            return RestAnswer(compact({"timezone": "UTC", "serverTime": time // 1000, "symbols": rows}))
        listing = self.listing(query.get("symbol", ""))
        if listing is None:
            return UNKNOWN_PAIR
        count, head = int(query.get("limit", 500)), self._head(listing, time)
        match path:
            case "/api/v3/ticker/24hr":
                return RestAnswer(_ticker(REST_TICKER, listing, head))
            case "/api/v3/depth":
                levels = [(side, *level) for side in Side for level in listing.levels(side, count)]
                return RestAnswer(REST_BOOK.format(last=_number(listing, time), **_sides(listing, levels)))
            case "/api/v3/trades":
                texts = [_trade(REST_TRADE, listing, deal, head) for deal in [*listing.deals][-count:]]
            case _:
                texts = [_candle(REST_CANDLE, listing, bar, head) for bar in [*listing.minutes][-count:]]
        return RestAnswer(f"[{','.join(texts)}]")

    def _head(self, listing: Listing, time: Microseconds) -> dict[str, object]:
        return {"symbol": self.exchange.symbol(listing.pair), "ms": time // 1000, "id": listing.deals[-1].id}


def _ticker(template: str, listing: Listing, head: dict[str, object]) -> str:
    bar, best, deal = listing.rolling, quotes(listing), listing.deals[-1]
    moved = {"change": f"{listing.number(bar.close - bar.open):.8f}", "percent": 100 * bar.close / bar.open - 100}
    sums = {"volume": bar.volume, "value": bar.value, "average": f"{bar.value / bar.volume:.8f}"}
    best |= {side: f"{float(best[side]):.8f}" for side in ("bid", "ask")}
    since = (deal.time - DAY) // 1000
    return template.format(**head, **_prices(listing, bar), **best, **moved, **sums, size=deal.size, since=since)


def _trade(template: str, listing: Listing, deal: Deal, head: dict[str, object]) -> str:
    price = listing.number(deal.ticks)
    sold = {"price": f"{price:.8f}", "size": deal.size, "value": price * deal.size, "traded": deal.time // 1000}
    return template.format(**head | {"id": deal.id}, **sold, maker=taker(deal.side, "false", "true"))


def _candle(template: str, listing: Listing, bar: Bar, head: dict[str, object]) -> str:
    times = {"begin": bar.start // 1000, "end": (bar.start + MINUTE) // 1000 - 1}
    sums = {"volume": bar.volume, "value": bar.value, "closed": "true" if bar is listing.closed else "false"}
    return template.format(**head, **_prices(listing, bar), **times, **sums)


def _market(symbol: str, listing: Listing) -> dict[str, object]:
    names = {"symbol": symbol, "baseAsset": listing.pair.base, "quoteAsset": listing.pair.quote}
    return {**names, "status": "TRADING", "isSpotTradingAllowed": True}


def _prices(listing: Listing, bar: Bar) -> dict[str, str]:
    return {name: f"{float(text):.8f}" for name, text in prices(listing, bar).items()}


def _sides(listing: Listing, levels: list[tuple[Side, int, float]]) -> dict[str, str]:
    """Write levels with eight decimal places, best first."""
    names = {"bids": Side.BUY, "asks": Side.SELL}
    texts = {
        name: [
            [f"{listing.number(ticks):.8f}", f"{size:.8f}"] for level_side, ticks, size in levels if level_side is side
        ]
        for name, side in names.items()
    }
    return {name: compact(rows) for name, rows in texts.items()}


def _number(listing: Listing, time: Microseconds) -> int:
    """Return a number for a whole book: before, within or after the newest change.

    A change sets sizes, so the book stays right if the change comes again.
    """
    return listing.previous + time // 1000 % (listing.sequence - listing.previous + 1)
