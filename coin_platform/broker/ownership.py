"""Which process may write the results of a partition: one, on whatever machine it runs.

Each owner leaves a text beside a position that all machines see, with a count that it raises every few seconds. Another
process takes over what was released, and what has not counted on for `EXPIRE_SECONDS` of its own monotonic clock. An
owner that has not been able to renew for `FRESH_SECONDS` sends nothing more until it has: so what it sent last has
arrived, or failed, long before another one begins.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import uuid4

import msgspec

from coin_platform.broker.contract import Place
from coin_platform.clock import elapsed
from coin_platform.errors import BrokerUnreachable, PartitionBusy

RENEW_SECONDS = 5.0  # between two renewals
FRESH_SECONDS = 20.0  # after a renewal, in which results may be sent
EXPIRE_SECONDS = 60.0  # without a renewal, after which an owner has ended: it has sent nothing for long
SETTLE_SECONDS = 1.0  # from a claim to the look whether another one came at the same time


class Claim(msgspec.Struct, frozen=True):
    """What an owner leaves: who it is, and how often it has renewed."""

    token: str  # of the process
    where: str  # of what is kept for it on disk: machine and folder
    who: str
    count: int
    is_released: bool = False


class _Seen(NamedTuple):
    claim: Claim
    moment: float  # since when it has not counted on


class Ownership:
    """The partitions that this process owns, and what it has seen of other owners."""

    def __init__(
        self,
        where: str,
        read: Callable[[Sequence[Place]], Mapping[Place, str]],
        write: Callable[[Mapping[Place, str]], None],
        *,
        clock: Callable[[], float] = elapsed,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`read` and `write` bring the texts of many partitions, and raise `BrokerUnreachable`."""
        self._where = f"{socket.gethostname()}:{where}"
        self._who = f"process {os.getpid()} of {socket.gethostname()}"
        self._read, self._write, self._clock, self._sleep = read, write, clock, sleep
        self._token = uuid4().hex
        self._count = 0
        self._owned: dict[Place, float] = {}  # when it was renewed
        self._others: dict[Place, _Seen] = {}

    def is_fresh(self, place: Place) -> bool:
        """Whether results of this partition may be sent."""
        return self._clock() - self._owned.get(place, float("-inf")) < FRESH_SECONDS

    def is_due(self, places: Sequence[Place]) -> bool:
        """Whether one of these is to be renewed."""
        return any(self._clock() - self._owned.get(place, float("-inf")) >= RENEW_SECONDS for place in places)

    def own(self, places: Sequence[Place], *, is_patient: bool = True) -> list[Place]:
        """Take or renew these; return those whose last owner kept its results elsewhere than we do.

        Raises `PartitionBusy` where another process is the owner, or has become it; `BrokerUnreachable` while it is not
        known whether the owner has ended, if that is waited for.
        """
        moment = self._clock()
        before = self._claims(places)
        others = {place: claim for place, claim in before.items() if self._is_of_another(claim)}
        seen = {place: self._watch(place, claim, moment) for place, claim in others.items()}
        for place in seen:
            self._refuse(place, seen[place], moment, is_patient=is_patient)
        self._count += 1
        text = json.dumps(msgspec.to_builtins(Claim(self._token, self._where, self._who, self._count)))
        self._write(dict.fromkeys(places, text))
        taken = [place for place in places if place not in self._owned]
        if taken:
            self._sleep(SETTLE_SECONDS)
            for place, claim in self._claims(taken).items():
                if claim.token != self._token:
                    raise _busy(place, claim)
        self._owned.update(dict.fromkeys(places, moment))  # of before the question: the answer may have come late
        return [place for place in taken if place in before and before[place].where != self._where]

    def release(self) -> None:
        """Let go of all that is still ours."""
        ours = [place for place, claim in self._claims(list(self._owned)).items() if claim.token == self._token]
        claim = Claim(self._token, self._where, self._who, self._count, is_released=True)
        self._write(dict.fromkeys(ours, json.dumps(msgspec.to_builtins(claim))))
        self._owned.clear()

    def _is_of_another(self, claim: Claim) -> bool:
        """Whether a claim holds against us; of two processes with one folder its locks decide."""
        return claim.token != self._token and claim.where != self._where and not claim.is_released

    def _watch(self, place: Place, claim: Claim, moment: float) -> _Seen:
        """Return since when another owner has not counted on, as far as we have seen; `-inf` where it just has."""
        before = self._others.get(place)
        if before is None or before.claim != claim:
            self._others[place] = _Seen(claim, moment)
        is_alive = before is not None and before.claim.token == claim.token and before.claim.count != claim.count
        return _Seen(claim, float("-inf")) if is_alive else self._others[place]

    def _refuse(self, place: Place, seen: _Seen, moment: float, *, is_patient: bool) -> None:
        """Raise, unless the other owner has ended."""
        if place in self._owned or not is_patient or seen.moment == float("-inf"):
            raise _busy(place, seen.claim)
        if moment - seen.moment < EXPIRE_SECONDS:
            raise BrokerUnreachable(
                f"{place[0]}[{place[1]}]: {seen.claim.who} preprocesses it, or has ended without a word; "
                f"that is known after {EXPIRE_SECONDS:g} s"
            )

    def _claims(self, places: Sequence[Place]) -> dict[Place, Claim]:
        texts = self._read(places) if places else {}
        claims = {place: _claim(text) for place, text in texts.items()}
        return {place: claim for place, claim in claims.items() if claim is not None}


def _claim(text: str) -> Claim | None:
    try:
        return msgspec.json.decode(text, type=Claim)
    except msgspec.MsgspecError:
        return None  # there is none, or it is not one of ours


def _busy(place: Place, claim: Claim) -> PartitionBusy:
    return PartitionBusy(
        f"{place[0]}[{place[1]}] is preprocessed by {claim.who}: end that one first, or leave this exchange to it"
    )
