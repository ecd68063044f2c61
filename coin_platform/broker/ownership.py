"""Decides which process may write the results of a raw partition: only one, on whatever machine it runs.

1. An owner leaves a claim beside a position that all machines see, and raises its count every `RENEW_SECONDS`.
2. Another process takes over a claim that was released, or whose count has not changed for `EXPIRE_SECONDS` of that
   process's own monotonic clock.
3. An owner that could not renew for `FRESH_SECONDS` sends nothing more until it has renewed. So its last results have
   arrived, or failed, long before another owner begins.
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
FRESH_SECONDS = 20.0  # after a renewal in which results may be sent
EXPIRE_SECONDS = 60.0  # without a renewal after which an owner counts as ended
SETTLE_SECONDS = 1.0  # from a claim to the look whether another process claimed at the same time


class OwnerClaim(msgspec.Struct, frozen=True):
    """The text that an owner leaves: its name, and how often it has renewed."""

    token: str  # of the process
    where: str  # machine and folder in which its results wait on disk
    who: str  # for error texts
    count: int
    is_released: bool = False


class _ClaimSighting(NamedTuple):
    claim: OwnerClaim
    moment: float  # since when its count has not changed


class Ownership:
    """The raw partitions that this process owns, and the claims of other owners that it has seen."""

    def __init__(
        self,
        where: str,
        read: Callable[[Sequence[Place]], Mapping[Place, str]],
        write: Callable[[Mapping[Place, str]], None],
        *,
        clock: Callable[[], float] = elapsed,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Own nothing yet. `where` is the folder in which results wait on disk.

        `read` returns and `write` stores the texts of many partitions; they raise `BrokerUnreachable`.
        """
        self._where = f"{socket.gethostname()}:{where}"
        self._who = f"process {os.getpid()} of {socket.gethostname()}"
        self._read, self._write, self._clock, self._sleep = read, write, clock, sleep
        self._token = uuid4().hex
        self._count = 0
        self._owned: dict[Place, float] = {}  # moment of the last renewal
        self._others: dict[Place, _ClaimSighting] = {}

    def is_fresh(self, place: Place) -> bool:
        """Whether results of this partition may be sent."""
        return self._clock() - self._owned.get(place, float("-inf")) < FRESH_SECONDS

    def is_due(self, places: Sequence[Place]) -> bool:
        """Whether the claim of one of these partitions must be renewed."""
        return any(self._clock() - self._owned.get(place, float("-inf")) >= RENEW_SECONDS for place in places)

    def own(self, places: Sequence[Place], *, is_patient: bool = True) -> list[Place]:
        """Take or renew partitions; return those whose last owner kept its results in another folder or machine.

        Raises `PartitionBusy` if another process is the owner, or has become it. Raises `BrokerUnreachable` while it is
        not known whether the owner has ended; if not `is_patient`, that owner counts as alive.
        """
        moment = self._clock()
        before = self._claims(places)
        others = {place: claim for place, claim in before.items() if self._is_of_another(claim)}
        seen = {place: self._watch(place, claim, moment) for place, claim in others.items()}
        for place in seen:
            self._refuse(place, seen[place], moment, is_patient=is_patient)
        self._count += 1
        text = json.dumps(msgspec.to_builtins(OwnerClaim(self._token, self._where, self._who, self._count)))
        self._write(dict.fromkeys(places, text))
        taken = [place for place in places if place not in self._owned]
        if taken:
            self._sleep(SETTLE_SECONDS)
            for place, claim in self._claims(taken).items():
                if claim.token != self._token:
                    raise _busy(place, claim)
        self._owned.update(dict.fromkeys(places, moment))  # taken before the request: the answer may have come late
        return [place for place in taken if place in before and before[place].where != self._where]

    def release(self) -> None:
        """Mark the partitions that are still ours as free."""
        ours = [place for place, claim in self._claims(list(self._owned)).items() if claim.token == self._token]
        claim = OwnerClaim(self._token, self._where, self._who, self._count, is_released=True)
        self._write(dict.fromkeys(ours, json.dumps(msgspec.to_builtins(claim))))
        self._owned.clear()

    def _is_of_another(self, claim: OwnerClaim) -> bool:
        """Whether a claim is valid against us. Between two processes with one folder the locks of the folder decide."""
        return claim.token != self._token and claim.where != self._where and not claim.is_released

    def _watch(self, place: Place, claim: OwnerClaim, moment: float) -> _ClaimSighting:
        """Return a claim, and since when its count has not changed, as far as seen here; `-inf`: it just did."""
        before = self._others.get(place)
        if before is None or before.claim != claim:
            self._others[place] = _ClaimSighting(claim, moment)
        is_alive = before is not None and before.claim.token == claim.token and before.claim.count != claim.count
        return _ClaimSighting(claim, float("-inf")) if is_alive else self._others[place]

    def _refuse(self, place: Place, seen: _ClaimSighting, moment: float, *, is_patient: bool) -> None:
        """Raise an error, unless the other owner has ended."""
        if place in self._owned or not is_patient or seen.moment == float("-inf"):
            raise _busy(place, seen.claim)
        if moment - seen.moment < EXPIRE_SECONDS:
            raise BrokerUnreachable(
                f"{place[0]}[{place[1]}]: {seen.claim.who} preprocesses it, or has ended without a word; "
                f"that is known after {EXPIRE_SECONDS:g} s"
            )

    def _claims(self, places: Sequence[Place]) -> dict[Place, OwnerClaim]:
        texts = self._read(places) if places else {}
        claims = {place: _claim(text) for place, text in texts.items()}
        return {place: claim for place, claim in claims.items() if claim is not None}


def _claim(text: str) -> OwnerClaim | None:
    try:
        return msgspec.json.decode(text, type=OwnerClaim)
    except msgspec.MsgspecError:
        return None  # no text, or not a claim


def _busy(place: Place, claim: OwnerClaim) -> PartitionBusy:
    return PartitionBusy(
        f"{place[0]}[{place[1]}] is preprocessed by {claim.who}: end that one first, or leave this exchange to it"
    )
