"""Integers that no column holds are dead letters. Numbers as large and as small as markets have are values."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import polars as pl
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import BookUpdate, Candle, Channel, Event, Frame, Kind, Level, Pair, Ticker, Trade
from coin_platform.records import Header, Record
from coin_platform.tables import processed
from coin_platform.tables.dataframes import rows_table
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import raw_topic
from tests.kit.recordings import LATE, files, frames, say

INTEGER = re.compile(rb'(?<![\w.+-])"?-?\d+"?(?![\w.])')
DIGITS = re.compile(rb"[\d.]+")
MOST_INTEGER = 2**63 - 1
INTEGERS = (2**63, 2**64, 10**30, 10**400, -1, -(2**63), -(2**63) - 1, MOST_INTEGER, 0)


def places(frame: Frame) -> list[re.Match[bytes]]:
    """Return the integers of a message; of those that follow the same text only the first."""
    before: dict[bytes, re.Match[bytes]] = {}
    for place in INTEGER.finditer(frame.payload):
        before.setdefault(DIGITS.sub(b"", frame.payload[: place.start()][-40:])[-12:], place)
    return list(before.values())


def with_other_integers(frame: Frame) -> Iterator[Frame]:
    """Yield a message with one of its integers replaced. Quotes stay as they were."""
    for place in places(frame):
        for integer in INTEGERS:
            quote = b'"' if place[0].startswith(b'"') else b""
            text = quote + str(integer).encode() + quote
            payload = frame.payload[: place.start()] + text + frame.payload[place.end() :]
            yield msgspec.structs.replace(frame, payload=payload)


def integers(value: Any) -> Iterator[int]:
    """Yield the integers of an event and of its fields."""
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from integers(part)


def stored(exchange: Exchange, channel: Channel, changed: list[Frame]) -> int:
    """Make rows and processed records of frames, write and read the rows, and return their count."""
    source, rows = Source(exchange, channel, raw_topic(exchange.region, channel), exchange.partition), []
    for number, frame in enumerate(changed):
        transform = Transform(source)  # no frame depends on the others
        header = Header(frame.kind, 1, "c", 1, LATE, frame.pair)
        entries = transform.entries(Record(number, LATE, header.pack(), frame.payload))
        rows += [entry.row for entry in entries]
        for entry in entries:
            json.loads(processed.encode(exchange, channel, entry))
    table, file = rows_table(channel, rows), io.BytesIO()
    table.write_parquet(file)
    file.seek(0)
    assert pl.read_parquet(file).equals(table)
    return len(rows)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R1_what_decodes_has_integers_of_64_bits_and_can_be_stored(exchange: str) -> None:
    adapter, count, dead = EXCHANGES[exchange], 0, 0
    for _, path in [recording for recording in files() if recording[0] == exchange]:
        decoded: dict[Channel, list[Frame]] = {}
        for frame in frames(exchange, path.stem)[:2]:
            for changed in with_other_integers(frame):
                try:
                    events = adapter.decode(changed)
                except DecodeError:
                    dead += 1
                    continue
                assert all(abs(integer) <= MOST_INTEGER for event in events for integer in integers(event)), changed
                decoded.setdefault(changed.channel, []).append(changed)
        count += sum(stored(adapter, channel, changed) for channel, changed in decoded.items())
    assert count > 100
    assert dead > 100


@pytest.mark.parametrize("number", [2**63, 2**64, 10**19, 10**400])
def test_R1_a_sequence_beyond_64_bits_is_a_dead_letter(number: int) -> None:
    books = {
        "okx": '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["2","1","0","1"]],'
        '"bids":[["1","1","0","1"]],"ts":"1786182438509","checksum":0,"seqId":%s,"prevSeqId":-1}]}',
        "binance": '{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1786182438509,"s":"BTCUSDT","U":1,"u":%s,'
        '"b":[["1","1"]],"a":[]}}',
        "bybit": '{"topic":"orderbook.200.BTCUSDT","ts":1786182438509,"type":"delta",'
        '"data":{"s":"BTCUSDT","b":[["1","1"]],"a":[],"u":%s}}',
        "gateio": '{"channel":"spot.obu","result":{"t":1786541318124,"full":true,"s":"ob.BTC_USDT.50","u":%s,'
        '"b":[["1","1"]],"a":[]},"event":"update"}',
    }
    for exchange, text in books.items():
        assert say(exchange, Channel.ORDERBOOK, (text % 5).encode())
        with pytest.raises(DecodeError, match="sequence is"):
            say(exchange, Channel.ORDERBOOK, (text % number).encode())


def test_R1_what_is_computed_from_an_integer_fits_as_well() -> None:
    text = (
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[["1","1","0","1"]],'
        f'"ts":"1786182438509","checksum":0,"seqId":{MOST_INTEGER},"prevSeqId":%s}}]}}'
    )
    assert say("okx", Channel.ORDERBOOK, (text % (MOST_INTEGER - 1)).encode())
    for before in (MOST_INTEGER, -2):  # the first number of the change would be one more
        with pytest.raises(DecodeError, match="first sequence is"):
            say("okx", Channel.ORDERBOOK, (text % before).encode())


@pytest.mark.parametrize("depth", ["0", "-1", "9223372036854775808", "9" * 400])
def test_R1_a_depth_that_no_book_has_is_a_dead_letter(depth: str) -> None:
    subscribed = (
        '{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","depth":%s},"success":true,"req_id":1}'
    )
    whole = '{"channel":"spot.obu","result":{"t":1,"full":true,"s":"ob.BTC_USDT.%s","u":1},"event":"update"}'
    for exchange, text in (("kraken", subscribed), ("gateio", whole)):
        with pytest.raises(DecodeError, match="depth"):
            say(exchange, Channel.ORDERBOOK, (text % depth).encode())


@pytest.mark.parametrize("id", ["", "-1", str(2**63), "9" * 400, "-" + "9" * 400, "00" + str(2**63)])
def test_R1_an_id_of_a_trade_that_is_no_id_is_a_dead_letter(id: str) -> None:
    text = (
        '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"%s","px":"1",'
        '"sz":"1","side":"buy","ts":"1786538760218"}]}'
    )
    for good in ("0", str(MOST_INTEGER), "007", "a7c4-19"):
        [trade] = say("okx", Channel.TRADE, (text % good).encode())
        assert isinstance(trade, Trade) and trade.id == good
    with pytest.raises(DecodeError, match="id of a trade"):
        say("okx", Channel.TRADE, (text % id).encode())


def largest(exchange: Exchange, number: float) -> Iterator[Event]:
    """Yield one event of each kind with this size, at the price that makes its value 1."""
    pair, price = Pair("BTC", exchange.quote), 1 / number
    for bids, asks in (([Level(price, number)], []), ([], [Level(price, number)])):
        yield BookUpdate(pair=pair, is_snapshot=True, bids=bids, asks=asks)
    yield Trade(pair=pair, id="1", price=price, size=number, side=None, exchange_time=LATE)
    text = f"{number:.0f}"
    yield Ticker(pair=pair, last="1", volume_24h=text, quote_volume_24h=text, best_bid_size=text, best_ask_size=text)
    yield Ticker(pair=pair, last="1", change_24h="-" + text)
    yield Candle(
        pair=pair, open_time=LATE, open=price, high=price, low=price, close=price, volume=number, quote_volume=number
    )


class Saying:
    """An exchange whose messages all have the same event."""

    def __init__(self, exchange: Exchange, event: Event) -> None:
        self.exchange, self.event = exchange, event

    def decode(self) -> list[Event]:
        """Return what the exchange's own `decode` returns for it."""
        saying = type("Saying", (type(self.exchange),), {"read": lambda _, frame: iter([self.event])})()
        frame = Frame(
            exchange=self.exchange.name,
            channel=Channel.TICKER,
            connection="c",
            number=1,
            received_time=LATE,
            payload=b"",
            kind=Kind.SOCKET,
        )
        return list(saying.decode(frame))


@pytest.mark.parametrize("number", [1e12, 1e15, 1e18, 9e23, 2e24, 1e30, float("inf"), float("nan")])
def test_R8_one_bound_holds_for_levels_trades_tickers_and_candles(number: float) -> None:
    exchange = EXCHANGES["gateio"]
    outcomes = set()
    for event in largest(exchange, number):
        try:
            outcomes.add(Saying(exchange, event).decode() == [event])
        except DecodeError:
            outcomes.add(False)
    assert outcomes == {number < 1e24}


def test_R8_a_size_of_a_quadrillion_is_a_level_like_any_other_and_sums_stay_exact() -> None:
    texts = {
        "gateio": '{"channel":"spot.obu","result":{"t":1786541318124,"full":true,"s":"ob.BTC_USDT.50","u":1,'
        '"b":[["0.000000000001","1000000000000000"],["0.0000000000009","0.5"]],"a":[]},"event":"update"}',
        "okx": '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[],"bids":'
        '[["0.000000000001","1000000000000000","0","1"],["0.0000000000009","0.5","0","1"]],'
        '"ts":"1786182438509","seqId":1,"prevSeqId":-1}]}',
        "upbit": '{"type":"orderbook","code":"USDT-BTC","timestamp":1790134742106,"orderbook_units":['
        '{"bid_price":1E-12,"bid_size":1000000000000000,"ask_price":0,"ask_size":0},'
        '{"bid_price":9E-13,"bid_size":0.5,"ask_price":0,"ask_size":0}]}',
    }
    for exchange, text in texts.items():
        [update] = say(exchange, Channel.ORDERBOOK, text.encode())
        assert isinstance(update, BookUpdate)
        assert update.bids[0] == Level(1e-12, 1e15)
        book = EXCHANGES[exchange].book()
        book.apply(update)
        assert book.bids.total == 1e15 + 0.5


def test_R8_the_sum_of_the_largest_levels_is_a_number() -> None:
    book = EXCHANGES["coinbase"].book()
    bids = [Level(float(price), 9.9e23) for price in range(1, 20_000)]
    book.apply(BookUpdate(pair=Pair("BTC", "USD"), is_snapshot=True, bids=bids, asks=[]))
    assert 1e28 < book.bids.total < 1e29
