"""Simulate Gate.io: one answer a request, refused as a whole for one bad pair. Whole books, then numbered changes."""

import json
from collections.abc import Iterable, Iterator

from coin_platform.exchanges.gateio import CHANNEL_NAMES, DEPTH
from coin_platform.model import SECOND, Channel, Microseconds, Side
from coin_platform.simulator.market import Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, prices, quotes, short

# Templates after the recordings in tests/data/gateio.
DATA = '{{"time":{s},"time_ms":{ms},"channel":"{channel}","event":"update","result":{row}}}'
TICKER = (
    '{{"currency_pair":"{symbol}","last":"{last}","lowest_ask":"{ask}","highest_bid":"{bid}",'
    '"change_percentage":"{percent:.4f}","base_volume":"{volume}","quote_volume":"{value}","high_24h":"{high}",'
    '"low_24h":"{low}"}}'
)
REST_TICKER = (
    '{{"currency_pair":"{symbol}","last":"{last}","lowest_ask":"{ask}","lowest_size":"{ask_size}",'
    '"highest_bid":"{bid}","highest_size":"{bid_size}","change_percentage":"{percent:.2f}","base_volume":"{volume}",'
    '"quote_volume":"{value}","high_24h":"{high}","low_24h":"{low}"}}'
)
TRADE = (
    '{{"id":{id},"id_market":{id},"create_time":{traded},"create_time_ms":"{traded_ms:.6f}","side":"{side}",'
    '"currency_pair":"{symbol}","amount":"{size}","price":"{price}","range":"{id}-{id}"}}'
)
REST_TRADE = (
    '{{"id":"{id}","create_time":"{traded}","create_time_ms":"{traded_ms:.6f}","currency_pair":"{symbol}",'
    '"side":"{side}","amount":"{size}","price":"{price}","sequence_id":"{id}"}}'
)
CANDLE = (
    '{{"t":"{begin}","v":"{value}","c":"{last}","h":"{high}","l":"{low}","o":"{open}","n":"1m_{symbol}","a":"{volume}",'
    '"w":{closed}}}'
)
REST_CANDLE = '["{begin}","{value}","{last}","{high}","{low}","{open}","{volume}","{closed}"]'
CONNECTION_ID = "86f3e47ebac290b8"
SIDES = {"bids": Side.BUY, "asks": Side.SELL}
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Gateio(Venue):
    """One connection to Gate.io."""

    name = "gateio"

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        message = json.loads(text)
        head: dict[str, object] = {"time": time // SECOND, "time_ms": time // 1000, "conn_id": CONNECTION_ID}
        if message["channel"] == "spot.ping":
            yield control(compact({**head, "channel": "spot.pong", "event": "", "result": None}))
            return
        head |= {name: message[name] for name in ("id", "channel", "event", "payload") if name in message}
        channel, is_new = CHANNELS.get(message["channel"]), message["event"] == "subscribe"
        entries = message["payload"][1:] if channel is Channel.CANDLE else message["payload"]
        listings = {entry: self.listing(entry.removeprefix("ob.").partition(".")[0]) for entry in entries}
        error = self._error(message["channel"], listings) if is_new else None
        if channel is None or error is not None:
            reason = error or f"Unknown channel {message['channel']}"
            fault = {"error": {"code": 2, "message": reason}, "result": {"status": "fail"}}
            yield control(compact({**head, **fault}))  # Gate.io refuses the whole request
            return
        for listing in filter(None, listings.values()):
            if is_new:
                yield from self.subscribe(channel, listing, time)  # whole books come before the answer
            else:
                self.unsubscribe(channel, listing)
        yield control(compact({**head, "result": {"status": "success"}}))

    def _error(self, name: str, listings: dict[str, Listing | None]) -> str | None:
        for entry, listing in listings.items():
            if listing is None:
                return f"unknown currency pair: {entry}"
            if name == CHANNEL_NAMES[Channel.ORDERBOOK] and (Channel.ORDERBOOK, listing.pair) in self.subscriptions:
                return f"Alert sub {entry}"
        return None

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        symbol = self.exchange.symbol(listing.pair)
        match channel:
            case Channel.ORDERBOOK:
                yield Message(_book(listing, symbol, time, is_whole=is_first))
                return
            case Channel.TICKER:
                rows = [_ticker(TICKER, listing, symbol)]
            case Channel.TRADE:
                rows = [] if is_first else [_trade(TRADE, listing, listing.deals[-1], symbol)]
            case Channel.CANDLE:
                bars = filter(None, (listing.closed, listing.minutes[-1]))
                rows = [_candle(CANDLE, listing, bar, symbol) for bar in bars]
        for row in rows:
            yield Message(DATA.format(s=time // SECOND, ms=time // 1000, channel=CHANNEL_NAMES[channel], row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/api/v4/spot/currency_pairs":
            rows = [{"id": symbol, "trade_status": "tradable"} for symbol in self.listings()]
            return RestAnswer(compact(rows))
        symbol, count = query.get("currency_pair", ""), int(query.get("limit", 100))
        listing = self.listing(symbol)
        if listing is None:
            error = {"label": "INVALID_CURRENCY_PAIR", "message": f"Invalid currency pair {symbol}"}
            return RestAnswer(compact(error), 400)
        match path:
            case "/api/v4/spot/tickers":
                texts = [_ticker(REST_TICKER, listing, symbol)]
            case "/api/v4/spot/order_book":
                times = {"current": time // 1000, "update": listing.deals[-1].time // 1000}
                sides = {
                    name: [[short(listing.price(ticks)), short(size)] for ticks, size in listing.levels(side, count)]
                    for name, side in SIDES.items()
                }
                return RestAnswer(compact({"id": listing.sequence, **times, **sides}))
            case "/api/v4/spot/trades":
                deals = [*reversed(listing.deals)][:count]
                texts = [_trade(REST_TRADE, listing, deal, symbol) for deal in deals]
            case _:
                texts = [_candle(REST_CANDLE, listing, bar, symbol) for bar in [*listing.minutes][-count:]]
        return RestAnswer(f"[{','.join(texts)}]")


def _ticker(template: str, listing: Listing, symbol: str) -> str:
    bar = listing.rolling
    texts = {**prices(listing, bar), **quotes(listing), "volume": bar.volume, "value": bar.value}
    fields = {name: short(value) for name, value in texts.items()}
    return template.format(symbol=symbol, percent=100 * bar.close / bar.open - 100, **fields)


def _book(listing: Listing, symbol: str, time: Microseconds, *, is_whole: bool) -> str:
    levels = [(side, *level) for side in SIDES.values() for level in listing.levels(side)]
    changes = levels if is_whole else listing.changes
    sides = {name[0]: _levels(listing, changes, side) for name, side in SIDES.items()}
    result = {
        "t": time // 1000,
        "s": f"ob.{symbol}.{DEPTH}",
        "u": listing.sequence,
        **({"full": True} if is_whole else {"U": listing.previous + 1}),
        **{name: rows for name, rows in sides.items() if rows},  # a side without changes is left out
    }
    return compact({"channel": "spot.obu", "result": result, "time_ms": time // 1000, "event": "update"})


def _levels(listing: Listing, levels: Iterable[tuple[Side, int, float]], side: Side) -> list[list[str]]:
    return [[short(listing.price(ticks)), short(size)] for level_side, ticks, size in levels if level_side is side]


def _trade(template: str, listing: Listing, deal: Deal, symbol: str) -> str:
    times = {"traded": deal.time // SECOND, "traded_ms": deal.time / 1000}
    sold = {"price": short(listing.price(deal.ticks)), "size": short(deal.size), "side": deal.side}
    return template.format(symbol=symbol, id=deal.id, **times, **sold)


def _candle(template: str, listing: Listing, bar: Bar, symbol: str) -> str:
    texts: dict[str, str | float] = {**prices(listing, bar), "volume": bar.volume, "value": bar.value}
    fields = {name: short(value) for name, value in texts.items()}
    closed = "false" if bar is listing.minutes[-1] else "true"
    return template.format(symbol=symbol, begin=bar.start // SECOND, closed=closed, **fields)
