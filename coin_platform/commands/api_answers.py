"""Answers of the control API, read back into the values that the server made them of."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from coin_platform.cluster import Health, HealthState
from coin_platform.cluster.pairs import PairSet
from coin_platform.cluster.status import ComponentKind, PairStatus, Status
from coin_platform.errors import ApiError
from coin_platform.model import Instrument, InstrumentState, Pair
from coin_platform.times import microseconds_of

Answer = TypeVar("Answer")


def read_answer(answer: Any, kind: type[Answer]) -> Answer:
    """Return an answer as what it should be. Raises `ApiError` for that of another version of the server."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ApiError(
            f"the control API answers what this version of coin does not read, {error!s:.200}; update the older of both"
        ) from error


class ClusterAnswer(msgspec.Struct):
    """Whether the server's store can be trusted."""

    state: HealthState
    since: datetime
    reason: str

    def health(self) -> Health:
        """Return it as the store itself says it."""
        return Health(self.state, microseconds_of(self.since), self.reason)


class PairsAnswer(msgspec.Struct):
    """The active pairs of one exchange."""

    exchange: str
    collected: bool
    version: int
    by: str
    time: datetime | None
    wanted: dict[str, list[str]]
    cluster: ClusterAnswer

    def pair_set(self) -> PairSet:
        """Return the set. Raises `UnknownPair`."""
        return PairSet(
            pairs={name: tuple(map(Pair.read, texts)) for name, texts in self.wanted.items()},
            by=self.by,
            time=0 if self.time is None else microseconds_of(self.time),
            version=self.version,
        )


class MarketAnswer(msgspec.Struct):
    """What an exchange lists of one pair."""

    pair: str
    state: InstrumentState
    exchange_state: str | None
    tick_size: str | None
    size_step: str | None
    min_size: str | None
    min_value: str | None
    listed_time: datetime | None

    def instrument(self) -> Instrument:
        """Return the market. Raises `UnknownPair`."""
        return Instrument(
            pair=Pair.read(self.pair),
            state=self.state,
            exchange_state=self.exchange_state,
            tick_size=self.tick_size,
            size_step=self.size_step,
            min_size=self.min_size,
            min_value=self.min_value,
            listed_time=None if self.listed_time is None else microseconds_of(self.listed_time),
        )


class MarketsAnswer(msgspec.Struct):
    """A page of markets."""

    total: int
    markets: list[MarketAnswer]


class PairResultAnswer(msgspec.Struct):
    """What became of one pair of a change."""

    pair: str
    state: str
    reason: str


class ChangedAnswer(msgspec.Struct):
    """What became of a change."""

    results: list[PairResultAnswer]
    note: str


class ReloadedAnswer(msgspec.Struct):
    """The exchanges whose pairs were stored anew."""

    exchanges: list[str]


class PairNewsAnswer(msgspec.Struct):
    """What a feed knows of one pair."""

    state: str
    reason: str
    last_time: datetime | None

    def pair_status(self) -> PairStatus:
        """Return it as a feed reports it."""
        last_time = None if self.last_time is None else microseconds_of(self.last_time)
        return PairStatus(state=self.state, reason=self.reason, last_time=last_time)


class ComponentAnswer(msgspec.Struct):
    """One component."""

    name: str
    kind: ComponentKind
    state: str
    since: datetime
    time: datetime
    reason: str
    host: str
    process: int
    version: str
    numbers: dict[str, float | int]
    texts: dict[str, str]
    pairs: dict[str, PairNewsAnswer]

    def status(self) -> Status:
        """Return it as the component reports it."""
        return Status(
            name=self.name,
            kind=self.kind,
            state=self.state,
            since=microseconds_of(self.since),
            time=microseconds_of(self.time),
            reason=self.reason,
            host=self.host,
            process=self.process,
            version=self.version,
            numbers=self.numbers,
            texts=self.texts,
            pairs={pair: news.pair_status() for pair, news in self.pairs.items()},
        )


class StatusesAnswer(msgspec.Struct):
    """All components, and the store through which they report."""

    cluster: ClusterAnswer
    components: list[ComponentAnswer]
