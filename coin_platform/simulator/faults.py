"""Make a simulated exchange misbehave on request. The same seed gives the same misbehaviour."""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, TypeAlias

import msgspec

from coin_platform.simulator.venue import Message, MessageKind

NOTICE_STEPS = 600  # from the announcement of maintenance to the end of the connection: a minute at 10 steps a second

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """The faults of one exchange. A share (0 to 1) is of the data messages that follow a snapshot."""

    silent: bool = False  # nothing is sent, not even answers
    mute: bool = False  # no data is sent, only answers and heartbeats
    close: bool = False  # a new connection is closed at once
    notice: bool = False  # maintenance is announced once to each connection, which ends `NOTICE_STEPS` later
    refuse: str = ""  # this symbol is refused although it is listed: "BTC/USD"
    status: int = 0  # HTTP status of every answer, also to an upgrade: 429
    retry_after: str = ""  # the header Retry-After of these answers
    drop: Share = 0.0  # not sent
    repeat: Share = 0.0  # sent twice
    swap: Share = 0.0  # sent after the messages of the next step
    bad: Share = 0.0  # followed by a malformed copy

    def change(self, fields: Mapping[str, object]) -> None:
        """Set some fields, given as values or as texts. Raises `msgspec.ValidationError`, and then changes nothing."""
        new = msgspec.convert({**msgspec.structs.asdict(self), **fields}, Faults, strict=False)
        for name in fields:
            setattr(self, name, getattr(new, name))


class Mischief:
    """Apply the faults of an exchange to the messages of one connection."""

    def __init__(self, faults: Faults, seed: str) -> None:
        self.faults = faults
        self._random = random.Random(seed)
        self._held: list[Message] = []  # until after the next step
        self._since_notice = -1  # steps; -1: no notice was given

    def answers(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages that a silent or mute exchange still sends."""
        for message in messages:
            if not self.faults.silent and not (self.faults.mute and message.kind is MessageKind.DATA):
                yield message

    def step(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages of a step after all faults."""
        held, self._held = self._held, []
        for message in self.answers(messages):
            if message.kind is MessageKind.DATA:
                yield from self._spoil(message)
            else:
                yield message
        yield from self.answers(held)

    def ends(self) -> bool:
        """Count a step, and return whether the connection must end now because of its notice."""
        self._since_notice += self._since_notice >= 0
        return self._since_notice > NOTICE_STEPS

    def gives_notice(self) -> bool:
        """Return whether maintenance must be announced now."""
        if self.faults.notice and self._since_notice < 0:
            self._since_notice = 0
            return True
        return False

    def _spoil(self, message: Message) -> Iterator[Message]:
        # Each message takes four random numbers, even without faults. So a fault does not change where others strike.
        faults, draws = self.faults, [self._random.random() for _ in range(4)]
        if draws[0] < faults.drop:
            return
        if draws[1] < faults.swap:
            self._held.append(message)
            return
        yield message
        if draws[2] < faults.repeat:
            yield message
        if draws[3] < faults.bad:
            text = message.payload
            yield Message(self._random.choice((text[: len(text) // 2], text * 2, text[1:])), MessageKind.BAD)
