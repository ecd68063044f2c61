"""The ladder moves down at once and up with patience, and what it shows is what is used."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coin_platform.serve.feed.ladder import MOST_MOVES, Ladder, LadderTimes, Rung, Service

KAFKA, REDIS, LOCAL = Service.KAFKA, Service.REDIS, Service.LOCAL
TIMES = LadderTimes()


class Tried:
    """A ladder, and a clock that stands still unless a test moves it."""

    def __init__(self, *services: Service) -> None:
        self.ladder, self.now = Ladder(services or (KAFKA, REDIS, LOCAL)), 1000.0

    def note(self, *services: Service, failure: str = "", after: float = 0.0) -> Rung:
        self.now += after
        for service in services:
            self.ladder.note(service, self.now, int(self.now * 1_000_000), failure)
        return self.ladder.rung

    def start(self) -> "Tried":
        self.note(*self.ladder._probed)
        return self

    def fail(self, service: Service) -> Rung:
        self.note(service, failure=f"{service} is away", after=1)
        return self.note(service, failure=f"{service} is away", after=1)

    def recover(self, service: Service, seconds: float = 16.0) -> Rung:
        self.note(service)
        for _ in range(4):
            self.note(service, after=seconds / 4)
        return self.ladder.rung


def test_C5_the_first_probes_decide_where_the_feed_begins() -> None:
    tried = Tried()
    assert tried.note(REDIS, LOCAL) is Rung.NONE, "kafka was not asked yet, and may be there"
    assert tried.note(KAFKA) is Rung.KAFKA_REDIS
    [move] = tried.ladder.moves
    assert (move.before, move.after, move.reason) == (Rung.NONE, Rung.KAFKA_REDIS, "start")
    tried = Tried()
    tried.note(KAFKA, failure="kafka is away")
    assert tried.note(REDIS, LOCAL) is Rung.REDIS
    assert tried.ladder.moves[-1].reason == "start; kafka: kafka is away"


def test_C5_two_bad_probes_within_five_seconds_lead_down_at_once() -> None:
    tried = Tried().start()
    assert tried.note(KAFKA, failure="x") is Rung.KAFKA_REDIS
    assert tried.note(KAFKA, failure="x", after=5.1) is Rung.KAFKA_REDIS, "the first one is too long ago"
    assert tried.note(KAFKA, failure="kafka is away", after=4.9) is Rung.REDIS
    assert tried.fail(REDIS) is Rung.LOCAL
    assert tried.fail(LOCAL) is Rung.LOCAL, "there is nowhere else to go"
    assert tried.ladder.reasons() == "kafka: kafka is away; redis: redis is away; local: local is away"
    assert [move.after for move in tried.ladder.moves] == [Rung.KAFKA_REDIS, Rung.REDIS, Rung.LOCAL]


def test_C5_a_good_probe_in_between_begins_the_count_of_bad_ones_anew() -> None:
    tried = Tried().start()
    tried.note(KAFKA, failure="x", after=1)
    tried.note(KAFKA, after=1)
    assert tried.note(KAFKA, failure="x", after=1) is Rung.KAFKA_REDIS


def test_C5_a_move_up_takes_three_good_probes_over_fifteen_seconds_and_thirty_after_the_last_move() -> None:
    tried = Tried().start()
    assert tried.fail(KAFKA) is Rung.REDIS
    moved = tried.now
    assert tried.note(KAFKA, after=1) is Rung.REDIS
    assert tried.note(KAFKA, after=1) is Rung.REDIS
    assert tried.note(KAFKA, after=13.9) is Rung.REDIS and not tried.ladder.is_up(KAFKA), "not fifteen seconds yet"
    assert tried.note(KAFKA, after=0.2) is Rung.REDIS and tried.ladder.is_up(KAFKA)
    assert tried.note(KAFKA, after=moved + 29.9 - tried.now) is Rung.REDIS
    assert tried.note(KAFKA, after=0.2) is Rung.KAFKA_REDIS
    assert tried.ladder.moves[-1].reason == "up again: kafka and redis"


def test_C5_while_nothing_is_up_the_first_service_that_is_back_is_taken_at_once() -> None:
    tried = Tried(KAFKA, REDIS).start()
    tried.fail(KAFKA)
    assert tried.fail(REDIS) is Rung.REDIS
    assert tried.recover(KAFKA) is Rung.KAFKA, "though the last move was made 16 seconds ago"
    assert tried.recover(REDIS) is Rung.KAFKA, "a move up waits again"
    assert tried.recover(REDIS) is Rung.KAFKA_REDIS


def test_C5_a_feed_that_starts_while_nothing_is_up_tries_kafka() -> None:
    tried = Tried()
    assert tried.note(KAFKA, REDIS, LOCAL, failure="away") is Rung.KAFKA
    assert tried.ladder.moves[-1].reason == "start; kafka: away; redis: away; local: away"
    assert tried.recover(LOCAL) is Rung.LOCAL


def test_a_ladder_of_one_service_never_leaves_it() -> None:
    tried = Tried(LOCAL)
    assert tried.ladder.rung is Rung.LOCAL
    assert tried.fail(LOCAL) is Rung.LOCAL
    assert (tried.ladder.moves, tried.ladder.is_up(LOCAL)) == ((), False)
    assert tried.recover(LOCAL) is Rung.LOCAL and tried.ladder.is_up(LOCAL)


def test_the_newest_moves_are_remembered() -> None:
    tried = Tried(KAFKA, LOCAL).start()
    for _ in range(MOST_MOVES):
        tried.fail(KAFKA)
        tried.recover(KAFKA, 40)
    assert len(tried.ladder.moves) == MOST_MOVES
    assert (tried.ladder.moves[-1].before, tried.ladder.moves[-1].after) == (Rung.LOCAL, Rung.KAFKA)


class Walk(RuleBasedStateMachine):
    """Services come and go in any order. The ladder is compared with its rules, written down once more."""

    def __init__(self) -> None:
        super().__init__()
        self.ladder = Ladder((KAFKA, REDIS, LOCAL), TIMES)
        self.now = 0.0
        self.results: dict[Service, list[tuple[float, bool]]] = {service: [] for service in Service}
        self.shown: list[tuple[float, Rung]] = []  # each change that was seen from outside

    @rule(service=st.sampled_from(Service), is_good=st.booleans(), seconds=st.sampled_from([0.5, 1.0, 2.0, 6.0, 20.0]))
    def probe(self, service: Service, is_good: bool, seconds: float) -> None:
        self.now += seconds
        before, ups = self.ladder.rung, self.ups()
        self.results[service].append((self.now, is_good))
        self.ladder.note(service, self.now, int(self.now * 1_000_000), "" if is_good else "away")
        after = self.ladder.rung
        if after is not before:
            if after.height > before.height and before.needs and before.needs <= ups & self.ups():
                assert self.now - self.shown[-1][0] >= TIMES.climb_seconds or len(self.shown) == 1
            self.shown.append((self.now, after))
        if self.ladder.is_up(service) != (service in ups):
            self.check_turn(service, is_good)

    def check_turn(self, service: Service, is_good: bool) -> None:
        results = self.results[service]
        if len(results) == 1:
            return
        if not is_good:
            assert [good for _, good in results[-2:]] == [False, False]
            assert results[-1][0] - results[-2][0] <= TIMES.down_seconds
            return
        streak = 0
        while streak < len(results) and results[-1 - streak][1]:
            streak += 1
        assert streak >= TIMES.up_probes and results[-1][0] - results[-streak][0] >= TIMES.up_seconds

    def ups(self) -> set[Service]:
        return {service for service in Service if self.ladder.is_up(service)}

    @invariant()
    def the_rung_that_is_shown_is_the_one_that_is_used(self) -> None:
        assert self.ladder.source is self.ladder.rung.source
        assert (self.ladder.moves[-1].after if self.ladder.moves else Rung.NONE) is self.ladder.rung
        if self.shown:
            assert self.shown[-1][1] is self.ladder.rung

    @invariant()
    def the_rung_stands_on_services_that_are_up(self) -> None:
        assert self.ladder.rung.needs <= self.ups() or not self.ups()
        assert (self.ladder.rung is Rung.NONE) == (not all(self.results.values()))

    @invariant()
    def the_history_is_a_walk(self) -> None:
        moves = self.ladder.moves
        assert all(one.after is two.before and one.time <= two.time for one, two in itertools.pairwise(moves))


Walk.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=60)
TestC5TheModeShownIsTheModeUsed = Walk.TestCase
