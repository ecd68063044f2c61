"""The history checker accepts a right history, and finds each of the six faults."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.model import SECOND, Channel, Gap, Kind, Pair
from tests.kit.history import CLEAN, NEVER, Findings, Hole, Row, Sent, Stored, check, once

T = 1_792_144_800 * SECOND
LAG = 2_000  # µs from sent to received
BOOK = Pair("BTC", "USDT")


def messages_sent(count: int, connection: int = 1, at: int = 0) -> list[Sent]:
    """Return ten messages a second from `at` seconds on."""
    return [
        Sent("okx", connection, number, T + at * SECOND + number * SECOND // 10, f"{connection}/{number}")
        for number in range(1, count + 1)
    ]


def kept(messages: Sequence[Sent], name: str = "ticker-0-a", epoch: int = 1) -> list[Stored]:
    """Return the records that a perfect collector stores of messages."""
    return [
        Stored("okx", Channel.TICKER, epoch, name, number, message.time + LAG, message.hash)
        for number, message in enumerate(messages, 1)
    ]


def gap(start: float, stop: float | None, *, pair: Pair | None = None, channel: Channel = Channel.TICKER) -> Gap:
    at = [None if seconds is None else T + int(seconds * SECOND) for seconds in (start, stop)]
    assert at[0] is not None
    return Gap(exchange="okx", channel=channel, pair=pair, start=at[0], stop=at[1], cause="disconnect")


def wrong(findings: Findings) -> dict[str, int]:
    return {name: count for name, count in findings.counts.items() if count}


def test_what_is_right_leaves_nothing_to_find() -> None:
    messages = messages_sent(20)
    frames = kept(messages)
    rows = [Row(frame.identity, index) for frame in frames for index in range(2)]
    assert check(messages, frames, rows=rows).counts == CLEAN


def test_a_heartbeat_that_every_connection_hears_belongs_to_its_own() -> None:
    messages = [
        message._replace(hash="pong") if message.number % 2 else message
        for message in messages_sent(10) + messages_sent(10, 2)
    ]
    frames = kept(messages[:10], "ticker-0-a") + kept(messages[10:], "ticker-1-b")
    assert check(messages, frames).counts == CLEAN


def test_what_is_asked_over_rest_is_not_looked_for_among_what_was_sent() -> None:
    messages = messages_sent(3)
    answer = Stored("okx", Channel.TICKER, 1, "ticker-0r-b", 1, T, "never sent", Kind.REST)
    assert check(messages, [*kept(messages), answer]).counts == CLEAN
    assert wrong(check(messages, [*kept(messages), answer, answer])) == {"double": 1}


def test_lost_is_what_was_sent_but_not_stored_and_no_gap_says_so() -> None:
    messages = messages_sent(20)
    frames = kept(messages[:9] + messages[12:])
    findings = check(messages, frames)
    assert [message.number for message in findings.lost] == [10, 11, 12]
    assert [(hole.start, hole.stop) for hole in findings.unreported] == [
        (messages[8].time + LAG, messages[12].time + LAG)
    ]
    assert check(messages, frames, gaps=[gap(0.9, 1.3)]).counts == CLEAN
    elsewhere = check(messages, frames, gaps=[gap(0.9, 1.3, channel=Channel.TRADE)])
    assert wrong(elsewhere) == {"lost": 3, "unreported": 1, "overreported": 1}


def test_lost_is_all_of_a_connection_of_which_nothing_is_stored() -> None:
    first, second = messages_sent(5), messages_sent(3, 2, at=2)
    findings = check(first + second, kept(first))
    assert findings.lost == second


def test_lost_is_market_data_that_is_in_no_table() -> None:
    messages = [message._replace(kind="control") if message.number == 1 else message for message in messages_sent(5)]
    frames = kept(messages)
    findings = check(messages, frames, rows=[Row(frame.identity) for frame in frames[2:]])
    assert findings.lost == [messages[1]]
    assert check(messages, frames, rows=[Row(frame.identity) for frame in frames[1:]]).counts == CLEAN


def test_phantom_is_what_is_stored_but_was_never_sent() -> None:
    messages = messages_sent(5)
    frames = kept(messages)
    other = frames[2]._replace(hash="another text", number=6)
    assert check(messages, [*frames, other]).phantom == [other]
    made_up = Row(("okx", 1, "ticker-0-a", 99))
    assert check(messages, frames, rows=[*(Row(frame.identity) for frame in frames), made_up]).phantom == [made_up]
    stranger = frames[0]._replace(connection="ticker-0-z", hash="of nobody")
    assert check(messages, [*frames, stranger]).phantom == [stranger]


def test_double_is_a_frame_or_a_row_that_is_there_again() -> None:
    messages = messages_sent(5)
    frames = kept(messages)
    repeated = [*frames[:3], *frames[1:]]
    assert check(messages, repeated).double == frames[1:3]
    assert once(repeated) == frames
    assert check(messages, once(repeated)).counts == CLEAN
    renumbered = frames[4]._replace(number=6)
    assert check(messages, [*frames, renumbered]).double == [renumbered]
    rows = [Row(frame.identity) for frame in frames]
    assert check(messages, frames, rows=[*rows, rows[0]]).double == [rows[0]]


def test_reordered_is_what_is_stored_after_what_was_sent_later() -> None:
    messages = messages_sent(5)
    frames = kept(messages)
    late = [frames[0], frames[2], frames[1], *frames[3:]]
    assert check(messages, late).reordered == [frames[1]]
    numbered_wrongly = kept([messages[0], messages[2], messages[1], *messages[3:]])
    assert check(messages, numbered_wrongly).reordered == [numbered_wrongly[2]]


def test_unreported_is_an_outage_that_the_ledger_does_not_have() -> None:
    first, second = messages_sent(10), messages_sent(10, 2, at=90)
    frames = kept(first) + kept(second, "ticker-0-b", epoch=2)
    [hole] = check(first + second, frames).unreported
    assert (hole.start - T, hole.stop) == (SECOND + LAG, second[0].time + LAG)
    assert check(first + second, frames, gaps=[gap(1.5, 90.5)]).counts == CLEAN
    assert wrong(check(first + second, frames, gaps=[gap(1, 80)])) == {"unreported": 1, "overreported": 1}
    assert wrong(check(first + second, frames, gaps=[gap(1, None)])) == {"unreported": 1, "overreported": 1}


def test_a_hole_with_two_causes_is_two_gaps_that_adjoin() -> None:
    first, second = messages_sent(10), messages_sent(10, 2, at=90)
    frames = kept(first) + kept(second, "ticker-0-b", epoch=2)
    assert check(first + second, frames, gaps=[gap(1.5, 40), gap(40, 90.5)]).counts == CLEAN
    assert wrong(check(first + second, frames, gaps=[gap(1.5, 40), gap(41, 90.5)])) == {
        "unreported": 1,
        "overreported": 2,
    }


def test_two_holes_with_one_frame_between_them_are_two_gaps_that_adjoin() -> None:
    first, only, third = messages_sent(10), messages_sent(1, 2, at=20), messages_sent(10, 3, at=40)
    frames = kept(first) + kept(only, "ticker-0-b") + kept(third, "ticker-0-c")
    at = 20.1 + LAG / SECOND
    assert check(first + only + third, frames, gaps=[gap(1, at), gap(at, 40.1)]).counts == CLEAN
    assert check(first + only + third, frames, gaps=[gap(1, at), gap(at, 45)]).overreported != []


def test_a_gap_goes_on_over_a_connection_that_says_only_that_it_is_alive() -> None:
    first, alive, third = messages_sent(10), messages_sent(10, 2, at=20), messages_sent(10, 3, at=40)
    frames = kept(first) + kept(alive, "ticker-0-b") + kept(third, "ticker-0-c")
    served = third[0].time + LAG
    sent = first + alive + third
    assert check(sent, frames, gaps=[gap(1, 40.1)], served=lambda *_: served).counts == CLEAN
    assert check(sent, frames, gaps=[gap(1, 30)], served=lambda *_: served).unreported != []
    assert len(check(sent, frames, gaps=[gap(25, 40.1)], served=lambda *_: served).unreported) == 2


def test_a_gap_lasts_where_the_exchange_speaks_again_but_serves_nothing_before_the_end() -> None:
    first, second = messages_sent(10), messages_sent(10, 2, at=90)
    frames = kept(first) + kept(second, "ticker-0-b", epoch=2)
    lasting = gap(1, None)
    assert check(first + second, frames, gaps=[lasting], served=lambda *_: NEVER).counts == CLEAN
    assert wrong(check(first + second, frames, gaps=[lasting])) == {"unreported": 1, "overreported": 1}


def test_a_gap_of_trades_may_end_where_answers_over_rest_begin() -> None:
    first, second = messages_sent(10), messages_sent(10, 2, at=90)
    frames = kept(first) + kept(second, "ticker-0-b", epoch=2)
    filled = msgspec.structs.replace(gap(1, 60), reason="killed; REST reaches back to 60 only")
    assert check(first + second, frames, gaps=[filled]).counts == CLEAN


def test_an_outage_may_be_said_to_begin_when_it_was_noticed() -> None:
    first, second = messages_sent(10), messages_sent(10, 2, at=90)
    closed = kept(first)[-1]._replace(time=T + 16 * SECOND, hash=None, kind=Kind.CLOSED)
    frames = [*kept(first), closed, *kept(second, "ticker-0-b")]
    for start in (1, 16):
        assert check(first + second, frames, gaps=[gap(start, 90)]).counts == CLEAN
    assert wrong(check(first + second, frames, gaps=[gap(18, 90)])) == {"unreported": 1, "overreported": 1}


def test_a_successor_that_speaks_before_its_predecessor_ends_leaves_no_hole() -> None:
    first, second = messages_sent(20), messages_sent(20, 2, at=1)
    assert check(first + second, kept(first) + kept(second, "ticker-0-b")).counts == CLEAN
    shards = kept(first) + kept(second, "ticker-1-b")
    assert check(first + second, shards).counts == CLEAN


def test_what_was_lost_at_the_end_must_be_in_the_ledger_and_a_plain_end_may() -> None:
    messages = messages_sent(10)
    assert check(messages, kept(messages), gaps=[gap(1, None)]).counts == CLEAN
    assert wrong(check(messages, kept(messages[:8]))) == {"lost": 2, "unreported": 1}
    assert check(messages, kept(messages[:8]), gaps=[gap(0.8, None)]).counts == CLEAN


def test_overreported_is_a_gap_without_a_hole() -> None:
    messages = messages_sent(50)
    assert check(messages, kept(messages), gaps=[gap(2, 3)]).overreported == [gap(2, 3)]


def test_a_hole_that_was_made_on_purpose_must_be_reported_for_its_pair() -> None:
    messages = messages_sent(50)
    made = Hole("okx", Channel.TICKER, BOOK, T + 2 * SECOND, T + 2 * SECOND, T + 4 * SECOND)
    assert check(messages, kept(messages), made=[made]).unreported == [made]
    assert check(messages, kept(messages), made=[made], gaps=[gap(2, 4, pair=BOOK)]).counts == CLEAN
    other = gap(2, 4, pair=Pair("ETH", "USDT"))
    assert wrong(check(messages, kept(messages), made=[made], gaps=[other])) == {"unreported": 1, "overreported": 1}


@given(st.sets(st.integers(0, 29)), st.integers(1, 3))
def test_of_any_history_exactly_what_was_taken_out_is_lost(missing: set[int], hashes: int) -> None:
    messages = [message._replace(hash=f"{message.number // hashes}") for message in messages_sent(30)]
    frames = kept([message for at, message in enumerate(messages) if at not in missing])
    findings = check(messages, frames)
    assert len(findings.lost) == len(missing)
    assert (findings.phantom, findings.double, findings.reordered) == ([], [], [])


@pytest.mark.parametrize("name", CLEAN)
def test_the_findings_are_counted_by_name(name: str) -> None:
    findings = Findings([], [], [], [], [], [])
    getattr(findings, name).append("x")
    assert findings.counts == CLEAN | {name: 1}
