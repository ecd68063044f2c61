"""The active pairs of an exchange: entries, changes, and what is nonsense."""

import pytest

from coin_platform.cluster import ClusterEntry
from coin_platform.cluster.pairs import PairSet, check, decode, editable, key_of, wanted
from coin_platform.errors import BadArgument, PairsUnreadable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Pair
from coin_platform.settings import Settings

UPBIT = EXCHANGES["upbit"]
BTC, ETH, SOL = (Pair(base, "KRW") for base in ("BTC", "ETH", "SOL"))
SETTINGS = Settings(pairs=(BTC, ETH))


def test_without_a_set_the_pairs_of_the_settings_are_wanted() -> None:
    assert wanted(UPBIT, Channel.TICKER, None, SETTINGS) == (BTC, ETH)
    assert editable(UPBIT, None, SETTINGS).pairs == {"*": (BTC, ETH)}


def test_a_channel_without_its_own_entry_follows_the_star() -> None:
    pair_set = PairSet(pairs={"*": (BTC, SOL), "orderbook": (BTC,)})
    assert wanted(UPBIT, Channel.TICKER, pair_set, SETTINGS) == (BTC, SOL)
    assert wanted(UPBIT, Channel.ORDERBOOK, pair_set, SETTINGS) == (BTC,)
    assert pair_set.own_channels == ("orderbook",)


def test_a_set_of_one_channel_leaves_the_others_to_the_settings() -> None:
    pair_set = PairSet(pairs={"orderbook": (SOL,)})
    assert wanted(UPBIT, Channel.TICKER, pair_set, SETTINGS) == (BTC, ETH)
    assert editable(UPBIT, pair_set, SETTINGS).pairs == {"*": (BTC, ETH), "orderbook": (SOL,)}


def test_pairs_are_added_once_and_in_order_and_own_entries_keep_theirs() -> None:
    pair_set = PairSet(pairs={"*": (BTC,), "orderbook": (BTC,)}).added("*", [SOL, BTC, SOL])
    assert pair_set.pairs == {"*": (BTC, SOL), "orderbook": (BTC,)}


def test_a_pair_added_to_a_channel_gives_it_an_entry_of_its_own() -> None:
    pair_set = PairSet(pairs={"*": (BTC,)}).added("trade", [SOL])
    assert pair_set.pairs == {"*": (BTC,), "trade": (BTC, SOL)}


def test_pairs_are_dropped_from_every_entry_or_from_one_channel() -> None:
    pair_set = PairSet(pairs={"*": (BTC, SOL), "orderbook": (BTC, SOL)})
    assert pair_set.dropped("*", [SOL]).pairs == {"*": (BTC,), "orderbook": (BTC,)}
    assert pair_set.dropped("trade", [SOL]).pairs == {**pair_set.pairs, "trade": (BTC,)}


def test_an_entry_becomes_empty_only_explicitly() -> None:
    pair_set = PairSet(pairs={"*": (BTC,), "orderbook": (SOL,)})
    with pytest.raises(BadArgument, match=r"orderbook would have no pair at all"):
        pair_set.dropped("*", [SOL])
    with pytest.raises(BadArgument, match=r"\* would have no pair at all"):
        pair_set.replaced("*", [])
    emptied = pair_set.dropped("*", [SOL], is_explicit=True)
    assert (emptied.pairs, emptied.is_explicit) == ({"*": (BTC,), "orderbook": ()}, True)
    assert wanted(UPBIT, Channel.ORDERBOOK, emptied, SETTINGS) == ()
    assert not emptied.added("orderbook", [SOL]).is_explicit, "the next empty set needs its own word"


def test_a_set_is_stored_and_read_without_loss() -> None:
    pair_set = PairSet(pairs={"*": (BTC, Pair("NVDAx", "USD")), "trade": ()}, is_explicit=True)
    value = pair_set.encode("ops@host", 1_700_000_000_000_000)
    read = decode(key_of("upbit"), ClusterEntry(7, value))
    assert read == PairSet(pairs=pair_set.pairs, is_explicit=True, by="ops@host", time=1_700_000_000_000_000, version=7)


def test_a_field_of_a_newer_version_is_left_out() -> None:
    assert decode("pairs/upbit", ClusterEntry(1, b'{"pairs":{"*":["BTC-KRW"]},"later":[1]}')).pairs == {"*": (BTC,)}


def test_nonsense_is_refused_by_name_and_other_keys_are_not_looked_at() -> None:
    check("other/upbit", ClusterEntry(3, b"nonsense"))
    with pytest.raises(PairsUnreadable, match=r"pairs/upbit, version 3, is not a set of pairs"):
        check("pairs/upbit", ClusterEntry(3, b"nonsense"))


def test_unknown_channels_and_endless_lists_are_refused() -> None:
    with pytest.raises(BadArgument, match="there is no such channel; write one of"):
        PairSet(pairs={}).added("books", [BTC])
    with pytest.raises(BadArgument, match="10001 pairs"):
        PairSet(pairs={}).replaced("*", [Pair(f"C{number}", "KRW") for number in range(10_001)])
