"""What an event gives to its row, by the names of the columns."""

from coin_platform.model import BookUpdate, Candle, Control, Event, Level, Pair, Side, Ticker, Trade
from coin_platform.tables import schema
from coin_platform.tables.rows import columns_of

BTC = Pair("BTC", "KRW")
TRADE = Trade(pair=BTC, id="7", price=1.5, size=2.0, side=Side.BUY, exchange_time=3)
CANDLE = Candle(pair=BTC, open_time=60, open=1.0, high=2.0, low=0.5, close=1.5, volume=9.0)


def own_columns(names: schema.Columns) -> list[str]:
    """Return what a table says beyond what all tables say."""
    return [name for name in names if name not in {"pair", *schema.WHEN, *schema.ORIGIN}]


def test_events_have_the_names_of_their_tables_columns() -> None:
    events: list[tuple[Event, schema.Columns]] = [
        (Ticker(pair=BTC, last="1"), schema.TICKER_COLUMNS),
        (TRADE, schema.TRADE_COLUMNS),
        (CANDLE, schema.CANDLE_COLUMNS),
    ]
    for event, names in events:
        assert list(columns_of(event)) == ["exchange_time", *own_columns(names)]


def test_what_an_exchange_leaves_open_is_null() -> None:
    assert columns_of(TRADE) == {"exchange_time": 3, "id": "7", "price": 1.5, "size": 2.0, "side": "buy"}
    prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 9.0}
    unknown = {"exchange_time": None, "quote_volume": None, "is_closed": None}
    assert columns_of(CANDLE) == {"open_time": 60, **prices, **unknown}


def test_what_has_no_table_of_its_own_shows_what_it_knows() -> None:
    assert columns_of(Control(name="pong")) == {"name": "pong"}
    book = BookUpdate(pair=BTC, is_snapshot=True, bids=[Level(1.0, 2.0)], asks=[])
    assert columns_of(book) == {"is_snapshot": True, "bids": [Level(1.0, 2.0)], "asks": []}
