"""Pairs are added and dropped while frames flow, with real processes: untouched pairs lose no frame."""

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, open_cluster
from coin_platform.cluster.change import change_pairs
from coin_platform.cluster.pairs import PairSet
from coin_platform.cluster.status import statuses
from coin_platform.collect.collector import assign
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Kind, Pair
from coin_platform.records import unpack, unpack_facts
from tests.kit.asia import NAMES, Asia, running
from tests.kit.history import CLEAN, check
from tests.kit.waiting import until

COINS = [Pair(f"C{number:02}", "USDT") for number in range(1, 51)]
KEPT = [Pair("BTC", "USDT"), Pair("ETH", "USDT")]
STEP = 10  # pairs of one change
CHANGES = [COINS[start : start + STEP] for start in range(0, len(COINS), STEP)]


def test_C4_fifty_pairs_come_and_go_while_frames_flow_and_only_the_difference_is_sent(tmp_path: Path) -> None:
    with running(tmp_path, "local:", rate=10, more_pairs=len(COINS), pairs=",".join(map(str, KEPT))) as platform:
        platform.start("collect", "--region", "asia")
        platform.until_more()
        with closing(open_cluster(platform.settings)) as cluster:
            active = set(KEPT)
            for coins in CHANGES:
                active |= set(coins)
                change(platform, cluster, coins, is_added=True)
                until_confirmed(platform, cluster, active)
            for coins in CHANGES:
                active -= set(coins)
                change(platform, cluster, coins, is_added=False)
                until_confirmed(platform, cluster, active)
        platform.until_more()
        platform.end("simulate")
        platform.end("collect")
        findings = check(platform.sent(), platform.stored())
        assert findings.counts == CLEAN, findings
        opened, answers, marks = read_back(platform)
        assert set(opened.values()) == {1}, "no connection was replaced"
        assert answers == expected(platform)
        assert marks == {
            frozenset(KEPT),
            *(frozenset(shard) for shards in shards_of_okx() for shard in shards if shard),
        }


def change(platform: Asia, cluster: Cluster, coins: list[Pair], *, is_added: bool) -> None:
    """Add coins to all exchanges, or drop them."""

    def edited(pair_set: PairSet) -> PairSet:
        return pair_set.added("*", coins) if is_added else pair_set.dropped("*", coins)

    for name in NAMES:
        change_pairs(cluster, EXCHANGES[name], platform.settings, edited, "a test", wall())


def until_confirmed(platform: Asia, cluster: Cluster, pairs: set[Pair]) -> None:
    """Wait until each channel of each exchange has exactly these pairs confirmed, by its status."""
    wanted = {
        f"feed/{name}/{channel}": {str(pair) for pair in pairs} for name in NAMES for channel in channels(platform)
    }

    def confirmed() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {name: set() for name in wanted}
        for status in statuses(cluster, wall()):
            feed = status.name.rpartition("/")[0]
            if feed in found:
                found[feed] |= {pair for pair, one in status.pairs.items() if one.state == "confirmed"}
        return found

    until(lambda: confirmed() == wanted, 60, name=f"{len(pairs)} pairs")


def channels(platform: Asia) -> Iterable[Channel]:
    return platform.settings.channels


def read_back(platform: Asia) -> tuple[Counter[str], Counter[tuple[str, str]], set[frozenset[Pair]]]:
    """Return how often each feed opened a socket, what OKX confirmed, and the sets of pairs of OKX's tickers."""
    opened, answers, marks = Counter[str](), Counter[tuple[str, str]](), set[frozenset[Pair]]()
    for source in platform.sources:
        place, name = (source.topic, source.partition), source.exchange.name
        for record in platform.broker.read(*place, 0, platform.broker.end_offset(*place)):
            header = unpack(record.header)
            if header.kind is Kind.OPENED and unpack_facts(record.value).transport == "ws":
                opened[f"{name} {header.connection.rpartition('-')[0]}"] += 1
            if name == "okx" and header.kind is Kind.SOCKET:
                answers.update(answered(record.value, source.channel))
            if name == "okx" and header.kind in (Kind.OPENED, Kind.PAIRS) and source.channel is Channel.TICKER:
                facts = unpack_facts(record.value)
                if facts.transport == "ws":
                    marks.add(frozenset(map(Pair.read, facts.pairs)))
    return opened, answers, marks


def answered(payload: bytes, channel: Channel) -> list[tuple[str, str]]:
    """Return which subscription, or its end, OKX confirms with a message: one message for each pair."""
    body = json.loads(payload) if payload[:1] == b"{" else {}
    is_answer = body.get("event") in ("subscribe", "unsubscribe")
    return [(f"{body['event']} {channel}", body["arg"]["instId"])] if is_answer else []


def shards_of_okx() -> list[list[tuple[Pair, ...]]]:
    """Return the pairs of each connection of a channel of OKX after each change."""
    size, active = EXCHANGES["okx"].limits.pairs_per_connection, list(KEPT)
    history = [assign([], active, size)]
    for coins in CHANGES:
        active += coins
        history.append(assign(history[-1], active, size))
    for coins in CHANGES:
        active = [pair for pair in active if pair not in coins]
        history.append(assign(history[-1], active, size))
    return history


def expected(platform: Asia) -> Counter[tuple[str, str]]:
    """Return what OKX confirms if exactly the differences are sent: a connection that loses all its pairs is closed."""
    answers = Counter[tuple[str, str]]()
    history = shards_of_okx()
    for channel in channels(platform):
        answers.update((f"subscribe {channel}", str(pair)) for pair in [*KEPT, *COINS])
        for before, after in pairwise(history):
            for old, new in zip(before, after, strict=False):
                answers.update((f"unsubscribe {channel}", str(pair)) for pair in old if new and pair not in new)
    return answers
