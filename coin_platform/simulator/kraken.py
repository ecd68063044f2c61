"""Simulate Kraken: one answer a symbol, a heartbeat every second, and books with a checksum over their text."""

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from coin_platform.exchanges.kraken import CHANNEL_NAMES
from coin_platform.model import SECOND, Channel, Microseconds, Pair, Side
from coin_platform.simulator.market import MINUTE, Bar, Listing, Market
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, prices, quotes, rfc3339

# Templates after the recordings in tests/data/kraken.
STATUS = (
    '{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"{system}","api_version":"v2",'
    '"connection_id":18125794168470749634,"upcoming_maintenance":[],"emergency":[]}}]}}'
)
TICKER = (
    '{{"channel":"ticker","type":"{type}","data":[{{"symbol":"{symbol}","bid":{bid},"bid_qty":{bid_size:.8f},'
    '"ask":{ask},"ask_qty":{ask_size:.8f},"last":{last},"volume":{volume:.8f},"vwap":{vwap},"low":{low},"high":{high},'
    '"change":{change},"change_pct":{percent:.2f},"timestamp":"{time}"}}]}}'
)
BOOK = (
    '{{"channel":"book","type":"{type}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
    '"checksum":{checksum},"timestamp":"{time}"}}]}}'
)
LEVEL = '{{"price":{},"qty":{:.8f}}}'
TRADE = (
    '{{"channel":"trade","type":"{type}","data":[{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{size:.8f},'
    '"ord_type":"limit","trade_id":{id},"timestamp":"{traded}"}}]}}'
)
CANDLE = (
    '{{"channel":"ohlc","type":"{type}","timestamp":"{time}","data":[{{"symbol":"{symbol}","open":{open},"high":{high},'
    '"low":{low},"close":{last},"trades":1,"volume":{volume:.8f},"vwap":{vwap},"interval_begin":"{begin}","interval":1,'
    '"timestamp":"{end}"}}]}}'
)
INSTRUMENT = (
    '{{"symbol":"{symbol}","base":"{base}","quote":"{quote}","status":"online","qty_precision":8,'
    '"qty_increment":0.00000001,"price_precision":1,"cost_precision":5,"marginable":true,"has_index":true,'
    '"cost_min":0.50,"tick_size":{tick},"price_increment":{tick},"qty_min":0.00010000}}'
)
HEARTBEAT = control('{"channel":"heartbeat"}')
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Kraken(Venue):
    """One connection to Kraken."""

    name = "kraken"

    def __init__(self, market: Market, path: str = "") -> None:
        super().__init__(market, path)
        self._listed: list[str] | None = None  # the symbols that the client was told of; None: it has not asked
        self._books: dict[Pair, tuple[int, dict[Side, dict[int, float]]]] = {}  # depth, and the client's sizes

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        stamps = {"time_in": rfc3339(time), "time_out": rfc3339(time + 68)}
        answer = {name: message[name] for name in ("method", "req_id") if name in message}
        if message["method"] == "ping":
            yield control(compact({**answer, "method": "pong", **stamps}))
            return
        params = message["params"]
        if CHANNELS[params["channel"]] is Channel.INSTRUMENT:  # names no symbols: it is about all
            yield from self._list(message, {**answer, "result": params, "success": True, **stamps})
            return
        for symbol in dict.fromkeys(params["symbol"]):
            listing, channel = self.listing(symbol), CHANNELS[params["channel"]]
            if listing is None:
                error = f"Currency pair not supported {symbol}"
                yield control(compact({"error": error, **answer, "success": False, "symbol": symbol, **stamps}))
                continue
            yield control(compact({**answer, "result": {**params, "symbol": symbol}, "success": True, **stamps}))
            if message["method"] == "unsubscribe":
                self.unsubscribe(channel, listing)
                continue
            if channel is Channel.ORDERBOOK:
                self._books[listing.pair] = params.get("depth", 10), {}
            yield from self.subscribe(channel, listing, time)

    def step(self, time: Microseconds) -> Iterator[Message]:
        """Yield also the pairs that are listed now and were not before, or that are not any more."""
        symbols = [*self.listings()]
        if self._listed is not None and symbols != self._listed:
            gone = [symbol for symbol in self._listed if symbol not in symbols]
            rows = [self._instrument(symbol) for symbol in symbols if symbol not in self._listed]
            rows += [self._instrument(symbol).replace('"online"', '"delisted"') for symbol in gone]
            self._listed = symbols
            yield Message(_instruments("update", rows))
        yield from super().step(time)

    def _list(self, message: dict[str, Any], acknowledged: dict[str, Any]) -> Iterator[Message]:
        """Answer a request for the list of markets: it begins with the whole list."""
        if message["method"] == "unsubscribe":
            self._listed = None
            yield control(compact(acknowledged))
            return
        if self._listed is not None:
            refused = {name: value for name, value in acknowledged.items() if name != "result"}
            yield control(compact({"error": "Already subscribed", **refused, "success": False}))
            return
        self._listed = [*self.listings()]
        yield control(compact(acknowledged))
        yield Message(_instruments("snapshot", map(self._instrument, self._listed)))

    def _instrument(self, symbol: str) -> str:
        listing = self._listings[symbol]
        return INSTRUMENT.format(symbol=symbol, base=listing.pair.base, quote=listing.pair.quote, tick=listing.tick)

    def opened(self, time: Microseconds) -> Iterator[Message]:
        yield control(STATUS.format(system="online"))

    def idle(self, time: Microseconds) -> Iterator[Message]:
        yield HEARTBEAT

    def notice(self, time: Microseconds) -> Iterator[Message]:
        yield control(STATUS.format(system="maintenance"))

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        head = {"symbol": self.exchange.symbol(listing.pair), "type": "snapshot" if is_first else "update"}
        head["time"] = rfc3339(time)
        match channel:
            case Channel.TICKER:
                bar = listing.rolling
                moved = {"change": listing.price(bar.close - bar.open), "percent": 100 * bar.close / bar.open - 100}
                sums = {"volume": bar.volume, "vwap": _vwap(listing, bar)}
                yield Message(TICKER.format(**head, **prices(listing, bar), **quotes(listing), **sums, **moved))
            case Channel.ORDERBOOK:
                yield Message(BOOK.format(**head, **self._sides(listing), checksum=_checksum(listing)))
            case Channel.TRADE if not is_first:
                deal = listing.deals[-1]
                sold = {"price": listing.price(deal.ticks), "size": deal.size, "side": deal.side, "id": deal.id}
                yield Message(TRADE.format(**head, **sold, traded=rfc3339(deal.time)))
            case Channel.CANDLE:
                for bar in filter(None, (listing.closed, listing.minutes[-1])):
                    times = {"begin": rfc3339(bar.start).replace("Z", "000Z"), "end": rfc3339(bar.start + MINUTE)}
                    sums = {"volume": bar.volume, "vwap": _vwap(listing, bar)}
                    yield Message(CANDLE.format(**head, **prices(listing, bar), **sums, **times))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/0/public/AssetPairs":
            return _answer({symbol: {"wsname": symbol, "status": "online"} for symbol in self.listings()})
        symbol = query.get("pair", "")
        listing = self.listing(symbol)
        if listing is None:
            return RestAnswer('{"error":["EQuery:Unknown asset pair"]}')
        count, price, seconds = int(query.get("count", 100)), listing.price, time // SECOND
        match path:
            case "/0/public/Ticker":
                return _answer({symbol: _rest_ticker(listing)})
            case "/0/public/Depth":
                sides = {"asks": Side.SELL, "bids": Side.BUY}
                book = {
                    name: [[price(ticks), f"{size:.3f}", seconds] for ticks, size in listing.levels(side, count)]
                    for name, side in sides.items()
                }
                return _answer({symbol: book})
            case "/0/public/Trades":
                trades = [
                    [price(deal.ticks), f"{deal.size:.8f}", deal.time / SECOND, deal.side[0], "l", "", deal.id]
                    for deal in listing.deals
                ]
                return _answer({symbol: trades, "last": str(time * 1000)})
        rows = [
            [bar.start // SECOND, *prices(listing, bar).values(), _vwap(listing, bar), f"{bar.volume:.8f}", 1]
            for bar in listing.minutes
        ]
        return _answer({symbol: rows, "last": seconds})

    def _sides(self, listing: Listing) -> dict[str, str]:
        """Write the changes within the client's depth. A level that leaves the depth is forgotten, but not deleted."""
        depth, held = self._books[listing.pair]
        texts = {}
        for name, side, all_levels in (("bids", Side.BUY, listing.bids), ("asks", Side.SELL, listing.asks)):
            before, now = held.get(side, {}), dict(listing.levels(side, depth))
            changes = [(ticks, 0.0) for ticks in before if ticks not in all_levels]
            changes += [(ticks, size) for ticks, size in now.items() if before.get(ticks) != size]
            texts[name] = ",".join(LEVEL.format(listing.price(ticks), size) for ticks, size in changes)
            held[side] = now
        return texts


def _instruments(type: str, rows: Iterable[str]) -> str:
    return f'{{"channel":"instrument","type":"{type}","data":{{"assets":[],"pairs":[{",".join(rows)}]}}}}'


def _rest_ticker(listing: Listing) -> dict[str, object]:
    best, bar, day = quotes(listing), listing.rolling, listing.day
    return {
        "a": [best["ask"], "1", f"{best['ask_size']:.3f}"],
        "b": [best["bid"], "1", f"{best['bid_size']:.3f}"],
        "c": [listing.price(bar.close), f"{listing.deals[-1].size:.8f}"],
        "v": [f"{day.volume:.8f}", f"{bar.volume:.8f}"],
        "l": [listing.price(day.low), listing.price(bar.low)],
        "h": [listing.price(day.high), listing.price(bar.high)],
        "o": listing.price(day.open),
    }


def _answer(result: dict[str, object]) -> RestAnswer:
    return RestAnswer(compact({"error": [], "result": result}))


def _vwap(listing: Listing, bar: Bar) -> str:
    return listing.price(round(bar.value / bar.volume / float(listing.tick)))


def _checksum(listing: Listing) -> int:
    best = listing.levels(Side.SELL, 10) + listing.levels(Side.BUY, 10)
    texts = [(listing.price(ticks), f"{size:.8f}") for ticks, size in best]
    digits = [text.replace(".", "").lstrip("0") for level in texts for text in level]
    return zlib.crc32("".join(digits).encode())
