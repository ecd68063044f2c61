"""The decisions of a session, with a toy exchange and time that is only a number."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.collect.actions import Failed, Fetch, Leave, Lost, Restored, Rotate, Send
from coin_platform.collect.pauses import LIVELY_EVENTS, MANY_PAIRS
from coin_platform.collect.session import ANSWER_SECONDS, Session
from coin_platform.exchanges.base import Request
from coin_platform.exchanges.kraken import Kraken
from coin_platform.exchanges.upbit import Upbit
from coin_platform.model import (
    BookUpdate,
    Cause,
    Channel,
    Control,
    Frame,
    Level,
    Notice,
    Pair,
    Proof,
    Refusal,
    Refused,
    Subscribed,
)
from coin_platform.records import Checkpoint
from tests.kit.kraken import SNAPSHOT, UPDATES
from tests.kit.toy import (
    A,
    B,
    Bridged,
    C,
    Strict,
    Talk,
    Toy,
    Whole,
    at,
    final,
    later,
    raw,
    snapshot,
    ticker,
    update,
)


def test_a_new_connection_asks_for_everything() -> None:
    talk = Talk(Toy(), A, B, C)
    assert talk.first == [Send("+A B"), Send("+C")]
    assert talk.session.unconfirmed == {A, B, C}
    assert talk.session.pairs == (A, B, C)
    assert Talk(Toy()).first == []


def test_only_differences_are_sent_while_it_is_open() -> None:
    session = Session(Toy(), Channel.TICKER, [A])
    assert session.follow([A, B], at(0)) == []  # not open yet
    assert session.served == frozenset()
    assert session.opened(at(0)) == [Send("+A B")]
    assert session.follow([B, A], at(1)) == []
    assert session.follow([B, C], at(2)) == [Send("-A"), Send("+C")]
    assert session.follow([B], at(3)) == [Send("-C")]
    assert (session.pairs, session.unconfirmed) == ((B,), frozenset({B}))


def test_where_a_subscription_replaces_the_former_one_the_whole_set_is_sent() -> None:
    session = Session(Upbit(), Channel.TICKER, [A])
    codes = [str(action) for action in session.opened(at(0))]
    assert '"codes":["USD-A"]' in codes[0]
    [both] = session.follow([A, B], at(1))
    assert '"codes":["USD-A","USD-B"]' in str(both)
    [one] = session.follow([B], at(2))
    assert '"codes":["USD-B"]' in str(one)
    assert session.follow([], at(3)) == []  # nothing to say; the connection is closed


def test_answers_confirm_by_pair_or_by_request_and_so_does_data() -> None:
    talk = Talk(Toy(), A, B, C)
    talk.hear(Subscribed(request=1))
    assert talk.session.unconfirmed == {C}
    talk.hear(Subscribed(request=99))
    talk.hear(Subscribed())
    assert talk.session.unconfirmed == {C}
    talk.hear(Subscribed(pair=C))
    assert talk.session.unconfirmed == frozenset()
    other = Talk(Toy(), A, B)
    other.hear(ticker(A))
    assert other.session.unconfirmed == {B}
    assert other.tick(ANSWER_SECONDS + 1) == [
        Failed(B, "no answer in 10 s: is it a pair of this exchange?", Refusal.TEMPORARY)
    ]


def test_heartbeats_and_what_cannot_be_read_change_nothing_but_a_count() -> None:
    talk = Talk(Toy(), A)
    assert talk.hear(Control(name="pong")) == []
    assert talk.session.received(raw("no number"), at(1)) == []
    assert (talk.session.traffic.undecodable, talk.session.unconfirmed) == (1, frozenset({A}))


def test_an_announced_end_asks_for_a_successor() -> None:
    assert Talk(Toy(), A).hear(Notice(reason="maintenance")) == [Rotate("maintenance")]


def test_a_refusal_that_names_its_pair_fails_that_pair_alone() -> None:
    talk = Talk(Toy(), A, B)
    failed = Failed(A, "unknown", Refusal.FINAL)
    assert talk.hear(final(A)) == [failed]
    assert (talk.session.refused, talk.session.unconfirmed) == ({A: failed}, frozenset({B}))
    assert talk.hear(final(C)) == []  # not one of ours any more
    assert talk.session.refused == {A: failed}
    assert talk.hear(final(A)) == []  # said once
    assert talk.tick(3600) == [
        Failed(B, "no answer in 10 s: is it a pair of this exchange?", Refusal.TEMPORARY)
    ]  # A is not asked for again


def test_a_refusal_of_a_request_of_one_pair_fails_that_pair() -> None:
    talk = Talk(Toy(), A, B, C)
    assert talk.hear(final(request=2)) == [Failed(C, "unknown")]
    assert talk.session.unconfirmed == {A, B}


def test_a_refusal_that_names_nothing_explains_the_pairs_that_stay_unconfirmed() -> None:
    talk = Talk(Toy(), A, B)
    assert talk.hear(Refused(reason="60018: wrong URL")) == []
    talk.hear(Subscribed(pair=A))
    assert talk.tick(ANSWER_SECONDS) == []
    assert talk.tick(ANSWER_SECONDS + 0.1) == [
        Failed(B, "no answer in 10 s (60018: wrong URL): is it a pair of this exchange?", Refusal.TEMPORARY)
    ]
    assert talk.tick(ANSWER_SECONDS + 1) == []


def test_where_one_bad_pair_refuses_all_the_others_are_asked_for_again() -> None:
    talk = Talk(Strict(), A, B)
    assert talk.hear(final(A, 1), after=9) == [Failed(A, "unknown"), Send("+B")]
    assert talk.tick(ANSWER_SECONDS + 1) == []  # B's time runs from the second request
    talk.hear(Subscribed(request=2))
    assert talk.session.unconfirmed == frozenset()


def test_where_all_are_refused_without_a_name_each_is_asked_for_alone() -> None:
    talk = Talk(Strict(), A, B)
    assert talk.hear(final(request=1)) == [Send("+A"), Send("+B")]
    assert talk.hear(final(request=2)) == [Failed(A, "unknown")]
    talk.hear(Subscribed(request=3))
    assert (talk.session.refused, talk.session.unconfirmed) == ({A: Failed(A, "unknown")}, frozenset())
    assert talk.hear(final(request=1)) == []  # answered already


def test_data_that_comes_late_makes_a_failed_pair_good() -> None:
    talk = Talk(Toy(), A)
    assert talk.tick(ANSWER_SECONDS + 1) != []
    talk.hear(ticker(A), after=20)
    assert talk.session.refused == {}


def test_a_pair_that_is_asked_for_again_is_not_refused_until_it_is_again() -> None:
    talk = Talk(Toy(), A)
    talk.hear(final(A))
    talk.session.follow([], at(1))
    assert talk.session.refused == {}
    assert talk.session.follow([A], at(2)) == [Send("+A")]
    assert talk.session.unconfirmed == {A}


def test_F1_a_gap_is_noticed_at_the_next_message_and_only_its_pair_is_lost() -> None:
    talk = Talk(Toy(), A, B)
    talk.hear(snapshot(A, 5), snapshot(B, 7))
    assert talk.hear(update(A, 6), after=20) == []
    assert talk.hear(update(A, 8), after=21) == [
        Lost(A, "A-USD: wanted an update from 7, got one from 8"),
        Send("-A"),
        Send("+A"),
    ]
    assert talk.session.invalid == {A}
    assert talk.hear(update(B, 8), after=21) == []


def test_a_snapshot_restores_a_lost_book_and_makes_it_fresh() -> None:
    talk = Talk(Toy(), A)
    talk.hear(snapshot(A, 5))
    assert talk.session.take_fresh() == {A}
    talk.hear(update(A, 9), after=20)
    assert (talk.session.invalid, talk.session.take_fresh()) == (frozenset({A}), frozenset())
    assert talk.hear(snapshot(A, 20), after=21) == [Restored(A)]
    assert (talk.session.invalid, talk.session.fresh) == (frozenset(), {A})
    assert talk.hear(snapshot(A, 30), after=22) == []  # it was not lost


def test_F2_a_thousand_bad_updates_a_second_cause_one_resync_in_ten_seconds() -> None:
    talk = Talk(Toy(), A, B)
    talk.hear(snapshot(A, 5), snapshot(B, 5))
    actions = [
        action for step in range(11_000) for action in talk.hear(update(A, 9 + 2 * step), after=20 + step / 1000)
    ]
    assert actions.count(Send("+A")) == 2  # at 20 s and at 30 s
    assert [action for action in actions if isinstance(action, Lost)] == actions[:1]
    assert (talk.session.invalid, talk.session.unconfirmed) == (frozenset({A}), frozenset())


def test_F2_a_lost_book_is_asked_for_again_although_nothing_comes() -> None:
    talk = Talk(Toy(), A)
    talk.hear(snapshot(A, 5))
    talk.hear(update(A, 9), after=20)
    assert talk.tick(29.9) == []
    assert talk.tick(30) == [Send("-A"), Send("+A")]


def test_the_snapshot_of_a_subscription_is_waited_for_before_it_is_asked_for_again() -> None:
    talk = Talk(Toy(), A)
    assert talk.hear(update(A, 3), after=1) == []
    assert talk.hear(update(A, 4), after=ANSWER_SECONDS) == [Send("-A"), Send("+A")]


def test_a_bridged_book_is_fetched_once_and_continues_with_what_was_buffered() -> None:
    talk = Talk(Bridged(), A)
    assert talk.hear(update(A, 8)) == [Fetch(A, "https://toy/A")]
    assert talk.hear(update(A, 9), after=1) == []
    assert talk.hear(snapshot(A, 8), after=2, rest=A) == []
    assert talk.session.take_fresh() == {A}
    [checkpoint] = talk.session.checkpoints()
    assert (checkpoint.sequence, checkpoint.bids[0].size) == (9, 9.0)
    assert talk.hear(update(A, 20), after=12) == [
        Lost(A, "A-USD: wanted an update from 10, got one from 20"),
        Fetch(A, "https://toy/A"),
    ]


def test_a_book_that_rest_refuses_stays_lost_and_is_asked_for_when_it_is_due() -> None:
    talk = Talk(Bridged(), A)
    talk.hear(update(A, 8))
    assert talk.hear(Refused(pair=A, reason="busy"), after=1, rest=A) == [
        Lost(A, "no book over REST: busy", Cause.NO_BOOK)
    ]
    assert talk.session.refused == {}
    assert talk.tick(5) == []
    assert talk.tick(ANSWER_SECONDS) == [Fetch(A, "https://toy/A")]
    assert talk.hear(snapshot(A, 8), after=11, rest=A) == [Restored(A)]


def test_an_answer_for_a_pair_that_was_dropped_meanwhile_is_nothing() -> None:
    talk = Talk(Bridged(), A, B)
    talk.hear(update(A, 8))
    talk.session.follow([B], at(1))
    assert talk.hear(Refused(pair=A, reason="busy"), after=2, rest=A) == []
    assert talk.hear(snapshot(A, 8), after=2, rest=A) == []
    assert list(talk.session.checkpoints()) == []
    assert talk.tick(9) == []


def test_checkpoints_are_the_books_that_can_be_trusted_of_all_pairs_or_some() -> None:
    talk = Talk(Toy(), A, B, C)
    talk.hear(snapshot(A, 5), snapshot(B, 7), snapshot(C, 1))
    talk.hear(update(C, 9))
    assert list(talk.session.checkpoints()) == [Checkpoint.of(snapshot(A, 5)), Checkpoint.of(snapshot(B, 7))]
    assert list(talk.session.checkpoints(frozenset({B, C}))) == [Checkpoint.of(snapshot(B, 7))]


def test_a_dropped_pair_leaves_nothing_behind() -> None:
    talk = Talk(Toy(), A, B)
    talk.hear(snapshot(A, 5), snapshot(B, 5))
    talk.hear(update(A, 9))
    talk.session.follow([B], at(1))
    assert (talk.session.invalid, talk.session.fresh, talk.session.pairs) == (frozenset(), {B}, (B,))
    assert talk.tick(60) == []


def test_whole_books_are_not_kept() -> None:
    talk = Talk(Whole(), A)
    assert talk.hear(Subscribed(pair=A, depth=10), snapshot(A, 5)) == []
    assert list(talk.session.checkpoints()) == []
    assert (talk.session.invalid, talk.session.is_complete) == (frozenset(), True)


def test_the_depth_that_was_granted_is_kept_to() -> None:
    talk = Talk(Toy(), A)
    talk.hear(Subscribed(pair=A, depth=1), Subscribed(pair=C, depth=1))
    bids = [Level(9.0, 1.0), Level(8.0, 1.0)]
    talk.hear(BookUpdate(pair=A, is_snapshot=True, bids=bids, asks=[], last_sequence=1))
    [checkpoint] = talk.session.checkpoints()
    assert (checkpoint.depth, [level.price for level in checkpoint.bids]) == (1, [9.0])


def test_a_connection_is_complete_when_every_pair_has_data_or_is_refused() -> None:
    talk = Talk(Toy(), A, B, C)
    talk.hear(Subscribed(pair=A))
    assert (talk.session.has_data, talk.session.is_complete) == (False, False)
    talk.hear(snapshot(A, 5), update(B, 1))
    talk.hear(final(C))
    assert (talk.session.has_data, talk.session.is_complete) == (True, False)  # B has no book yet
    talk.hear(snapshot(B, 5))
    assert talk.session.is_complete


def test_requests_without_an_id_are_confirmed_by_pair() -> None:
    class Plain(Toy):
        numbers = False

    talk = Talk(Plain(), A, B)
    assert talk.hear(Subscribed(request=1)) == []
    assert talk.session.unconfirmed == {A, B}


def test_the_recorded_kraken_book_holds_and_one_forged_digit_is_noticed() -> None:
    session = Session(Kraken(), Channel.ORDERBOOK, [Pair("BTC", "USD")])
    session.opened(at(0))
    for text in [SNAPSHOT, *UPDATES]:
        assert session.received(raw(text, name="kraken"), at(20)) == []
    assert session.is_complete
    forged = UPDATES[0].replace('"checksum":', '"checksum":1')
    [lost, unsubscribed, subscribed] = session.received(raw(forged, name="kraken"), at(21))
    assert isinstance(lost, Lost)
    assert "checksum" in lost.reason
    assert '"unsubscribe"' in str(unsubscribed)
    assert '"subscribe"' in str(subscribed)


PAIRS = st.lists(st.sampled_from([A, B, C, Pair("D", "USD")]), unique=True)


@pytest.mark.parametrize("replaces", [False, True])
@given(start=PAIRS, changes=st.lists(PAIRS, max_size=6))
def test_what_the_exchange_was_asked_for_is_what_is_wanted(
    replaces: bool, start: list[Pair], changes: list[list[Pair]]
) -> None:
    class Either(Toy):
        """An exchange that asks for all pairs in one request, so that a replacing subscription is one message."""

        def _ask(self, sign: str, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
            if not (replaces and sign == "-"):
                yield Request(sign + " ".join(pair.base for pair in pairs), tuple(pairs), id)

    Either.replaces_subscription = replaces
    session = Session(Either(), Channel.TICKER, start)
    carried: set[str] = set()
    actions = session.opened(at(0))
    for number, pairs in enumerate([start, *changes]):
        if number:
            actions = session.follow(pairs, at(number))
        for action in actions:
            assert isinstance(action, Send)
            names = set(action.payload[1:].split())
            assert names  # nobody asks for nothing
            if action.payload[0] == "+":
                carried = names if replaces else carried | names
            else:
                carried -= names
        if pairs or not replaces:
            assert carried == {pair.base for pair in pairs}
        assert session.unconfirmed == set(pairs)


STEPS = st.lists(
    st.tuples(st.sampled_from(["good", "gap", "snapshot", "tick"]), st.floats(0, 12, allow_nan=False)), max_size=60
)


@given(STEPS)
def test_F2_losses_and_restorations_alternate_and_resyncs_keep_their_distance(
    steps: list[tuple[str, float]],
) -> None:
    talk, time, sequence, asked, is_lost = Talk(Toy(), A), 0.0, 1, 0.0, False
    talk.hear(snapshot(A, sequence))
    for step, pause in steps:
        time += pause
        sequence += 5 if step == "gap" else 1
        match step:
            case "tick":
                actions = talk.tick(time)
                sequence -= 1
            case "snapshot":
                actions = talk.hear(snapshot(A, sequence), after=time)
            case _:
                actions = talk.hear(update(A, sequence), after=time)
        for action in actions:
            match action:
                case Lost():
                    assert not is_lost
                    is_lost = True
                case Restored():
                    assert is_lost
                    is_lost = False
                case Send("+A"):
                    assert is_lost
                    assert time - asked >= ANSWER_SECONDS - 1e-6
                    asked = time
        assert talk.session.invalid == ({A} if is_lost else frozenset())


def test_B11_news_of_a_pair_that_nobody_asked_for_are_counted_and_are_nobodys() -> None:
    talk = Talk(Toy(), A)
    assert talk.hear(ticker(C), snapshot(C, 5)) == []
    assert (talk.session.traffic.unasked, talk.session.has_data) == (2, False)
    assert talk.session.unconfirmed == {A}
    assert list(talk.session.checkpoints()) == []


# what a refusal concerns, and how long it lasts


def test_R2_a_pair_that_is_refused_for_the_moment_is_asked_for_again_for_as_long_as_it_is_wanted() -> None:
    talk, waits = Talk(Toy(), A, B), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    talk.hear(Subscribed(pair=B))
    time = 0.0
    for number, wait in enumerate(waits):
        refused = talk.hear(later(A), after=time)
        assert refused == ([Failed(A, "busy", Refusal.TEMPORARY)] if not number else [])  # said once
        assert talk.session.refused_now == {A}
        assert talk.tick(time + wait - 0.01) == []
        time += wait
        assert talk.tick(time) == [Send("+A")]
        assert talk.session.refused_now == {A}, "until it is answered"
    assert talk.hear(snapshot(A, 5), after=time + 1) == []
    assert not talk.session.refused
    assert talk.session.served == {A, B}
    talk.hear(later(A), after=time + 2)
    assert talk.tick(time + 3) == [Send("+A")], "what was refused before is forgotten"
    talk.session.follow([B], at(time + 4))
    assert talk.tick(time + 3600) == []


def test_R2_a_pair_without_an_answer_is_asked_for_again_and_never_refused_for_good() -> None:
    talk, asked, time = Talk(Toy(), A), 0, 0.0
    while time < 600:
        time += 1
        actions = talk.tick(time)
        asked += actions.count(Send("+A"))
        assert all(failed.refusal is Refusal.TEMPORARY for failed in talk.session.refused.values())
    assert 10 <= asked <= 20  # a minute and the time for an answer between two
    assert talk.hear(Subscribed(pair=A), after=time) == []
    assert talk.session.refused == {}


def test_R2_during_a_ban_nothing_is_asked_for_again() -> None:
    talk = Talk(Toy(), A)
    talk.hear(later(A, ban=600.0))
    assert [talk.tick(after) for after in (60, 599)] == [[], []]
    assert talk.tick(600) == [Send("+A")]


@pytest.mark.parametrize("exchange", [Toy, Bridged])
def test_R2_a_lost_book_whose_pair_is_refused_is_asked_for_when_its_refusal_says(exchange: type[Toy]) -> None:
    talk = Talk(exchange(), A)
    talk.hear(snapshot(A, 5), rest=A if exchange.is_bridged else None)
    assert talk.hear(update(A, 9), after=20)[1:] in ([Send("-A"), Send("+A")], [Fetch(A, "https://toy/A")])
    talk.hear(later(A, ban=600.0), after=21)
    assert [talk.tick(after) for after in (31, 60, 600)] == [[], [], []]
    assert talk.tick(621) == [Send("+A")]
    talk.hear(final(A), after=622)
    assert talk.tick(3600) == []


def test_R2_a_refusal_of_the_whole_connection_leaves_it() -> None:
    talk = Talk(Toy(), A, B)
    refused = Refused(reason="too many connections", refusal=Refusal.CONNECTION)
    assert talk.hear(refused) == [Leave("too many connections")]
    assert talk.session.refused == {}


def test_R2_a_pair_that_is_refused_for_the_moment_does_not_drop_those_it_was_asked_for_with() -> None:
    named = Talk(Strict(), A, B)
    assert named.hear(later(A, 1)) == [Failed(A, "busy", Refusal.TEMPORARY), Send("+B")]
    talk = Talk(Strict(), A, B)
    assert talk.hear(later(request=1)) == [Failed(pair, "busy", Refusal.TEMPORARY) for pair in (A, B)]
    assert talk.tick(1) == [Send("+A"), Send("+B")], "each alone, for nobody says which of them is meant"
    talk.hear(Subscribed(request=3))
    talk.hear(later(request=2), after=2)
    assert talk.session.served == {B}
    assert talk.session.refused_now == {A}
    banned = Talk(Strict(), A, B)
    banned.hear(later(A, 1, ban=60.0))
    assert banned.session.refused_now == {A, B}
    assert banned.tick(59) == []


@pytest.mark.parametrize("refusal", [Refusal.FINAL, Refusal.TEMPORARY])
def test_R2_a_connection_whose_pairs_are_all_refused_is_not_complete(refusal: Refusal) -> None:
    talk = Talk(Toy(), A, B)
    assert talk.session.served == frozenset()
    talk.hear(Refused(pair=A, reason="no", refusal=refusal), Refused(pair=B, reason="no", refusal=refusal))
    assert (talk.session.served, talk.session.is_complete) == (frozenset(), False)
    talk.hear(snapshot(B, 5))
    assert talk.session.served == {B}
    assert talk.session.is_complete == (refusal is Refusal.FINAL)


def test_R2_where_a_subscription_replaces_the_former_one_an_attempt_asks_for_all() -> None:
    class Replacing(Toy):
        replaces_subscription = True

    talk = Talk(Replacing(), A, B)
    talk.hear(Subscribed(pair=B), later(A))
    assert talk.tick(1) == [Send("+A B")]
    assert talk.session.unconfirmed == frozenset()


# books that nothing proves


class Unproved(Toy):
    """An exchange whose changes have neither a number nor a checksum."""

    proof = Proof.NONE


def garbage(*pairs: Pair) -> Frame:
    return raw("{" + " ".join(f'"{pair}"' for pair in pairs))


def test_R4_a_change_that_cannot_be_read_costs_the_book_of_its_pair_its_trust() -> None:
    talk = Talk(Unproved(), A, B)
    talk.hear(snapshot(A, 5), snapshot(B, 5))
    [lost, *asked] = talk.session.received(garbage(A), at(20))
    assert isinstance(lost, Lost)
    assert (lost.pair, lost.cause) == (A, Cause.UNREADABLE)
    assert asked == [Send("-A"), Send("+A")]
    assert talk.session.invalid == {A}
    assert [checkpoint.pair for checkpoint in talk.session.checkpoints()] == [str(B)]
    talk.hear(update(A, 6), after=21)
    assert talk.session.invalid == {A}, "until its next snapshot"
    assert talk.hear(snapshot(A, 7), after=22) == [Restored(A)]
    assert talk.session.take_fresh() == {A, B}


def test_R4_what_may_be_about_any_pair_costs_all_books_their_trust() -> None:
    for frame in (raw("nonsense"), garbage(A, B), raw('"A-USD"' + "x" * (1 << 20))):
        talk = Talk(Unproved(), A, B)
        talk.hear(snapshot(A, 5), snapshot(B, 5))
        actions = talk.session.received(frame, at(20))
        assert {action.pair for action in actions if isinstance(action, Lost)} == {A, B}
        assert talk.session.invalid == {A, B}


def test_R4_a_flood_of_what_cannot_be_read_asks_for_each_book_once_in_ten_seconds() -> None:
    talk, sent = Talk(Unproved(), A), 0
    talk.hear(snapshot(A, 5))
    for step in range(3000):
        time = 20 + step / 100
        actions = talk.session.received(garbage(A), at(time)) + talk.tick(time)
        sent += actions.count(Send("+A"))
        if Send("+A") in actions:
            talk.hear(snapshot(A, step), after=time)
    assert sent == 3


@pytest.mark.parametrize(("exchange", "channel"), [(Toy, Channel.ORDERBOOK), (Unproved, Channel.TICKER)])
def test_R4_where_the_next_message_reveals_a_loss_nothing_is_lost_before(exchange: type[Toy], channel: Channel) -> None:
    talk = Talk(exchange(), A, channel=channel)
    talk.hear(snapshot(A, 5))
    assert talk.session.received(garbage(A), at(20)) == []


# quiet markets


def pairs_of(count: int) -> list[Pair]:
    return [Pair(f"Q{number}", "USD") for number in range(count)]


def test_R10_a_few_quiet_pairs_may_be_mute_for_as_long_as_the_connection_is_proved() -> None:
    talk = Talk(Toy(), *pairs_of(MANY_PAIRS - 1))
    assert talk.session.mute_limit_seconds == Toy.mute_seconds, "a subscription that has brought nothing at all is none"
    talk.hear(*(snapshot(pair, 1) for pair in talk.session.pairs))
    assert talk.session.mute_limit_seconds == float("inf")


def test_R10_many_pairs_that_fall_silent_together_are_a_dead_connection() -> None:
    talk = Talk(Toy(), *pairs_of(MANY_PAIRS))
    talk.hear(*(snapshot(pair, 1) for pair in talk.session.pairs))
    assert talk.session.mute_limit_seconds == Toy.mute_seconds
    talk.hear(final(Pair("Q0", "USD")))
    assert talk.session.mute_limit_seconds == float("inf"), "one of them is not served"


def test_R10_a_few_lively_pairs_may_be_mute_for_ten_times_their_longest_pause() -> None:
    talk = Talk(Toy(), A)
    for number in range(LIVELY_EVENTS - 1):
        talk.hear(snapshot(A, number), after=number / 10)
    assert talk.session.mute_limit_seconds == float("inf")
    talk.hear(snapshot(A, LIVELY_EVENTS), after=100)
    assert talk.session.mute_limit_seconds == Toy.mute_seconds
    talk.hear(snapshot(A, LIVELY_EVENTS), after=130)
    assert talk.session.mute_limit_seconds == pytest.approx(300.0)


def test_a_book_is_proved_while_it_is_valid_and_what_is_asked_for_again_is_counted() -> None:
    talk = Talk(Toy(), A, B)
    talk.hear(Subscribed(pair=A), Subscribed(pair=B), snapshot(A, 5))
    assert (talk.session.proved, talk.session.traffic.resyncs) == (frozenset({A}), 0)
    talk.hear(update(A, 9), after=20)
    assert (talk.session.proved, talk.session.traffic.resyncs) == (frozenset(), 1)
    talk.hear(snapshot(A, 10), after=21)
    assert (talk.session.proved, talk.session.traffic.resyncs) == (frozenset({A}), 1)


def test_the_first_request_for_a_book_over_rest_is_no_resync() -> None:
    talk = Talk(Bridged(), A)
    talk.hear(Subscribed(pair=A), update(A, 6))
    assert talk.session.traffic.resyncs == 0
    talk.tick(ANSWER_SECONDS + 1)
    talk.hear(update(A, 7), after=ANSWER_SECONDS + 1)
    assert talk.session.traffic.resyncs == 1


def test_whole_books_are_proved_by_each_message_and_books_that_nothing_proves_never() -> None:
    talk = Talk(Whole(), A, B)
    talk.hear(Subscribed(pair=A), Subscribed(pair=B), snapshot(A, 5))
    assert talk.session.proved == {A}
    unproved = Talk(Unproved(), A)
    unproved.hear(Subscribed(pair=A), snapshot(A, 5))
    assert unproved.session.proved == frozenset()


def test_the_time_of_the_last_data_of_a_pair_is_known_once_it_has_some() -> None:
    talk = Talk(Toy(), A, B)
    talk.hear(Subscribed(pair=A), Subscribed(pair=B))
    assert talk.session.news_times(at(1)) == {}
    talk.hear(snapshot(A, 5), after=2)
    assert talk.session.news_times(at(5)) == {A: at(2).wall}
