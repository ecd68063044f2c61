"""The state of a feed, as data."""

from typing import NamedTuple

from coin_platform.collect.actions import Failed
from coin_platform.model import Channel, Microseconds, Pair, Proof


class FeedStatus(NamedTuple):
    """The state of one feed now."""

    exchange: str
    channel: Channel
    shard: int
    connection: str  # name of the newest connection, or of the poller
    transport: str  # ws, or rest while it is polled
    state: str  # idle, waiting, connecting, subscribing, refused, live, stale, closing
    pairs: tuple[Pair, ...]
    unconfirmed: frozenset[Pair]
    invalid: frozenset[Pair]
    refused: dict[Pair, Failed]  # why, and whether for good or for the moment
    stale: frozenset[Pair]  # without news for `STALE_SECONDS`
    proof: Proof  # of the exchange's books
    proved: frozenset[Pair]  # pairs whose book is proved now; of channel `orderbook`
    not_traded: dict[Pair, str]  # pairs that the exchange does not list, or that are halted, and what it says of each
    listed: int | None  # pairs that the exchange lists; of channel `instrument`
    listing_news: tuple[Microseconds, str] | None  # what changed last in the list, and when; of channel `instrument`
    clock_lag: Microseconds | None  # how far our clock is ahead of the exchange's messages
    clock_suspect: bool  # so far that one clock must be wrong
    frames: int
    bytes: int
    undecodable: int  # frames
    unasked: int  # events of pairs that their connection did not carry
    lost: int  # books
    resyncs: int  # requests for a book again
    reconnects: int
    last_frame_time: Microseconds | None
    last_error: str
    last_times: dict[Pair, Microseconds]  # when each pair last had data on the newest connection, or over REST
