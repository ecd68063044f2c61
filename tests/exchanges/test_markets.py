"""Lists of markets as exchanges send them: an odd row costs one market, and no two markets become one."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.binance import QUOTES as BINANCE_QUOTES
from coin_platform.exchanges.bybit import QUOTES as BYBIT_QUOTES
from coin_platform.model import BookUpdate, Channel, Kind, Pair, Refused
from coin_platform.records import Checkpoint, Header, Record, unpack
from coin_platform.tables.dataframes import raw_table, records
from tests.kit.market_lists import LISTS, listed, traded_pairs
from tests.kit.recordings import say

ODD_VALUES: tuple[Any, ...] = (None, "", "A--B", "-", "/", "_", "A,B-C", "A\nB-C", "../-..", 7, True, [], {}, "X" * 500)


def odd_rows(row: dict[str, Any]) -> list[Any]:
    """Return rows of which no market can be read or traded, or only the one that `row` is."""
    changed = [{**row, name: value} for name in row for value in ODD_VALUES]
    missing = [{key: value for key, value in row.items() if key != name} for name in row]
    return [*changed, *missing, None, 7, "row", [], {}]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R7_an_odd_row_costs_one_market(exchange: str) -> None:
    adapter, row = EXCHANGES[exchange], LISTS[exchange][2]
    [pair] = traded_pairs(adapter, listed(exchange, [row]))
    for odd in odd_rows(row):
        assert traded_pairs(adapter, listed(exchange, [odd, row, odd])) == [pair], odd
    without: tuple[list[Any], ...] = ([None, 7, {}], [])
    for rows in without:
        with pytest.raises(DecodeError, match=f"^{exchange}: "):
            traded_pairs(adapter, listed(exchange, rows))


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R7_every_listed_pair_is_read_back_from_its_symbol(exchange: str) -> None:
    adapter, row = EXCHANGES[exchange], LISTS[exchange][2]
    text = listed(exchange, [row]).decode()
    names = ["ETH2.S", "1INCH", "NVDAx", "币안人生", "A", "XBT", "USD.M", "9", "BTC", "XDG"]
    for name in names:
        for spelled in (name, name.lower()):
            changed = text.replace("BTC", spelled).replace("XBT", spelled).replace("btc", spelled)
            pairs = traded_pairs(adapter, changed.encode())
            assert all(adapter.pair(adapter.symbol(pair)) == pair for pair in pairs)
            assert [pair.quote for pair in pairs] in ([adapter.quote], []), spelled
    [dotted] = traded_pairs(
        adapter, text.replace("BTC", "ETH2.S").replace("XBT", "ETH2.S").replace("btc", "eth2.s").encode()
    )
    assert dotted == Pair("ETH2.S", adapter.quote)


def test_R7_a_market_with_an_unknown_state_of_trading_is_listed() -> None:
    row = {"id": "BTC-USD", "status": "online", "trading_disabled": None}
    assert traded_pairs(EXCHANGES["coinbase"], listed("coinbase", [row])) == [Pair("BTC", "USD")]


def test_R7_tokenised_stocks_are_asked_for_in_the_exchanges_spelling() -> None:
    kraken, pair = EXCHANGES["kraken"], Pair.parse("NVDAx-USD")
    assert kraken.pair("NVDAx/USD") == pair != kraken.pair("NVDAX/USD")
    [request] = kraken.subscribe(Channel.TICKER, [pair], id=1, time=0)
    assert '"NVDAx/USD"' in request.payload
    assert "NVDAx/USD" in str(kraken.request_url(Channel.TICKER, pair))
    [refused] = say(
        "kraken",
        Channel.TICKER,
        b'{"error":"Currency pair not supported NVDAx/USD","method":"subscribe","success":false,"symbol":"NVDAx/USD"}',
    )
    assert isinstance(refused, Refused) and refused.pair == pair


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("AVAXUSD", "AVAX-USD"),
        ("TRXUSD", "TRX-USD"),
        ("BTCXUSD", "BTC-XUSD"),
        ("ETHRLUSD", "ETH-RLUSD"),
        ("BTCUSD", "BTC-USD"),
        ("USDTUSD", "USDT-USD"),
        ("XUSDUSDT", "XUSD-USDT"),
        ("NEWXUSD", ""),  # NEW-XUSD or NEWX-USD
        ("PRLUSD", ""),
        ("USDT", ""),
    ],
)
def test_R7_a_bybit_symbol_that_cannot_be_cut_surely_is_no_pair(symbol: str, pair: str) -> None:
    bybit = EXCHANGES["bybit"]
    row = {"symbol": symbol, "lastPrice": "1"}
    message = {"topic": f"tickers.{symbol}", "ts": 1786310819126, "type": "snapshot", "data": row}
    ticker = json.dumps(message).encode()
    if pair:
        assert str(bybit.pair(symbol)) == pair
        [event] = say("bybit", Channel.TICKER, ticker)
        assert str(getattr(event, "pair", None)) == pair
    else:
        with pytest.raises(UnknownPair):
            bybit.pair(symbol)
        with pytest.raises(DecodeError):
            say("bybit", Channel.TICKER, ticker)


@pytest.mark.parametrize("symbol", ["BTCAEUR", "ETHAEUR", "USDTBIDR", "BTCBIDR", "DOGEBIDR"])
def test_R7_retired_symbols_of_binance_are_no_pairs(symbol: str) -> None:
    with pytest.raises(UnknownPair, match="not traded any more"):
        EXCHANGES["binance"].pair(symbol)


@pytest.mark.parametrize(("symbol", "pair"), [("ADAEUR", "ADA-EUR"), ("BNBIDR", "BNB-IDR"), ("DOTTRY", "DOT-TRY")])
def test_R7_symbols_that_look_like_retired_ones_are_pairs(symbol: str, pair: str) -> None:
    assert str(EXCHANGES["binance"].pair(symbol)) == pair


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [("XXBTZUSD", "BTC-USD"), ("XETHXXBT", "ETH-BTC"), ("ZEURZUSD", "EUR-USD"), ("XXDGZUSD", "DOGE-USD")],
)
def test_R7_the_oldest_names_of_kraken_are_read_whole(symbol: str, pair: str) -> None:
    assert str(EXCHANGES["kraken"].pair(symbol)) == pair


@pytest.mark.parametrize("symbol", ["USDTZUSD", "XTZXXBT", "ZUSD", "FOO"])
def test_R7_a_kraken_symbol_that_cannot_be_cut_surely_is_no_pair(symbol: str) -> None:
    with pytest.raises(UnknownPair):
        EXCHANGES["kraken"].pair(symbol)


@given(st.sampled_from(["binance", "bybit"]), st.text("ABDEILRSTUX2", min_size=1, max_size=6), st.data())
def test_R7_a_symbol_is_never_read_as_two_pairs(exchange: str, base: str, data: st.DataObject) -> None:
    adapter = EXCHANGES[exchange]
    quote = data.draw(st.sampled_from({"binance": BINANCE_QUOTES, "bybit": BYBIT_QUOTES}[exchange]))
    symbol = adapter.symbol(Pair(base, quote))
    try:
        pair = adapter.pair(symbol)
    except UnknownPair:
        return
    assert adapter.symbol(pair) == symbol
    if exchange == "binance":  # whose quotes allow one cut only
        assert pair == Pair(base, quote)


NAMES = st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=12)


@given(NAMES, st.one_of(NAMES, st.just("ETH2.S")))
def test_R7_a_pair_survives_headers_tables_checkpoints_and_json(base: str, quote: str) -> None:
    pair = Pair(base, quote)
    assert Pair.read(str(pair)) == pair
    header = Header(Kind.REST, 1, "c", 1, 1, pair)
    assert unpack(header.pack()) == header
    [record] = records(raw_table([Record(0, 1, header.pack(), b"")]))
    assert unpack(record.header) == header
    update = BookUpdate(pair=pair, is_snapshot=True, bids=[], asks=[])
    checkpoint = msgspec.json.decode(msgspec.json.encode(Checkpoint.of(update)), type=Checkpoint)
    assert checkpoint.update().pair == pair


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        (" btc-krw ", "BTC-KRW"),
        ("BTC-krw", "BTC-KRW"),
        ("1inch-usdt", "1INCH-USDT"),
        ("NVDAx-usd", "NVDAx-USD"),
        ("eth2.s-eur", "ETH2.S-EUR"),
        ("币안人生-USDT", "币안人生-USDT"),
    ],
)
def test_R7_what_people_write_keeps_a_case_that_matters(text: str, pair: str) -> None:
    assert str(Pair.parse(text)) == pair


@pytest.mark.parametrize(
    "text",
    ["", "-", "A", "A--B", "A-B-C", "A,B-C", "A\n-B", "A B-C", ".-B", "A-.", "A/B-C", "_-B", "A" * 65 + "-B", "A-\x00"],
)
def test_R7_what_is_no_pair_is_refused(text: str) -> None:
    for read in (Pair.read, Pair.parse):
        with pytest.raises(UnknownPair, match="write BASE-QUOTE"):
            read(text)


DOTTED = {
    "gateio": '{"channel":"spot.obu","result":{"t":1786541318124,"full":true,"s":"ob.ETH2.S_USDT.400","u":1,'
    '"b":[["1","1"]],"a":[]},"event":"update"}',
    "bybit": '{"topic":"orderbook.200.ETH2.SUSDT","ts":1786182438509,"type":"snapshot",'
    '"data":{"s":"ETH2.SUSDT","b":[["1","1"]],"a":[],"u":1}}',
    "kraken": '{"channel":"ticker","type":"update","data":[{"symbol":"ETH2.S/USD","last":1.0}]}',
}


@pytest.mark.parametrize("exchange", DOTTED)
def test_R7_a_dot_in_a_name_is_no_separator(exchange: str) -> None:
    [event] = say(exchange, Channel.ORDERBOOK, DOTTED[exchange].encode())
    assert getattr(event, "pair", None) == Pair("ETH2.S", EXCHANGES[exchange].quote)


def test_R7_a_refusal_of_a_dotted_name_names_its_pair() -> None:
    gate = (
        b'{"channel":"spot.obu","event":"subscribe","payload":["ob.ETH2.S_USDT.400"],"error":{"code":2,'
        b'"message":"Alert sub ob.ETH2.S_USDT.400"},"result":{"status":"fail"}}'
    )
    bybit = b'{"success":false,"ret_msg":"Invalid symbol :[orderbook.200.ETH2.SUSDT]","op":"subscribe"}'
    coinbase = b'{"type":"error","message":"Failed to subscribe","reason":"ETH2.S-USD is not a valid product"}'
    for exchange, payload in (("gateio", gate), ("bybit", bybit), ("coinbase", coinbase)):
        [refused] = say(exchange, Channel.ORDERBOOK, payload)
        assert isinstance(refused, Refused)
        assert refused.pair == Pair("ETH2.S", EXCHANGES[exchange].quote)
