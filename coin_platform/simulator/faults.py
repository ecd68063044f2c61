"""How a simulated exchange misbehaves, when it is told to; the same seed misbehaves in the same way."""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, TypeAlias

import msgspec

from coin_platform.simulator.venue import Kind, Out

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """What one exchange does wrong. Shares (0 to 1) are of the data messages that follow a snapshot."""

    silent: bool = False  # nothing is sent any more, not even answers
    mute: bool = False  # no data, only answers and heartbeats
    close: bool = False  # a new connection is closed at once
    notice: bool = False  # each connection is told of maintenance once, and closed after `LATER` steps
    refuse: str = ""  # this symbol is not known: "BTC/USD"
    status: int = 0  # HTTP answer to everything, also to an upgrade: 429
    retry_after: str = ""  # its Retry-After
    drop: Share = 0.0  # left out
    repeat: Share = 0.0  # sent twice
    swap: Share = 0.0  # sent after what follows it
    bad: Share = 0.0  # followed by one that is malformed

    def change(self, fields: Mapping[str, object]) -> None:
        """Set some fields, given as values or as texts. Raises `msgspec.ValidationError`, and then changes nothing."""
        new = msgspec.convert({**msgspec.structs.asdict(self), **fields}, Faults, strict=False)
        for name in fields:
            setattr(self, name, getattr(new, name))


LATER = 600  # steps from the notice to the end


class Mischief:
    """What `Faults` make of the messages of one connection."""

    def __init__(self, faults: Faults, seed: str) -> None:
        self.faults = faults
        self._random = random.Random(seed)
        self._held: list[Out] = []
        self._since_notice = -1

    def answers(self, outs: Iterable[Out]) -> Iterator[Out]:
        """Return what is left of the answers to a client."""
        for out in outs:
            if not self.faults.silent and not (self.faults.mute and out.kind is Kind.DATA):
                yield out

    def step(self, outs: Iterable[Out]) -> Iterator[Out]:
        """Return what becomes of the messages of a step."""
        held, self._held = self._held, []
        for out in self.answers(outs):
            if out.kind is Kind.DATA:
                yield from self._spoil(out)
            else:
                yield out
        yield from self.answers(held)

    def ends(self) -> bool:
        """Count a step; the connection ends when its notice is old enough."""
        self._since_notice += self._since_notice >= 0
        return self._since_notice > LATER

    def gives_notice(self) -> bool:
        """Return whether it is now that maintenance is announced."""
        if self.faults.notice and self._since_notice < 0:
            self._since_notice = 0
            return True
        return False

    def _spoil(self, out: Out) -> Iterator[Out]:
        faults, happens = self.faults, [self._random.random() for _ in range(4)]
        if happens[0] < faults.drop:
            return
        if happens[1] < faults.swap:
            self._held.append(out)
            return
        yield out
        if happens[2] < faults.repeat:
            yield out
        if happens[3] < faults.bad:
            text = out.payload
            yield Out(self._random.choice((text[: len(text) // 2], text * 2, text[1:])), Kind.BAD)
