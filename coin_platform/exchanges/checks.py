"""Check the values of an event: a value that no market has raises `DecodeError`."""

from coin_platform.errors import BadTime, DecodeError
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Event,
    Instrument,
    Level,
    Microseconds,
    Pair,
    Refused,
    Subscribed,
    Ticker,
    Trade,
)

_FIRST_TIME: Microseconds = 1_230_940_800 * SECOND  # 2009-01-03: no market is older than Bitcoin
_TIME_AHEAD: Microseconds = 3600 * SECOND  # an exchange's clock may be ahead of ours by so much, and not by more
_LAST_TIME: Microseconds = 4_102_444_800 * SECOND  # 2100-01-01: no listing is announced for later
_MAX_VALUE = 1e24  # no price, size or volume is larger: a token whose supply is 10^18 may cost 10^-12
_MAX_INTEGER = 2**63 - 1  # the largest integer of a table's column, and of the exchanges' own counters
_MAX_DEPTH = 100_000  # levels of one side; the largest book, Coinbase BTC-USD, has 44,000 on both sides together


def check_event(event: Event, received_time: Microseconds) -> None:
    """Raise `DecodeError` for values that no market has. All other values may be computed with and stored."""
    match event:
        case BookUpdate():
            _check_levels(event.pair, event.bids)
            _check_levels(event.pair, event.asks)
            _check_integer("first sequence", event.first_sequence)
            _check_integer("last sequence", event.last_sequence)
            _check_integer("checksum", event.checksum, -_MAX_INTEGER)  # OKX's is signed
            _check_integer("depth", event.depth, 1, _MAX_DEPTH)
        case Ticker():
            for name, least, is_exclusive in _TICKER_NUMBERS:
                text = getattr(event, name)
                if text is not None:  # half of the fields are None: each spares a call
                    _check_number(event.pair, name, text, least, exclusive=is_exclusive)
        case Trade():
            _check_value(event.pair, "price", event.price, 0.0, exclusive=True)
            _check_value(event.pair, "size", event.size, 0.0)
            _check_id(event.id)
            if event.count != 1:  # few exchanges send such trades, and seldom
                _check_count(event.id, event.count)
        case Candle():
            for name in ("open", "high", "low", "close"):
                _check_value(event.pair, name, getattr(event, name), 0.0, exclusive=True)
            for name in ("volume", "quote_volume"):
                _check_value(event.pair, name, getattr(event, name), 0.0)
            _check_time(event.pair, event.open_time, received_time)
        case Instrument():
            for name in _INSTRUMENT_NUMBERS:
                text = getattr(event, name)
                if text is not None:
                    _check_number(event.pair, name, text, 0.0, exclusive=False)
            _check_integer("listed time", event.listed_time, 0, _LAST_TIME)
        case Subscribed():
            _check_integer("request", event.request)
            _check_integer("depth", event.depth, 1, _MAX_DEPTH)
            return
        case Refused():
            _check_integer("request", event.request)
            return
        case _:
            return
    _check_time(event.pair, event.exchange_time, received_time)


def _check_integer(name: str, value: int | None, least: int = 0, most: int = _MAX_INTEGER) -> None:
    if value is not None and not least <= value <= most:
        # `str` refuses integers of more than 4,300 digits.
        text = str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
        raise DecodeError(f"{name} is {text}, not between {least} and {most}")


def _check_id(text: str | None) -> None:
    """Check the id of a trade. An id of digits must be an integer within the range of a column."""
    if text is None:
        return
    digits = text.removeprefix("-")
    is_integer = digits.isdecimal()
    if not text or (is_integer and (digits != text or int(digits.lstrip("0")[:20] or "0") > _MAX_INTEGER)):
        raise DecodeError(f"id of a trade is {text[:40]!r}, not between 0 and {_MAX_INTEGER}")


def _check_count(id: str | None, count: int) -> None:
    """Check the count of trades that one trade stands for: that many ids must end in its id."""
    _check_integer("count of trades", count, 1)
    if id is None or not id.isdecimal() or int(id) < count - 1:
        raise DecodeError(f"{count} trades cannot have ids that end in {id!r:.40}")


_INSTRUMENT_NUMBERS = ("tick_size", "size_step", "min_size", "min_value")
_PRICES = (
    *("last", "open_24h", "high_24h", "low_24h", "open_day", "high_day", "low_day", "prev_close_day"),
    *("best_bid", "best_ask"),
)
_SIZES = ("volume_24h", "quote_volume_24h", "best_bid_size", "best_ask_size")
_CHANGES = ("change_24h", "change_rate_24h", "change_day", "change_rate_day")
_TICKER_NUMBERS = (  # field, its lower bound, and whether it must be above that bound
    *((name, 0.0, True) for name in _PRICES),
    *((name, 0.0, False) for name in _SIZES),
    *((name, -_MAX_VALUE, False) for name in _CHANGES),
)


def _check_number(pair: Pair, name: str, text: str, least: float, *, exclusive: bool) -> None:
    try:
        value = float(text)
        is_plain = not text.strip("0123456789.eE+-")  # `float` also reads 1_000, ' 1' and digits of other scripts
    except ValueError:
        is_plain = False
    if not is_plain:
        raise DecodeError(f"{pair}: {name} is {text[:40]!r}, not a number")
    if not least < value < _MAX_VALUE:
        _check_value(pair, name, value, least, exclusive=exclusive)


def _check_value(pair: Pair, name: str, value: float | None, least: float, *, exclusive: bool = False) -> None:
    if value is None or (value == least and not exclusive) or least < value < _MAX_VALUE:
        return
    raise DecodeError(f"{pair}: {name} is {value}")


def _check_levels(pair: Pair, levels: list[Level]) -> None:
    for level in levels:
        if not (0.0 < level.price < _MAX_VALUE and 0.0 <= level.size < _MAX_VALUE):
            raise DecodeError(f"{pair}: level {level.price} x {level.size} cannot be")


def _check_time(pair: Pair, time: Microseconds | None, received_time: Microseconds) -> None:
    _check_integer("exchange time", time, -_MAX_INTEGER)
    if time is not None and not _FIRST_TIME <= time <= received_time + _TIME_AHEAD:
        raise BadTime(f"{pair}: bad_time: exchange time {time} µs, received at {received_time} µs", time)
