"""Which records a client of the feed wants, as the query of its address says."""

from typing import NamedTuple
from urllib.parse import parse_qsl

from coin_platform.errors import FeedRefused, UnknownPair
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Pair
from coin_platform.serve.feed.records import TYPES, FeedRecord

MOST_VALUES = 100  # of one query: a longer one is easier served by the whole feed
_CONFLATED = (Channel.TICKER, Channel.ORDERBOOK)  # each record tells the whole state, so that the latest suffices


class Filter(NamedTuple):
    """The records of some exchanges, pairs and types. An empty set means all of them."""

    exchanges: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    is_conflated: bool = False  # only the latest ticker and book of a pair in each bundle

    def wants(self, record: FeedRecord) -> bool:
        """Return whether a record is wanted. A gap of a whole feed and a hole concern each pair of it."""
        return (
            (not self.exchanges or record.exchange in self.exchanges)
            and (not self.types or (record.missing or record.type) in self.types)
            and (not self.pairs or record.pair is None or record.pair in self.pairs)
        )

    def conflated(self, records: list[FeedRecord]) -> list[FeedRecord]:
        """Return the records of a bundle: all, or without tickers and books that a later one replaces."""
        if not self.is_conflated:
            return records
        last = {record.key: place for place, record in enumerate(records)}
        return [
            record for place, record in enumerate(records) if record.type not in _CONFLATED or last[record.key] == place
        ]


def read_filter(query: str) -> Filter:
    """Return the filter of a query such as `exchange=upbit&pair=BTC-KRW&type=ticker&conflate=1`.

    Each name may come several times, and hold several values with commas between them.
    Raises `FeedRefused`, which names what is wrong and what is right.
    """
    try:
        items = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=MOST_VALUES)
    except ValueError:
        raise FeedRefused(f"the query is not name=value with & between, with at most {MOST_VALUES} of them") from None
    values: dict[str, list[str]] = {"exchange": [], "pair": [], "type": [], "conflate": []}
    for name, text in items:
        if name not in values:
            raise FeedRefused(f"{name[:40]!r} is no name of the query; there are {', '.join(values)}")
        values[name] += text.split(",")
    if sum(map(len, values.values())) > MOST_VALUES:
        raise FeedRefused(f"the query has more than {MOST_VALUES} values; ask for the whole feed instead")
    for name, known in (("exchange", list(EXCHANGES)), ("type", TYPES), ("conflate", ("0", "1"))):
        for value in values[name]:
            if value not in known:
                raise FeedRefused(f"{name}={value[:40]}: there are {', '.join(known)}")
    try:
        pairs = frozenset(str(Pair.parse(text)) for text in values["pair"])
    except UnknownPair as error:
        raise FeedRefused(f"pair: {error}") from error
    return Filter(frozenset(values["exchange"]), pairs, frozenset(values["type"]), values["conflate"][-1:] == ["1"])
