"""Each fault does what it says, and the real adapters notice a fault that harms a book."""

import pytest

from coin_platform.errors import ChecksumMismatch, DecodeError, SequenceGap
from coin_platform.model import Channel, Control, Notice, Side
from coin_platform.simulator.faults import NOTICE_STEPS
from coin_platform.simulator.venue import MessageKind
from tests.kit.venue_talk import SIZE_DIGITS, TIME, Talk, levels, plain

NOTICING_ERRORS = {
    "okx": SequenceGap,
    "kraken": ChecksumMismatch,
    "gateio": SequenceGap,
    "binance": SequenceGap,
    "bybit": SequenceGap,
}


@pytest.mark.parametrize("fault", ["drop", "swap"])
@pytest.mark.parametrize("name", NOTICING_ERRORS)
def test_a_missing_or_swapped_change_is_noticed(name: str, fault: str) -> None:
    talk = Talk(name)
    talk.take(talk.subscribe())
    setattr(talk.mischief.faults, fault, 0.3)
    with pytest.raises(NOTICING_ERRORS[name]):
        for _ in range(40):
            talk.take(talk.step())


def test_a_dropped_message_is_not_sent_and_a_repeated_one_twice(name: str) -> None:
    for fault, factor in (("drop", 0), ("repeat", 2)):
        talk = Talk(name, Channel.TICKER)
        talk.subscribe()
        talk.mischief.faults.change({fault: "1"})
        counts = [sum(message.kind is MessageKind.DATA for message in talk.step()) for _ in range(5)]
        assert counts == [factor] * 5


def test_a_repeated_change_does_a_book_no_harm(name: str) -> None:
    talk = Talk(name, repeat=0.5)
    talk.take(talk.subscribe())
    for _ in range(100):
        talk.take(talk.step())
    assert levels(talk.listing, Side.BUY, 10, SIZE_DIGITS.get(name, 6)) == plain(talk.book.bids.top(10))


def test_malformed_messages_are_extra_and_never_decode(name: str) -> None:
    talk = Talk(name, bad=0.5)
    talk.take(talk.subscribe())
    bad = 0
    for _ in range(100):
        for message in talk.step():
            if message.kind is MessageKind.BAD:
                bad += 1
                with pytest.raises(DecodeError):
                    talk.decode(message)
            else:
                talk.take([message])  # nothing is missing
    assert bad > 20


def test_a_mute_exchange_answers_and_a_silent_one_does_not(name: str) -> None:
    talk = Talk(name, mute=True)
    assert {message.kind for message in talk.mischief.answers(talk.subscribe())} <= {MessageKind.CONTROL}
    assert {message.kind for _ in range(30) for message in talk.step()} <= {MessageKind.CONTROL}
    assert len(list(talk.mischief.answers(talk.ping()))) == 1
    talk.mischief.faults.silent = True
    assert talk.steps(30) == []
    assert list(talk.mischief.answers(talk.ping())) == []


def test_maintenance_is_announced_once_and_then_the_connection_ends(name: str) -> None:
    talk = Talk(name, notice=True)
    assert [talk.mischief.gives_notice() for _ in range(3)] == [True, False, False]
    assert [talk.mischief.ends() for _ in range(NOTICE_STEPS + 1)] == [False] * NOTICE_STEPS + [True]
    events = [event for message in talk.venue.notice(TIME) for event in talk.decode(message)]
    expected_types: dict[str, list[type]] = {"okx": [Notice], "kraken": [Control], "upbit": [], "binance": [Notice]}
    assert [type(event) for event in events] == expected_types.get(name, [type(event) for event in events])
