"""The actions that a session asks its connection to do."""

from typing import NamedTuple, TypeAlias

from coin_platform.model import Cause, Instrument, Pair, Refusal, Refused


class Send(NamedTuple):
    """Write this message to the socket."""

    payload: str


class Fetch(NamedTuple):
    """Request the answer for this pair over REST, and pass it to the session as a frame."""

    pair: Pair
    url: str


class Lost(NamedTuple):
    """Report that the book of this pair cannot be trusted until its next snapshot."""

    pair: Pair
    reason: str
    cause: Cause = Cause.SEQUENCE


class Restored(NamedTuple):
    """Report that the book of this pair can be trusted again."""

    pair: Pair


class Failed(NamedTuple):
    """Report that the exchange refuses this pair, for good or for the moment. The other pairs go on."""

    pair: Pair
    reason: str
    refusal: Refusal = Refusal.FINAL

    def __str__(self) -> str:
        return f"refused for {'good' if self.refusal is Refusal.FINAL else 'the moment'}: {self.reason}"


class Leave(NamedTuple):
    """Close the connection, because the exchange refuses all of it. Another connection is opened later."""

    reason: str


class Rotate(NamedTuple):
    """Open a successor, because the exchange will close this connection."""

    reason: str


class Banned(NamedTuple):
    """Ask this exchange for nothing for a while. The refusal says for how long."""

    refusal: Refused


class Listed(NamedTuple):
    """Report what the exchange lists: all its pairs if `is_whole`, else those that changed."""

    instruments: tuple[Instrument, ...]
    is_whole: bool


Action: TypeAlias = Send | Fetch | Lost | Restored | Failed | Leave | Rotate | Banned | Listed
