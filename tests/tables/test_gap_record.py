"""A gap as a record of the topic `MarketGaps`."""

import json

from coin_platform.model import Channel, Gap, Pair
from coin_platform.tables import schema
from coin_platform.tables.gap_record import pack_gap
from tests.kit.log import TIME


def test_a_gap_has_the_keys_of_its_table_and_times_as_text() -> None:
    gap = Gap(exchange="upbit", channel=Channel.TRADE, pair=Pair("BTC", "KRW"), start=TIME, stop=None, cause="silence")
    record = json.loads(pack_gap(gap))
    assert list(record) == ["exchange", *schema.GAP.names()[:7]]
    assert (record["channel"], record["pair"], record["to"]) == ("trade", "BTC-KRW", None)
    assert record["from"] == "2026-11-24 00:00:00.000000+00:00"


def test_a_gap_of_all_pairs_names_none() -> None:
    gap = Gap(exchange="upbit", channel=Channel.TRADE, pair=None, start=TIME, stop=TIME + 1, cause="new_log")
    assert json.loads(pack_gap(gap))["pair"] is None
