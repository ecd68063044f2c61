"""The tickets of candidates: nodes of one folder in ZooKeeper, whose order says who leads."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from coin_platform.model import Microseconds


class Ticket(NamedTuple):
    """The place of a candidate in the queue of its group. The lowest place leads.

    The successor of a process of the same machine shares the number of that process, one generation later. So it
    inherits the place, also where other machines wait.
    """

    number: int
    generation: int
    token: str  # of the candidate
    name: str  # of the node

    def heir(self, token: str) -> str:
        """Return the name of the node of a candidate that inherits this place."""
        return f"c-{token}-{self.number:010d}.{self.generation + 1:04d}"


class CandidateInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a candidate writes into its node."""

    host: str
    process: int
    epoch: int = 0  # with which it collects; 0: it does not
    since: Microseconds = 0  # when it began to collect

    def __str__(self) -> str:
        return f"process {self.process} of {self.host}"


def prefix(token: str) -> str:
    """Return how the name of a candidate's node begins. ZooKeeper appends its number."""
    return f"c-{token}-"


def queue(names: Iterable[str]) -> list[Ticket]:
    """Return the tickets among the nodes of a folder, the leader's first."""
    matches = (_NAME.fullmatch(name) for name in names)
    return sorted(Ticket(int(match[2]), int(match[3] or 0), match[1], match[0]) for match in matches if match)


def is_first(ticket: Ticket, tickets: Iterable[Ticket]) -> bool:
    """Return whether nobody stands before a ticket, other than the processes whose place it inherits."""
    return all(other.number == ticket.number for other in tickets if other < ticket)


def decode(data: bytes) -> CandidateInfo | None:
    """Return what a candidate says of itself; `None` if another version of this program wrote it."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


_NAME = re.compile(r"c-([0-9a-f]{32})-(\d{10})(?:\.(\d{4}))?")
_decode = msgspec.json.Decoder(CandidateInfo).decode
