"""Tickers to rows."""

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Pair, Ticker
from coin_platform.tables import schema, ticker
from coin_platform.tables.dataframes import batch
from coin_platform.topic_names import raw_topic
from tests.kit.log import conserves, recorded

UPBIT = Source(EXCHANGES["upbit"], Channel.TICKER, raw_topic("korea", Channel.TICKER), 0)


def test_a_ticker_becomes_one_row_with_its_origin() -> None:
    result = batch(UPBIT, recorded("upbit", "ticker")[:1])
    row = result.rows.to_dicts()[0]
    assert result.rows.schema == schema.CURATED[Channel.TICKER]
    assert (row["pair"], row["last"], row["change_rate_day"]) == ("BTC-KRW", 32287000.0, 0.0126713295)
    assert (row["topic"], row["partition"], row["offset"], row["index"]) == ("koreaSocketDataIn-ticker", 0, 0, 0)
    assert (row["connection"], row["number"], row["transport"]) == ("c", 1, "ws")
    assert conserves(result)


def test_missing_changes_and_rates_are_computed_from_the_exchange_s_own_text() -> None:
    names = list(schema.TICKER_COLUMNS)[4:]
    pair = Pair("BTC", "USDT")
    one = dict(zip(names, ticker.values(Ticker(pair=pair, last="66199.8", open_24h="66568.8")), strict=False))
    assert (one["change_24h"], one["change_rate_24h"]) == (-369.0, -369.0 / 66568.8)
    two = dict(zip(names, ticker.values(Ticker(pair=pair, last="10.5", change_24h="0.5")), strict=False))
    assert (two["open_24h"], two["change_rate_24h"]) == (10.0, 0.05)
    given = Ticker(pair=pair, last="1", prev_close_day="2", change_rate_24h="0.1", change_rate_day="-0.5")
    three = dict(zip(names, ticker.values(given), strict=False))
    assert (three["change_day"], three["change_rate_24h"], three["change_rate_day"]) == (-1.0, 0.1, -0.5)
    none = dict(zip(names, ticker.values(Ticker(pair=pair, last="1")), strict=False))
    tiny = dict(zip(names, ticker.values(Ticker(pair=pair, last="1", open_24h="5e-324")), strict=False))
    assert tiny["change_rate_24h"] is None and tiny["open_24h"] == 5e-324
    assert none["change_rate_24h"] is none["open_24h"] is none["best_bid"] is None
