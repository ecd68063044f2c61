"""The leadership of one of several machines, as ZooKeeper's queue says, and of a successor on the same machine."""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from coin_platform.clock import wall
from coin_platform.cluster.election import Election
from coin_platform.cluster.status import ComponentKind, Status
from coin_platform.cluster.term import Term
from coin_platform.errors import ClusterError, PartitionBusy
from coin_platform.journal.lock import WriterSeat

logger = logging.getLogger(__name__)


class CandidateSeat:
    """This process's right to be the candidate of its COIN_HOME, or to be the next one. Any thread may use it."""

    def __init__(self, path: Path, *, guest: bool = False) -> None:
        """Raises `PartitionBusy` if another process has this right, and this one is no guest."""
        self._looking = threading.Lock()
        try:
            self._seat = WriterSeat(path, guest=guest)
        except PartitionBusy as error:
            raise PartitionBusy(
                f"{path.name}: another process of this COIN_HOME waits to collect, or collects: end that one first, "
                "or start this one with --take-over"
            ) from error

    def predecessor(self) -> int | None:
        """Return the process of this machine that this one succeeds; `None` once there is none."""
        with self._looking:
            return self._seat.host()

    def release(self) -> None:
        """Let another process be the candidate."""
        with self._looking:
            self._seat.release()


class ElectedLeader:
    """The leadership of one of several machines, or of a successor on the same machine."""

    def __init__(self, group: str, election: Election, seat: CandidateSeat, *, is_failsafe: bool = False) -> None:
        """Lead the group when the election says so."""
        self._group, self._election, self._seat, self._is_failsafe = group, election, seat, is_failsafe
        self._term: Term | None = None
        self._since = 0
        self._said = ""
        self._asked_to_end: int | None = None

    def begin(self, least_epoch: int) -> Term | None:
        """Return a new term if we lead.

        1. With `COIN_FAILSAFE=single` that is also so if ZooKeeper has not answered for longer than a leader may wait.
        2. A successor on the machine of the leader leads beside it, until it has taken over.
        3. Raises `ClusterError` if ZooKeeper does not answer.
        """
        ticket, time = self._election.ticket, wall()
        if ticket is not None:
            least = max(least_epoch, self._newest_seen() + 1)
            term = Term(self._election.take_epoch(least, time), lambda: self._lasts(ticket))
            text = f"{self._group}: this process leads, with epoch {term.epoch}"
        elif self._is_failsafe and self._election.is_silent:
            term = Term(max(least_epoch, self._newest_seen() + 1), lambda: self._lasts(None))
            text = (
                f"{self._group}: {self._election.problem or 'zookeeper does not answer'}; COIN_FAILSAFE lets us collect"
            )
        else:
            self._wait()
            return None
        self._term, self._since, self._said = term, time, ""
        logger.info(text)
        return term

    def end(self, term: Term) -> None:
        """Leave our place to the others if the term was lost."""
        if not term.lasts():
            self._election.resign(self._election.problem or "it did not prove its place in time")
        self._term = None

    def keep(self, term: Term) -> None:
        """Tell ZooKeeper of a term that it does not know. If another leader has a later epoch, the term is over."""
        if self._election.ticket is not None and self._election.epoch != term.epoch:
            with suppress(ClusterError):
                if self._election.announce_epoch(term.epoch, self._since) > term.epoch:
                    term.give_up()

    def may_publish(self) -> bool:
        """Whether ZooKeeper answers, or need not."""
        return self._election.may_publish or self._is_failsafe

    def reports(self) -> list[Status]:
        """Return one component: whether we lead, who else does, and the age of the last proof."""
        election, leads = self._election, self._term is not None and self._term.lasts()
        leader = f"{election.leader}" if election.leader and not election.is_silent else ""
        epoch = self._term.epoch if self._term is not None else election.leader.epoch if election.leader else 0
        return [
            Status(
                name=f"leader/{self._group}",
                kind=ComponentKind.LEADER,
                state="leading" if leads else "cut off" if election.is_silent else "standby",
                reason=self._reason(leads=leads),
                numbers={"epoch": epoch, "proof_age_seconds": election.silence_seconds},
                texts={"leader": leader} if leader else {},
            )
        ]

    def close(self) -> None:
        """Leave the queue, and free the seat."""
        self._election.close()
        self._seat.release()

    def _lasts(self, ticket: object) -> bool:
        """Whether a term lasts that began with this ticket."""
        if self._is_failsafe:
            return not self._election.sees_another_leader
        return self._election.ticket is ticket

    def _newest_seen(self) -> int:
        leader = self._election.leader
        return leader.epoch if leader is not None else 0

    def _wait(self) -> None:
        """Say once why we do not lead. End the process before ours on this machine: two candidates are one too many."""
        reason, is_silent = self._reason(leads=False), self._election.is_silent
        if reason != self._said and (is_silent or self._election.sees_another_leader):
            self._said = reason
            logger.log(logging.ERROR if is_silent else logging.INFO, "%s: stands by: %s", self._group, reason)
        if self._election.sees_another_leader and (process := self._seat.predecessor()) not in (
            None,
            self._asked_to_end,
        ):
            assert process is not None
            self._asked_to_end = process
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def _reason(self, *, leads: bool) -> str:
        election = self._election
        if election.is_silent:
            why = election.problem or "zookeeper does not answer"
            return f"{why}; {'collecting on, as COIN_FAILSAFE says' if leads else 'nobody may collect without it'}"
        if leads or election.leader is None:
            return election.problem
        at = f" with epoch {election.leader.epoch}" if election.leader.epoch else ""
        return f"{election.leader} leads{at}"
