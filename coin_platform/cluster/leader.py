"""May this process collect a group, and with which epoch? One answer for one machine and for many.

One machine: always. The journal's locks and the hand-over of a deploy keep a second process away.
Many machines (`COIN_ZOOKEEPER`): the first candidate in ZooKeeper's queue.
"""

from pathlib import Path
from typing import Protocol

from coin_platform.cluster.connect import UNNAMED
from coin_platform.cluster.status import Status
from coin_platform.cluster.term import Term
from coin_platform.settings import Failsafe, Settings

SEATS = Path("data/candidates")  # below COIN_HOME: which process of this machine is the candidate of a group


class Leadership(Protocol):
    """Whether this process may collect a group."""

    def begin(self, least_epoch: int) -> Term | None:
        """Return a new term, with `least_epoch` or a later one, if we lead; else `None`. It may block."""

    def end(self, term: Term) -> None:
        """Tell that a term is over. Whoever lost it has a new place at the end of the queue."""

    def keep(self, term: Term) -> None:
        """Tell others of a term that began without them. Repeated while the term lasts. It may block."""

    def may_publish(self) -> bool:
        """Whether records on this machine's disk may be sent to others now. It does not wait."""

    def reports(self) -> list[Status]:
        """Return what is known of the leadership, for the status of the deployment."""

    def close(self) -> None:
        """Let the next candidate lead at once. It may block."""


class AlwaysLeader:
    """The leadership of a single machine."""

    def begin(self, least_epoch: int) -> Term:
        """Return a term without an end."""
        return Term(least_epoch)

    def end(self, term: Term) -> None:
        """Nobody need know."""

    def keep(self, term: Term) -> None:
        """There are no others."""

    def may_publish(self) -> bool:
        """Always."""
        return True

    def reports(self) -> list[Status]:
        """There is nothing to say."""
        return []

    def close(self) -> None:
        """There is nothing to give back."""


def open_leadership(settings: Settings, group: str, *, guest: bool = False) -> Leadership:
    """Return the leadership of a group. A `guest` is to take over from the process of this machine that collects now.

    Raises `PartitionBusy` if another process of this machine is a candidate already, and this one is no guest.
    """
    if settings.zookeeper is None:
        return AlwaysLeader()
    from coin_platform.cluster.elected import CandidateSeat, ElectedLeader
    from coin_platform.cluster.election import Election

    seat = CandidateSeat(settings.home / SEATS / group, guest=guest)
    folder = f"/coin/{settings.deployment or UNNAMED}/leader/{group}"
    election = Election(settings.zookeeper, folder, settings.zookeeper_session, inherits_from=seat.predecessor)
    return ElectedLeader(group, election, seat, is_failsafe=settings.failsafe is Failsafe.SINGLE)
