"""What exchanges list: the states of all exchanges, and lists that are not whole or no lists."""

from typing import Any

import msgspec
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import LIST_WITH_UNREADABLE_ROWS, WHOLE_LIST
from coin_platform.exchanges.okx import Okx
from coin_platform.exchanges.parsing import step
from coin_platform.model import Channel, Event, Instrument, InstrumentState, Pair, Refused
from tests.kit.market_lists import LISTS, list_frame, listed
from tests.kit.recordings import LATE, files, frames

POLLED = [name for name in EXCHANGES if name != "kraken"]
STATES: dict[str, tuple[dict[str, Any], InstrumentState]] = {
    "coinone": ({"trade_status": 0}, InstrumentState.HALTED),
    "korbit": ({"status": "stopped"}, InstrumentState.HALTED),
    "okx": ({"state": "preopen"}, InstrumentState.UPCOMING),
    "bybit": ({"status": "PreLaunch"}, InstrumentState.UPCOMING),
    "gateio": ({"trade_status": "buyable"}, InstrumentState.LIMITED),
    "binance": ({"isSpotTradingAllowed": False}, InstrumentState.HALTED),
    "kraken": ({"status": "delisted"}, InstrumentState.DELISTED),
    "coinbase": ({"post_only": True}, InstrumentState.LIMITED),
}
REFUSALS = {
    "upbit": b'{"error":{"name":"too_many_requests","message":"slower"}}',
    "bithumb": b'{"error":{"name":500,"message":"internal"}}',
    "coinone": b'{"result":"error","error_code":"4","error_msg":"blocked"}',
    "korbit": b'{"success":false,"error":{"message":"INTERNAL"}}',
    "okx": b'{"code":"50011","msg":"Too Many Requests","data":[]}',
    "bybit": b'{"retCode":10006,"retMsg":"too many visits","result":{}}',
    "gateio": b'{"label":"TOO_MANY_REQUESTS","message":"slower"}',
    "binance": b'{"code":-1003,"msg":"Too many requests"}',
    "kraken": b'{"error":["EService:Busy"]}',
    "coinbase": b'{"message":"Public rate limit exceeded"}',
}


def answered(name: str, payload: bytes) -> list[Event]:
    """Return the events of an answer, which names no pair."""
    return EXCHANGES[name].decode(list_frame(name, payload, LATE))


def states(events: list[Event]) -> list[InstrumentState]:
    return [event.state for event in events if isinstance(event, Instrument)]


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_list_is_read_and_is_whole_except_krakens_over_rest(name: str) -> None:
    row = LISTS[name][2]
    *events, last = answered(name, listed(name, [row]))
    assert states([*events, last]) == [InstrumentState.TRADING]
    assert (last == WHOLE_LIST) == (name in POLLED)


@pytest.mark.parametrize("name", STATES)
def test_the_exchanges_words_become_one_of_ours(name: str) -> None:
    changed, state = STATES[name]
    row = LISTS[name][2]
    assert states(answered(name, listed(name, [row | changed]))) == [state]
    word = next(iter(changed))
    if word not in ("post_only", "isSpotTradingAllowed"):
        new = 99 if name == "coinone" else "new_word"
        [event] = [e for e in answered(name, listed(name, [row | {word: new}])) if isinstance(e, Instrument)]
        assert event.state is InstrumentState.UNKNOWN and str(new) in str(event.exchange_state)


@pytest.mark.parametrize("name", POLLED)
def test_a_row_that_cannot_be_read_makes_the_list_a_part(name: str) -> None:
    row = LISTS[name][2]
    events = answered(name, listed(name, [row, 7]))
    assert (states(events), events[-1]) == ([InstrumentState.TRADING], LIST_WITH_UNREADABLE_ROWS)
    for payload in (listed(name, []), listed(name, [7]), listed(name, [row] * 6001)):
        with pytest.raises(DecodeError, match="list of"):
            answered(name, payload)
    with pytest.raises(DecodeError, match="more than 600000 values"):
        answered(name, b"[" + b"0," * 600_001 + b"0]")


def test_a_market_that_no_pair_can_name_is_left_out_of_a_list_that_stays_whole() -> None:
    rows = [{"id": "BTC_USDT", "trade_status": "tradable"}, {"id": "A/B_USDT", "trade_status": "tradable"}]
    assert [type(event) for event in answered("gateio", listed("gateio", rows))][:1] == [Instrument]
    assert answered("gateio", listed("gateio", rows))[-1] == WHOLE_LIST


@pytest.mark.parametrize(
    "changed", [{"precision": -1}, {"precision": 31}, {"min_quote_amount": "-1"}, {"buy_start": 5_000_000_000}]
)
def test_values_that_no_market_has_cost_their_row(changed: dict[str, Any]) -> None:
    row = {"id": "BTC_USDT", "trade_status": "tradable"}
    events = answered("gateio", listed("gateio", [row, row | {"id": "ETH_USDT"} | changed]))
    assert states(events) == [InstrumentState.TRADING] and events[-1] == LIST_WITH_UNREADABLE_ROWS


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_refusal_instead_of_a_list_is_a_refusal(name: str) -> None:
    [refused] = answered(name, REFUSALS[name])
    assert isinstance(refused, Refused) and refused.pair is None


def test_krakens_messages_name_markets_in_todays_spelling_and_leave_out_other_venues() -> None:
    snapshot, update = frames("kraken", "instrument")
    events = EXCHANGES["kraken"].decode(snapshot)
    assert events[-1] == WHOLE_LIST and Pair("BTC", "USD") in [e.pair for e in events if isinstance(e, Instrument)]
    [changed, _] = EXCHANGES["kraken"].decode(update)
    assert isinstance(changed, Instrument) and changed.state is InstrumentState.HALTED
    venue = snapshot.payload.replace(b'"symbol":"BTC/USD"', b'"symbol":"BTC/USD:BTNL"')
    others = EXCHANGES["kraken"].decode(msgspec.structs.replace(snapshot, payload=venue))
    assert len(others) == len(events) - 1 and others[-1] == WHOLE_LIST
    for word in (b"snapshots", b""):
        with pytest.raises(DecodeError):
            bad = snapshot.payload.replace(b'"type":"snapshot"', b'"type":"' + word + b'"')
            EXCHANGES["kraken"].decode(msgspec.structs.replace(snapshot, payload=bad))


def test_every_exchange_has_a_recorded_list() -> None:
    assert {name for name, path in files("*instrument") if "rest" in path.stem} == set(EXCHANGES)


def test_digits_behind_the_point_are_a_step() -> None:
    assert [step(digits) for digits in (None, 0, 1, 8)] == [None, "1", "0.1", "0.00000001"]


def test_a_market_whose_pair_is_not_read_back_from_its_symbol_is_left_out() -> None:
    class Renaming(Okx):
        def symbol(self, pair: Pair) -> str:
            return super().symbol(Pair(f"X{pair.base}", pair.quote))

    *_, row = LISTS["okx"]
    frame = list_frame("okx", listed("okx", [row]), LATE)
    assert states(EXCHANGES["okx"].decode(frame)) == [InstrumentState.TRADING]
    with pytest.raises(DecodeError, match="a list of markets without any"):
        Renaming().decode(frame)


def test_kraken_is_asked_for_its_list_only_while_a_pair_is_wanted() -> None:
    kraken = EXCHANGES["kraken"]
    assert list(kraken.subscribe(Channel.INSTRUMENT, (), id=1, time=LATE)) == []
    assert len(list(kraken.subscribe(Channel.INSTRUMENT, (Pair("BTC", "USD"),), id=1, time=LATE))) == 1
