"""The table of what an exchange lists: its check, its metadata, and where its past comes from."""

import json
from typing import Any

import dagster as dg
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Kind, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.records import Facts, Header, Transport
from coin_platform.selection import sources
from tests.kit.log_and_lake import FIRST, MINUTE, SECOND, SETTINGS, THIRD

BEGIN = FIRST.start
WINDOWS = [FIRST, SECOND, THIRD]
GATE = EXCHANGES["gateio"]
[SOURCE] = [source for source in sources(GATE, SETTINGS) if source.channel is Channel.INSTRUMENT]


class Platform:
    """A log whose clock the test moves, and a lake."""

    def __init__(self) -> None:
        self.time, self.number = BEGIN, 0
        self.broker = MemoryBroker(clock=lambda: self.time)
        self.lake = Lake(MemoryStore(), MINUTE)

    def log(self, time: int, kind: Kind, value: bytes) -> None:
        self.time = time
        self.number += kind is Kind.REST
        header = Header(kind, 1, "c" if kind is Kind.REST else "w", self.number * (kind is Kind.REST), time)
        self.broker.append(SOURCE.topic, SOURCE.partition, header.pack(), value)

    def want(self, time: int, *pairs: str) -> None:
        self.log(time, Kind.PAIRS, Facts(transport=Transport.NONE, pairs=[*pairs]).pack())

    def list(self, time: int, **states: str) -> None:
        rows = [{"id": f"{base}_USDT", "trade_status": state} for base, state in states.items()]
        self.log(time, Kind.REST, json.dumps(rows).encode())

    def make(self, window: Window) -> "dg.MaterializeResult[Any]":
        materialise_raw(SOURCE, window, self.broker, self.lake, SETTINGS)
        return materialise_rows(SOURCE, window, self.broker, self.lake)


@pytest.fixture
def platform() -> Platform:
    """Give three minutes: a pair appears in the second one, and a wanted pair vanishes."""
    platform = Platform()
    platform.want(BEGIN + 1, "BTC-USDT", "OLD-USDT")
    platform.list(BEGIN + 2, BTC="tradable", OLD="tradable")
    platform.want(WINDOWS[0].stop - 5_000_000, "BTC-USDT", "OLD-USDT")
    platform.list(WINDOWS[1].start + 2, BTC="untradable", NEW="tradable")
    platform.want(WINDOWS[1].stop - 5_000_000, "BTC-USDT", "OLD-USDT")
    platform.list(WINDOWS[2].start + 2, BTC="tradable", NEW="tradable")
    platform.time = WINDOWS[2].stop + MINUTE
    return platform


def listed(made: "dg.MaterializeResult[Any]") -> dg.AssetCheckResult:
    [check] = [check for check in made.check_results or () if check.check_name == "listed"]
    return check


def changes(made: "dg.MaterializeResult[Any]") -> str:
    """Return what the metadata say of new, changed and delisted pairs."""
    listings = (made.metadata or {})["listings"]
    assert isinstance(listings, dg.MarkdownMetadataValue)
    return str(listings.value)


def test_R15_a_wanted_pair_that_is_gone_is_an_error_and_its_window_names_all_that_changed(platform: Platform) -> None:
    first, second, third = map(platform.make, WINDOWS)
    assert listed(first).passed
    assert (listed(second).passed, listed(second).severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert listed(second).description == "not listed: OLD-USDT; not traded: BTC-USDT halted"
    assert changes(second).splitlines() == [
        "- changed BTC-USDT: halted (untradable)",
        "- listed NEW-USDT: trading (tradable)",
        "- delisted OLD-USDT: delisted",
    ]
    assert changes(first) == "none"
    assert not listed(third).passed  # as long as somebody wants it
    rows = platform.lake.read("instrument", "gateio", WINDOWS[2])
    assert rows is not None
    assert rows.select("pair", "state", "change").rows() == [
        ("BTC-USDT", "trading", "changed"),
        ("NEW-USDT", "trading", None),
    ]


def test_a_halted_wanted_pair_warns() -> None:
    platform = Platform()
    platform.want(BEGIN + 1, "BTC-USDT")
    platform.list(BEGIN + 2, BTC="untradable")
    platform.time = WINDOWS[2].stop
    check = listed(platform.make(WINDOWS[0]))
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_S2_a_window_is_the_same_once_the_topic_has_lost_the_window_before(platform: Platform) -> None:
    first = [platform.make(window).data_version for window in WINDOWS]
    end = platform.broker.offset_for_time(SOURCE.topic, SOURCE.partition, WINDOWS[1].start)
    platform.broker.trim(SOURCE.topic, SOURCE.partition, end)
    again = platform.make(WINDOWS[1])
    assert (again.metadata or {})["changed"] is False
    assert again.data_version == first[1]
