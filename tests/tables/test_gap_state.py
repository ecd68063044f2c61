"""A ledger goes on in the next window from what the one before knew."""

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import GapLedger
from tests.kit.gap_feed import BTC, broken, plain, served
from tests.kit.log import TIME


def test_R12_what_a_gap_says_of_REST_goes_on_in_the_next_window() -> None:
    feed = broken()
    feed.answer(10.5, BTC, b"[]", "b")
    state = LedgerState.unpack(feed.ledger.state.pack())
    assert state == feed.ledger.state
    feed.ledger = GapLedger(EXCHANGES["upbit"], Channel.TRADE, state)
    assert feed.answer(10.6, BTC, b"[]", "b") == []


def test_a_ledger_goes_on_from_what_another_knew() -> None:
    feed = served(channel=Channel.TRADE, until=2)
    body = feed.ledger.state.pack()
    feed.ledger = GapLedger(plain("upbit"), Channel.TRADE, LedgerState.unpack(body))
    feed.open(9, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    assert LedgerState.unpack(feed.ledger.state.pack()) == feed.ledger.state


def test_R3_what_a_window_does_not_know_yet_the_next_one_learns() -> None:
    feed = broken()
    feed.close(20, "broken", "b")
    feed.open(21, "c")
    feed.frame(22, "c", heard=("status",))
    feed.ledger = GapLedger(plain("upbit"), Channel.TRADE, LedgerState.unpack(feed.ledger.state.pack()))
    feed.frame(23, "c", heard=("status",))
    feed.frame(24, "c")
    assert feed.gaps[-1] == ("BTC-KRW", 20, 24, "disconnect", None)


def test_R3_lines_of_older_windows_are_read() -> None:
    def line(**fields: object) -> dict[str, object]:
        return {"epoch": 1, "number": 3, "time": TIME, "pairs": ["A-B", "C-D"], "is_feed": True, **fields}

    old = {
        "silent": line(has_spoken=False, bookless=[]),
        "heard": line(has_spoken=True, bookless=[]),
        "book": line(has_spoken=True, bookless=["C-D"]),
        "rest": {**line(has_spoken=False, bookless=[]), "is_feed": False},
    }
    state = LedgerState.unpack({**LedgerState().pack(), "lines": old})
    unheard = {name: line.unheard for name, line in state.connections.items()}
    assert unheard == {"silent": ["A-B", "C-D"], "heard": [], "book": ["C-D"], "rest": []}
    assert LedgerState.unpack(state.pack()) == state


def test_a_footer_keeps_the_names_of_former_versions() -> None:
    assert LedgerState().pack().keys() == {"epoch", "epoch_time", "beside", "lines", "pending", "told"}
