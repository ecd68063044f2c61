"""The premium of Korean exchanges now, computed from the newest tickers and books."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import msgspec

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.serve.feed.records import FeedRecord

STALE: Microseconds = 30 * SECOND  # an older price is no price of now
_RATE_BASE = "USDT"


class Quote(NamedTuple):
    """The newest price of a pair. `mid` and `last` are in quote currency, null where they are stale or not known."""

    exchange: str
    pair: str
    base: str
    quote: str
    mid: float | None
    last: float | None
    age: Microseconds  # of the newer one

    @property
    def price(self) -> float | None:
        """The middle of the book; the last price where there is no proved book."""
        return self.last if self.mid is None else self.mid


class Priced(NamedTuple):
    """A quote in dollars, and its premium over the exchanges elsewhere, as a fraction: 0.02 is two per cent."""

    quote: Quote
    usd: float | None
    premium: float | None


class Premiums(NamedTuple):
    """The rate and the prices of each base. A dollar stands for a USDT."""

    won_per_dollar: float | None  # the median of the Korean exchanges' prices of USDT
    elsewhere: dict[str, float | None]  # the median in dollars of the exchanges that do not trade in won, by base
    prices: dict[str, list[Priced]]  # by base


class _TickerData(msgspec.Struct):
    trade_price: str | None


class _Ticker(msgspec.Struct):
    data: list[_TickerData]


class _Book(msgspec.Struct):
    highest_bid: float | None
    lowest_ask: float | None


_ticker = msgspec.json.Decoder(_Ticker).decode
_book = msgspec.json.Decoder(_Book).decode


def quotes(records: Iterable[FeedRecord], now: Microseconds) -> list[Quote]:
    """Return the quotes of the newest records, by exchange and pair. Stale records give no price."""
    found: dict[tuple[str, str], dict[str, FeedRecord]] = {}
    for record in records:
        if record.pair is not None and record.type in (Channel.TICKER, Channel.ORDERBOOK):
            found.setdefault((record.exchange, record.pair), {})[record.type] = record
    return [_quote(exchange, pair, newest, now) for (exchange, pair), newest in sorted(found.items())]


def premiums(quotes: Iterable[Quote]) -> Premiums:
    """Return the premium of each Korean price over the median of the others.

    It is null where the price, the rate, or all prices elsewhere are not known.
    """
    quotes = list(quotes)
    rates = [quote.price for quote in quotes if _is_won(quote) and quote.base == _RATE_BASE]
    rate = _median(rates)
    dollars = [(quote, _in_dollars(quote, rate)) for quote in quotes if quote.base != _RATE_BASE]
    elsewhere: dict[str, float | None] = {}
    prices: dict[str, list[Priced]] = {}
    for base in sorted({quote.base for quote, _ in dollars}):
        of_base = [(quote, usd) for quote, usd in dollars if quote.base == base]
        elsewhere[base] = middle = _median(usd for quote, usd in of_base if not _is_won(quote))
        prices[base] = [
            Priced(quote, usd, usd / middle - 1 if usd is not None and middle and _is_won(quote) else None)
            for quote, usd in of_base
        ]
    return Premiums(rate, elsewhere, prices)


def _quote(exchange: str, pair: str, newest: dict[str, FeedRecord], now: Microseconds) -> Quote:
    base, _, currency = pair.rpartition("-")
    age = min(now - record.received_time for record in newest.values())
    fresh = {kind: record for kind, record in newest.items() if now - record.received_time <= STALE}
    mid = last = None
    if Channel.ORDERBOOK in fresh:
        book = _book(fresh[Channel.ORDERBOOK].text)
        if book.highest_bid is not None and book.lowest_ask is not None:
            mid = (book.highest_bid + book.lowest_ask) / 2
    if Channel.TICKER in fresh:
        data = _ticker(fresh[Channel.TICKER].text).data
        if data and data[0].trade_price is not None:
            last = float(data[0].trade_price)
    return Quote(exchange, pair, base, currency, mid, last, max(0, age))


def _is_won(quote: Quote) -> bool:
    return EXCHANGES[quote.exchange].quote == "KRW"


def _in_dollars(quote: Quote, rate: float | None) -> float | None:
    if quote.price is None or not _is_won(quote):
        return quote.price
    return quote.price / rate if rate else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
