"""What `/api/pairs` takes and answers."""

from datetime import datetime
from typing import Annotated, TypeAlias

from pydantic import BaseModel, Field

from coin_platform.model import Channel
from coin_platform.serve.cluster_health import ClusterHealth
from coin_platform.serve.pair_sets import PairState
from coin_platform.serve.parameters import MOST_PAIRS, PairText

Unchecked: TypeAlias = Annotated[
    bool, Field(description="Take pairs that the exchange does not list or trade, or not yet.")
]


class WantedPairs(BaseModel):
    """The pairs that a channel shall have."""

    pairs: Annotated[list[PairText], Field(max_length=MOST_PAIRS, examples=[["BTC-KRW", "ETH-KRW"]])]
    explicit: bool = Field(False, description="Allow that `pairs` is empty.")
    unchecked: Unchecked = False


class AddedPairs(BaseModel):
    """The pairs that a channel shall have, too."""

    pairs: Annotated[list[PairText], Field(min_length=1, max_length=MOST_PAIRS, examples=[["BTC-KRW"]])]
    unchecked: Unchecked = False


class PairFacts(BaseModel):
    """How far a pair has come: `confirmed` by the exchange, `refused`, `pending` or `dropped`."""

    pair: str
    state: PairState
    reason: str


class ChannelPairs(BaseModel):
    """The pairs of one channel. `follows`: the entry that decides, `*` or the channel's own."""

    channel: Channel
    follows: str
    pairs: list[PairFacts]


class ExchangePairs(BaseModel):
    """The active pairs of an exchange. Version 0: nothing is stored, and the settings decide."""

    exchange: str
    collected: bool = Field(description="Whether COIN_EXCHANGES of the server has this exchange.")
    version: int
    by: str
    time: datetime | None
    cluster: ClusterHealth
    wanted: dict[str, list[str]] = Field(description="The stored entries: `*`, and channels with pairs of their own.")
    channels: list[ChannelPairs]


class ChangedPairs(BaseModel):
    """What became of a change. `note` names channels that it did not reach."""

    exchange: str
    channel: str
    version: int
    results: list[PairFacts]
    note: str = ""


class Reloaded(BaseModel):
    """The collectors were told to read the pairs again. `exchanges` have stored pairs, which were stored anew."""

    version: int
    exchanges: list[str]
