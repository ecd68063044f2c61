"""Tickers of markets in which nothing was traded yet have no last price. That is no error."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from coin_platform.collect.poll_plan import PollPlan
from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE
from coin_platform.model import Channel, Control, Event, Frame, Instant, Kind, Pair, Ticker
from tests.kit.recordings import files, frames, say

MISSING = object()
NONE_HERE = ("", None, 0, "0", "0.00000000", MISSING)
PLACES = sorted(
    {(exchange, path.stem) for exchange, path in files("*ticker") if path.stem in ("ticker", "rest_ticker")}
)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the paths and texts of all values of a message."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, str(value)


def with_value(body: Any, path: tuple[str | int, ...], value: object) -> Any:
    """Return a message in which the place at `path` has another value, or is missing."""
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def decoded(frame: Frame, body: Any) -> list[Event]:
    """Return the events of a frame with this body; none for a dead letter."""
    try:
        return EXCHANGES[frame.exchange].decode(msgspec.structs.replace(frame, payload=json.dumps(body).encode()))
    except DecodeError:
        return []


def with_one_row(body: Any) -> Any:
    """Return a message with the first of its rows only."""
    if isinstance(body, dict):
        return {key: with_one_row(value) for key, value in body.items()}
    return body[:1] if isinstance(body, list) and all(isinstance(row, dict) for row in body) else body


def one_ticker(exchange: str, stem: str) -> tuple[Frame, Any, tuple[str | int, ...]]:
    """Return a recorded ticker, its body, and the place of its last price."""
    for frame in frames(exchange, stem):
        body = with_one_row(json.loads(frame.payload))
        events = decoded(frame, body)
        if len(events) == 1 and isinstance(events[0], Ticker):
            for path, text in leaves(body):
                is_last = text.replace(".", "", 1).isdigit() and float(text) == float(events[0].last)
                if is_last and decoded(frame, with_value(body, path, "")) == [TICKER_WITHOUT_PRICE]:
                    return frame, body, path
    raise AssertionError(f"{exchange} {stem} has no message of one ticker whose last price can be taken away")


@pytest.mark.parametrize("value", NONE_HERE, ids=lambda value: "missing" if value is MISSING else repr(value))
@pytest.mark.parametrize(("exchange", "stem"), PLACES)
def test_R6_a_ticker_without_a_price_is_counted_and_no_error(exchange: str, stem: str, value: object) -> None:
    frame, body, path = one_ticker(exchange, stem)
    if value is MISSING and isinstance(path[-1], int):
        path = path[:-1]  # Kraken's `c`: the list of the price and its size
    assert decoded(frame, with_value(body, path, value)) == [Control(name="ticker without a price")]


@pytest.mark.parametrize("value", [-1, "-1", "NaN", {}, [], "x", True], ids=repr)
@pytest.mark.parametrize(("exchange", "stem"), PLACES)
def test_R6_a_price_that_cannot_be_is_still_a_dead_letter(exchange: str, stem: str, value: object) -> None:
    frame, body, path = one_ticker(exchange, stem)
    assert decoded(frame, with_value(body, path, value)) == []


@pytest.mark.parametrize(("exchange", "stem"), PLACES)
def test_R6_the_other_rows_of_the_message_are_kept(exchange: str, stem: str) -> None:
    frame, body, path = one_ticker(exchange, stem)
    depths = [
        depth
        for depth, key in enumerate(path)
        if isinstance(key, int) and isinstance(at(body, path[: depth + 1]), dict)
    ]
    if not depths:
        return  # one ticker a message
    rows = at(body, path[: depths[0]])
    empty = at(with_value(body, path, ""), path[: depths[0]])
    [ticker] = decoded(frame, body)
    both = with_value(body, path[: depths[0]], [*rows, *empty, *rows]) if depths[0] else [*rows, *empty, *rows]
    assert decoded(frame, both) == [ticker, TICKER_WITHOUT_PRICE, ticker]


def at(body: Any, path: tuple[str | int, ...]) -> Any:
    """Return the value at a place of a message."""
    for key in path:
        body = body[key]
    return body


@pytest.mark.parametrize(("exchange", "stem"), [place for place in PLACES if place[1] == "rest_ticker"])
def test_R6_a_polled_pair_without_a_price_is_not_called_refused(exchange: str, stem: str) -> None:
    frame, body, path = one_ticker(exchange, stem)
    pair = Pair("BTC", EXCHANGES[exchange].quote)
    rota = PollPlan(EXCHANGES[exchange], Channel.TICKER, [pair], Instant(0, 0.0))
    empty = msgspec.structs.replace(
        frame, payload=json.dumps(with_value(body, path, "")).encode(), kind=Kind.REST, pair=pair
    )
    assert rota.received(pair, empty) == []
    assert not rota.refused and not rota.unconfirmed


def test_R6_quotes_may_be_missing_as_well() -> None:
    rows = {
        "okx": '{"arg":{"channel":"tickers","instId":"NEW-USDT"},"data":[{"instId":"NEW-USDT","last":"","askPx":"1.2",'
        '"bidPx":"","open24h":"","high24h":"","low24h":"","vol24h":"","volCcy24h":null,"ts":"1786538789464"}]}',
        "upbit": '{"type":"ticker","code":"KRW-NEW","trade_price":null,"timestamp":1745130655652}',
        "kraken": '{"channel":"ticker","type":"snapshot","data":[{"symbol":"NEW/USD","last":null,"bid":null}]}',
        "coinbase": '{"type":"ticker","product_id":"NEW-USD","price":null,"open_24h":null,"time":null}',
    }
    for exchange, text in rows.items():
        assert say(exchange, Channel.TICKER, text.encode()) == [TICKER_WITHOUT_PRICE]


@pytest.mark.parametrize(
    ("exchange", "text"), [("coinbase", "{}"), ("kraken", '{"error":[],"result":{"XXBTZUSD":{}}}')]
)
def test_R6_what_has_neither_a_price_nor_a_quote_is_no_ticker(exchange: str, text: str) -> None:
    with pytest.raises(DecodeError, match="no ticker"):
        say(exchange, Channel.TICKER, text.encode(), Pair("BTC", "USD"))
