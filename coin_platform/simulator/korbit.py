"""Simulate Korbit: arrays of commands, answered if they have a number or fail. Books are whole, candles REST only."""

import json
from collections.abc import Iterator
from typing import Any

from coin_platform.exchanges.korbit import CHANNEL_NAMES
from coin_platform.model import Channel, Microseconds, Side
from coin_platform.simulator.market import Bar, Deal, Listing
from coin_platform.simulator.venue import Message, RestAnswer, Venue, compact, control, figures, quotes, short, taker

# Templates after the recordings in tests/data/korbit.
DATA = '{{"symbol":"{symbol}","timestamp":{ms},"type":"{type}"{snapshot},"data":{row}}}'
TICKER = (
    '{{{symbol}"open":"{open}","high":"{high}","low":"{low}","close":"{last}","prevClose":"{open}",'
    '"priceChange":"{change}","priceChangePercent":"{percent:.2f}","volume":"{volume}","quoteVolume":"{value}",'
    '"bestAskPrice":"{ask}","bestBidPrice":"{bid}","lastTradedAt":{traded}}}'
)
BOOK = '{{"timestamp":{ms},"asks":[{asks}],"bids":[{bids}]}}'
LEVEL = '{{"price":"{}","qty":"{}"}}'
TRADE = '{{"timestamp":{ms},"price":"{price}","qty":"{size}","isBuyerTaker":{is_buyer},"tradeId":{id}}}'
CANDLE = '{{"timestamp":{begin},"open":"{open}","high":"{high}","low":"{low}","close":"{last}","volume":"{volume}"}}'
UNKNOWN_PAIR = RestAnswer('{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}', 400)
BOOK_LEVELS = 30
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


class Korbit(Venue):
    """One connection to Korbit."""

    name = "korbit"

    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        for command in json.loads(text):
            number = {"requestId": command["requestId"]} if "requestId" in command else {}
            failure = self._failure(command)
            if failure:
                yield control(compact({**number, "status": "fail", **failure}))  # Korbit refuses the whole command
                continue
            if number:
                yield control(compact({"status": "success", **number}))
            for listing in filter(None, map(self.listing, command["symbols"])):
                if command["method"] == "subscribe":
                    yield from self.subscribe(CHANNELS[command["type"]], listing, time)
                else:
                    self.unsubscribe(CHANNELS[command["type"]], listing)

    def _failure(self, command: dict[str, Any]) -> dict[str, str] | None:
        if command["type"] not in CHANNELS:
            return {"code": "INVALID_REQUEST", "message": "unknown_type"}
        unknown = [symbol for symbol in command["symbols"] if self.listing(symbol) is None]
        return {"code": "INVALID_SYMBOL", "message": f"The symbol does not exist ({unknown[0]})"} if unknown else None

    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        match channel:
            case Channel.TICKER:
                row = _ticker(listing)
            case Channel.ORDERBOOK:
                row = _book(listing, time)
            case _:
                row = f"[{_trade(listing, listing.deals[-1])}]"
        head = {"symbol": self.exchange.symbol(listing.pair), "type": CHANNEL_NAMES[channel], "ms": time // 1000}
        yield Message(DATA.format(**head, snapshot=',"snapshot":true' if is_first else "", row=row))

    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        if path == "/v2/currencyPairs":
            return _answer(compact([{"symbol": symbol, "status": "launched"} for symbol in self.listings()]))
        symbol, count = query.get("symbol", ""), int(query.get("limit", 200))
        listing = self.listing(symbol)
        if listing is None:
            return _answer("[]") if path == "/v2/tickers" else UNKNOWN_PAIR
        match path:
            case "/v2/tickers":
                return _answer(f"[{_ticker(listing, symbol)}]")
            case "/v2/orderbook":
                return _answer(_book(listing, time))
            case "/v2/trades":
                texts = [_trade(listing, deal) for deal in [*reversed(listing.deals)][:count]]
            case _:
                texts = [_candle(listing, bar) for bar in [*listing.minutes][-count:]]
        return _answer(f"[{','.join(texts)}]")


def _answer(data: str) -> RestAnswer:
    return RestAnswer(f'{{"success":true,"data":{data}}}')


def _ticker(listing: Listing, symbol: str = "") -> str:
    bar = listing.rolling
    best = {name: short(value) for name, value in quotes(listing).items()}
    return TICKER.format(
        symbol=f'"symbol":"{symbol}",' if symbol else "",
        percent=100 * bar.close / bar.open - 100,
        traded=listing.deals[-1].time // 1000,
        change=short(listing.price(bar.close - bar.open)),
        **figures(listing, bar),
        **best,
    )


def _book(listing: Listing, time: Microseconds) -> str:
    sides = {
        name: ",".join(
            LEVEL.format(short(listing.price(ticks)), short(size)) for ticks, size in listing.levels(side, BOOK_LEVELS)
        )
        for name, side in (("asks", Side.SELL), ("bids", Side.BUY))
    }
    return BOOK.format(ms=time // 1000, **sides)


def _trade(listing: Listing, deal: Deal) -> str:
    texts = {"price": short(listing.price(deal.ticks)), "size": short(deal.size)}
    return TRADE.format(ms=deal.time // 1000, id=deal.id, is_buyer=taker(deal.side, "true", "false"), **texts)


def _candle(listing: Listing, bar: Bar) -> str:
    return CANDLE.format(begin=bar.start // 1000, **figures(listing, bar))
