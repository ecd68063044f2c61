"""One process owns the results of a partition, on whatever machine, and no clock that is set matters to it."""

from collections.abc import Mapping, Sequence

import pytest

from coin_platform.broker import Place
from coin_platform.broker.ownership import EXPIRE_SECONDS, FRESH_SECONDS, RENEW_SECONDS, Ownership
from coin_platform.errors import BrokerUnreachable, PartitionBusy

PLACES: list[Place] = [("raw", 0), ("raw", 1)]


class Notes:
    """What all machines see."""

    def __init__(self) -> None:
        self.texts: dict[Place, str] = {}
        self.seconds = 0.0
        self.in_between: list[Ownership] = []  # who claims while another one waits

    def read(self, places: Sequence[Place]) -> Mapping[Place, str]:
        return {place: self.texts[place] for place in places if place in self.texts}

    def owner(self, where: str) -> Ownership:
        return Ownership(where, self.read, self.texts.update, clock=lambda: self.seconds, sleep=self._settle)

    def _settle(self, seconds: float) -> None:
        self.seconds += seconds
        if self.in_between:
            self.in_between.pop().own(PLACES)

    def take_over(self, owner: Ownership, *renewing: Ownership) -> list[Place]:
        """Let one ask until it is the owner or refused, while others go on."""
        while True:
            try:
                return owner.own(PLACES)
            except BrokerUnreachable:
                for other in renewing:
                    other.own(PLACES)
                self.seconds += RENEW_SECONDS


@pytest.fixture
def notes() -> Notes:
    return Notes()


def test_D13_the_first_is_the_owner_and_renews(notes: Notes) -> None:
    owner = notes.owner("a")
    assert not owner.is_fresh(PLACES[0]) and owner.is_due(PLACES)
    assert owner.own(PLACES) == []
    assert owner.is_fresh(PLACES[0]) and not owner.is_due(PLACES)
    notes.seconds += RENEW_SECONDS
    assert owner.is_due(PLACES)
    assert owner.own(PLACES) == []
    notes.seconds += FRESH_SECONDS
    assert not owner.is_fresh(PLACES[0])


def test_D13_another_is_refused_with_one_line_as_long_as_the_owner_counts_on(notes: Notes) -> None:
    first, second = notes.owner("a"), notes.owner("b")
    first.own(PLACES)
    with pytest.raises(PartitionBusy, match=r"raw\[0\] is preprocessed by process \d+ of \S+: end that one first"):
        notes.take_over(second, first)
    first.own(PLACES)
    with pytest.raises(PartitionBusy):
        second.own(PLACES, is_patient=False)


def test_D13_an_owner_that_counts_no_more_is_followed_and_finds_out(notes: Notes) -> None:
    first, second = notes.owner("a"), notes.owner("b")
    first.own(PLACES)
    begun = notes.seconds
    assert notes.take_over(second) == PLACES  # what the first keeps on its disk is none of the second's
    assert EXPIRE_SECONDS <= notes.seconds - begun < 2 * EXPIRE_SECONDS
    assert not first.is_fresh(PLACES[0])
    with pytest.raises(PartitionBusy, match="is preprocessed by"):
        first.own(PLACES)
    third = notes.owner("a")
    second.release()
    assert third.own(PLACES) == PLACES, "the results that it kept before were made anew since"


def test_D13_what_was_released_or_kept_in_our_folder_is_ours_at_once(notes: Notes) -> None:
    first = notes.owner("a")
    first.own(PLACES)
    again = notes.owner("a")  # after kill -9: the locks of its folder say that the first has ended
    assert again.own(PLACES) == []
    again.release()
    assert notes.owner("b").own(PLACES) == PLACES
    first.release()  # nothing is its own any more
    with pytest.raises(PartitionBusy):
        notes.owner("c").own(PLACES, is_patient=False)


def test_D13_of_two_that_claim_at_once_one_is_the_owner(notes: Notes) -> None:
    first, second = notes.owner("a"), notes.owner("b")
    notes.in_between = [second]
    second._read = lambda places: {} if not second._count else notes.read(places)  # it has looked before the first
    with pytest.raises(PartitionBusy):
        first.own(PLACES)
    assert second.is_fresh(PLACES[0]) and not first.is_fresh(PLACES[0])


def test_a_note_of_somebody_else_is_no_claim(notes: Notes) -> None:
    notes.texts[PLACES[0]] = "hello"
    notes.texts[PLACES[1]] = ""
    assert notes.owner("a").own(PLACES) == []
