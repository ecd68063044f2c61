"""The active pairs of an exchange: which pairs are collected on which channel. Everything here is pure."""

from collections.abc import Iterable, Mapping

import msgspec

from coin_platform.cluster.contract import ClusterEntry
from coin_platform.errors import BadArgument, PairsUnreadable, UnknownPair
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds, Pair
from coin_platform.selection import wanted_pairs
from coin_platform.settings import Settings

PREFIX = "pairs/"
ALL_CHANNELS = "*"  # the entry that a channel without its own entry follows
MOST_PAIRS = 10_000  # of one entry: twice what the largest exchange trades


def key_of(exchange: str) -> str:
    """Return the key of an exchange's active pairs."""
    return f"{PREFIX}{exchange}"


class PairSet(msgspec.Struct, frozen=True, kw_only=True):
    """The active pairs of one exchange.

    1. `pairs` has an entry for `*` and for each channel that has its own pairs. A channel without its own entry
       follows `*`.
    2. Where neither exists, the pairs of the settings are active.
    3. A set that makes an entry empty, or that has no entry, is only valid with `is_explicit`. So a set that was
       emptied by a mistake is nonsense, and the last good set stays in force.
    """

    pairs: dict[str, tuple[Pair, ...]]
    is_explicit: bool = False
    by: str = ""  # who changed it
    time: Microseconds = 0  # when
    version: int = 0  # of the store; 0: not stored

    @classmethod
    def of_settings(cls, exchange: Exchange, settings: Settings) -> "PairSet":
        """Return the set that holds where none is stored."""
        pairs = wanted_pairs(exchange, settings)
        return cls(pairs={ALL_CHANNELS: pairs}, is_explicit=not pairs)

    def of(self, channel: str) -> tuple[Pair, ...] | None:
        """Return the active pairs of a channel, or `None` if the settings decide."""
        return self.pairs.get(channel, self.pairs.get(ALL_CHANNELS))

    def replaced(self, channel: str, pairs: Iterable[Pair], is_explicit: bool = False) -> "PairSet":
        """Return the set with other pairs for one channel, or for `*`.

        Raises `BadArgument` for an empty set that is not `is_explicit`, and for too many pairs.
        """
        entry = _checked(channel, tuple(dict.fromkeys(pairs)))
        return _whole(self, {**self.pairs, channel: entry}, is_explicit)

    def added(self, channel: str, pairs: Iterable[Pair]) -> "PairSet":
        """Return the set with these pairs added to a channel. A channel without its own entry gets one first.

        Pairs that are added to `*` are not added to the channels that have their own entry: see `own_channels`.
        """
        return self.replaced(channel, (*(self.of(channel) or ()), *pairs), self.is_explicit)

    def dropped(self, channel: str, pairs: Iterable[Pair], is_explicit: bool = False) -> "PairSet":
        """Return the set without these pairs on a channel. For `*` they are dropped from every entry.

        Raises `BadArgument` if an entry becomes empty and the change is not `is_explicit`.
        """
        unwanted = set(pairs)
        changed = self.pairs if channel == ALL_CHANNELS else {channel: self.of(channel) or ()}
        kept = {name: tuple(pair for pair in entry if pair not in unwanted) for name, entry in changed.items()}
        return _whole(self, {**self.pairs, **kept}, is_explicit or self.is_explicit)

    @property
    def own_channels(self) -> tuple[str, ...]:
        """The channels that have their own entry, and do not follow `*`."""
        return tuple(name for name in self.pairs if name != ALL_CHANNELS)

    def unreached(self, channel: str) -> str:
        """Return which channels get no pair that is added to this channel, or to `*`; empty if all get it."""
        if channel != ALL_CHANNELS or not self.own_channels:
            return ""
        return f"{', '.join(self.own_channels)} have pairs of their own, to which nothing is added this way"

    def encode(self, by: str, time: Microseconds) -> bytes:
        """Return the stored value: JSON, without the version, which the store keeps beside it."""
        pairs = {name: [str(pair) for pair in entry] for name, entry in self.pairs.items()}
        return msgspec.json.encode(_Stored(pairs=pairs, explicit=self.is_explicit, by=by, time=time))


def decode(key: str, entry: ClusterEntry) -> PairSet:
    """Return the set of an entry. Raises `PairsUnreadable`, which names the key, for anything else."""
    try:
        stored = _decode(entry.value)
        pairs = {name: tuple(map(Pair.read, texts)) for name, texts in stored.pairs.items()}
        for name, entry_pairs in pairs.items():
            _checked(name, entry_pairs)
        whole = PairSet(pairs=pairs, is_explicit=stored.explicit, by=stored.by, time=stored.time, version=entry.version)
        return _whole(whole, pairs, stored.explicit)
    except (msgspec.MsgspecError, UnicodeDecodeError, UnknownPair, BadArgument) as error:
        raise PairsUnreadable(f"{key}, version {entry.version}, is not a set of pairs: {error!s:.200}") from error


def check(key: str, entry: ClusterEntry) -> None:
    """Raise `PairsUnreadable` if an entry of the active pairs is nonsense. Other keys are not looked at."""
    if key.startswith(PREFIX):
        decode(key, entry)


def editable(exchange: Exchange, pair_set: PairSet | None, settings: Settings) -> PairSet:
    """Return the set that is in force as one that can be changed: with an entry for `*`, also where none is stored."""
    in_settings = PairSet.of_settings(exchange, settings)
    if pair_set is None:
        return in_settings
    return msgspec.structs.replace(pair_set, pairs={**in_settings.pairs, **pair_set.pairs})


def wanted(exchange: Exchange, channel: Channel, pair_set: PairSet | None, settings: Settings) -> tuple[Pair, ...]:
    """Return the pairs to collect on a channel. Without a set, or an entry in it, the settings decide."""
    pairs = pair_set.of(channel) if pair_set is not None else None
    return wanted_pairs(exchange, settings) if pairs is None else pairs


class _Stored(msgspec.Struct, omit_defaults=True):
    pairs: dict[str, list[str]]
    explicit: bool = False
    by: str = ""
    time: Microseconds = 0


_decode = msgspec.json.Decoder(_Stored).decode
_CHANNELS = (ALL_CHANNELS, *Channel)


def _checked(channel: str, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    if channel not in _CHANNELS:
        raise BadArgument(f"{channel:.40}: there is no such channel; write one of {', '.join(_CHANNELS)}")
    if len(pairs) > MOST_PAIRS:
        raise BadArgument(f"{len(pairs)} pairs on {channel} are more than {MOST_PAIRS}; write fewer")
    return pairs


def _whole(base: PairSet, pairs: Mapping[str, tuple[Pair, ...]], is_explicit: bool) -> PairSet:
    """Return a set with these entries. Raises `BadArgument` if one is empty and that is not explicit."""
    empty = [name for name, entry in pairs.items() if not entry]
    if (empty or not pairs) and not is_explicit:
        raise BadArgument(f"{empty[0] if empty else 'the set'} would have no pair at all; say so explicitly")
    return msgspec.structs.replace(base, pairs=dict(pairs), is_explicit=bool(empty or not pairs))
