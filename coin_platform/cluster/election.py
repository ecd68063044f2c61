"""Stand in the queue of candidates for one group in ZooKeeper, and know at any moment whether we lead.

1. A candidate's node ends with its session. The candidate writes the node every half second. An answer proves that the
   node exists and that a quorum of ZooKeeper works, and so that nobody else has come to lead.
2. Leadership is never a belief. It is the age of the last proof: with `LIMIT_SHARE` of the session it is over, well
   before ZooKeeper can end the session and let the next candidate lead. That holds for a process that was frozen, too.
3. Whoever has lost its place takes a new one at the end of the queue.

kazoo's own lock does none of this: its calls wait for ever without a quorum, and `is_acquired` stays true.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from coin_platform.cluster import tickets
from coin_platform.cluster.tickets import CandidateInfo, Ticket
from coin_platform.cluster.zookeeper import ZooKeeper
from coin_platform.errors import ClusterError, NodeMissing, VersionConflict
from coin_platform.model import Microseconds

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between two proofs
RENEW_SESSIONS = 2.0  # times the session, without a connection, after which a new session begins
LIMIT_SHARE = 0.66  # of the session, after which a leader without a proof steps down


class Election:
    """A candidate of one group. Its thread keeps it in the queue; all other methods only look, unless they say so."""

    def __init__(
        self,
        hosts: str,
        folder: str,
        session_seconds: float,
        *,
        inherits_from: Callable[[], int | None] = lambda: None,
        process: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stand in the queue of a folder such as `/coin/default/leader/korea`.

        `inherits_from` returns the process of this machine whose place this candidate inherits, if there is one.
        `process` is the id by which others know this one, by default its own.
        """
        self._folder, self._clock, self._inherits_from = folder, clock, inherits_from
        self._session_seconds = session_seconds
        self._token = uuid.uuid4().hex
        self._info = CandidateInfo(host=socket.gethostname(), process=process or os.getpid())
        self._ticket: Ticket | None = None
        self._abandoned: list[str] = []  # our former nodes, which may still exist
        self._is_first = self._is_proved = False  # as of the last proof of this place
        self._proved_at = self._renewed_at = clock()
        self._is_held = True
        self.leader: CandidateInfo | None = None  # as of the last proof; ourselves, too
        self.problem = ""  # why ZooKeeper proves nothing now
        self._changing = threading.Lock()  # for our place, which is also given up from other threads
        self._wake, self._is_closing = threading.Event(), threading.Event()
        self._zookeeper = ZooKeeper(hosts, session_seconds, self._take_connection)
        self._thread = threading.Thread(target=self._run, name=f"candidate {folder}", daemon=True)
        self._thread.start()

    @property
    def ticket(self) -> Ticket | None:
        """Our place if we lead; `None` if we do not, or if the last proof is too old."""
        return self._ticket if self._is_first and not self.is_silent else None

    @property
    def is_in_queue(self) -> bool:
        """Whether we have a place, and ZooKeeper proved it lately."""
        return self._is_proved and not self.is_silent

    @property
    def sees_another_leader(self) -> bool:
        """Whether ZooKeeper proved lately that another candidate leads."""
        return self.is_in_queue and not self._is_first

    @property
    def epoch(self) -> int:
        """The epoch that the others know us by; 0 if none."""
        return self._info.epoch

    @property
    def silence_seconds(self) -> float:
        """The age of the last proof, or the time since our begin."""
        return self._clock() - self._proved_at

    @property
    def limit_seconds(self) -> float:
        """The age of a proof with which it proves nothing any more."""
        return LIMIT_SHARE * self._zookeeper.session_seconds

    @property
    def is_silent(self) -> bool:
        """Whether the last proof is too old."""
        return self.silence_seconds >= self.limit_seconds

    @property
    def may_publish(self) -> bool:
        """Whether records may be sent: false from the first sign of trouble on, until the next proof."""
        return not self._is_held and not self.is_silent

    def resign(self, reason: str) -> None:
        """Give up our place, and take a new one at the end of the queue as soon as ZooKeeper answers."""
        self._lose(reason)
        self._wake.set()

    def take_epoch(self, least: int, since: Microseconds) -> int:
        """Return an epoch of at least `least` that no other leader of this group has or had. It blocks.

        The others learn it from our node. Raises `ClusterError` if ZooKeeper does not answer.
        """
        epoch = self._raise_counter(lambda last: max(least, last + 1))
        self._info = msgspec.structs.replace(self._info, epoch=epoch, since=since)
        self._wake.set()
        return epoch

    def announce_epoch(self, epoch: int, since: Microseconds) -> int:
        """Tell the others with which epoch we collect already; return the newest epoch. It blocks.

        Raises `ClusterError` if ZooKeeper does not answer.
        """
        newest = self._raise_counter(lambda last: max(epoch, last))
        self._info = msgspec.structs.replace(self._info, epoch=epoch, since=since)
        self._wake.set()
        return newest

    def close(self) -> None:
        """Leave the queue, so that the next candidate leads at once. It blocks, but not long."""
        self._is_closing.set()
        self._wake.set()
        self._thread.join()
        self._zookeeper.close()

    def _take_connection(self, is_there: bool) -> None:
        """Take news of the connection. When it breaks, nothing is published until the next proof."""
        self._is_held = self._is_held or not is_there
        self._wake.set()

    def _hint(self, event: Any) -> None:
        """The queue has changed."""
        self._wake.set()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                self._look()
            except ClusterError as error:
                self._is_held = True
                self.problem = str(error)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        if self._ticket is not None:
            self._abandoned.append(self._ticket.name)
            self._ticket, self._is_first, self._is_proved = None, False, False
        try:
            if self._zookeeper.is_connected:
                self._tidy()
        except ClusterError as error:
            logger.warning("%s: our place is free once our session ends: %s", self._folder, error)

    def _look(self) -> None:
        """Prove our place, or take one."""
        if not self._zookeeper.is_connected:
            self._is_held = True
            self.problem = f"zookeeper at {self._zookeeper.hosts} cannot be reached; look at it and the network"
            self._renew()
            return
        self._tidy()
        asked = self._clock()
        ticket = self._ticket or self._enter()
        try:
            self._zookeeper.write(f"{self._folder}/{ticket.name}", msgspec.json.encode(self._info))
        except NodeMissing:
            self._lose("our place in the queue is gone: the session ended, or somebody deleted the node")
            self._wake.set()
            return
        line = tickets.queue(self._zookeeper.children(self._folder, self._hint))
        if ticket not in line:
            return  # it is gone since: the next look says so
        is_first = tickets.is_first(ticket, line)
        leader = self._info if is_first else self._read(line[0])
        with self._changing:
            if self._ticket is not ticket:
                return  # given up meanwhile
            self.leader, self._is_first, self._proved_at = leader, is_first, asked
            self._is_proved = True
            self._is_held, self.problem = False, ""

    def _renew(self) -> None:
        """Begin a new session if this one has been without a connection for long.

        A ZooKeeper that was set up anew refuses a session that knows of later changes than it has itself.
        """
        zookeeper = self._zookeeper
        if self._clock() - max(self._proved_at, self._renewed_at) >= RENEW_SESSIONS * zookeeper.session_seconds:
            self._renewed_at = self._clock()
            self._lose(self.problem)
            zookeeper.close()
            self._zookeeper = ZooKeeper(zookeeper.hosts, self._session_seconds, self._take_connection)

    def _enter(self) -> Ticket:
        """Take a place: the one of the process whose successor we are, or else the last one."""
        line = tickets.queue(self._zookeeper.children(self._folder))
        own = [ticket for ticket in line if ticket.token == self._token]  # the answer to our request was lost
        if not own:
            data = msgspec.json.encode(self._info)
            ancestor = self._ancestor(line)
            path = f"{self._folder}/{ancestor.heir(self._token) if ancestor else tickets.prefix(self._token)}"
            try:
                name = self._zookeeper.enter(path, data, is_numbered=ancestor is None)
            except NodeMissing:
                self._zookeeper.make(self._folder)
                name = self._zookeeper.enter(path, data, is_numbered=ancestor is None)
            own = tickets.queue([name])
        self._ticket = own[0]
        return own[0]

    def _ancestor(self, line: list[Ticket]) -> Ticket | None:
        """Return the last ticket of the process of this machine whose place we inherit."""
        process = self._inherits_from()
        found = None
        for ticket in line if process is not None else []:
            info = self._read(ticket)
            if info is not None and (info.host, info.process) == (self._info.host, process):
                found = max((other for other in line if other.number == ticket.number), default=ticket)
        return found

    def _read(self, ticket: Ticket) -> CandidateInfo | None:
        try:
            return tickets.decode(self._zookeeper.read(f"{self._folder}/{ticket.name}")[0])
        except NodeMissing:
            self._wake.set()  # it left just now
            return None

    def _lose(self, reason: str) -> None:
        with self._changing:
            ticket, was_first = self._ticket, self._is_first
            self._ticket, self._is_first, self._is_proved = None, False, False
            self._token = uuid.uuid4().hex
            self._info = CandidateInfo(host=self._info.host, process=self._info.process)
            if ticket is not None:
                self._abandoned.append(ticket.name)
        if was_first:
            logger.warning("%s: no longer the leader: %s", self._folder, reason)

    def _tidy(self) -> None:
        """Delete the nodes that we gave up, so that nobody waits for them."""
        while self._abandoned:
            self._zookeeper.delete(f"{self._folder}/{self._abandoned[0]}")
            self._abandoned.pop(0)

    def _raise_counter(self, change: Callable[[int], int]) -> int:
        """Change the newest epoch of the group by compare-and-set, and return it."""
        path = f"{self._folder}-epoch"
        while True:
            try:
                data, version = self._zookeeper.read(path)
            except NodeMissing:
                self._zookeeper.make(path)
                continue
            epoch = change(int(data) if data.isdigit() else 0)
            try:
                self._zookeeper.write(path, b"%d" % epoch, version)
            except VersionConflict:
                continue  # another candidate was first
            return epoch
