"""Recorded messages and every value they hold, checked by hand."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.errors import SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.kraken import _text_level, decode_books
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Frame,
    Kind,
    Level,
    Notice,
    Pair,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from tests.recordings import events, frames

BTC_KRW, BTC_USDT, BTC_USD = Pair("BTC", "KRW"), Pair("BTC", "USDT"), Pair("BTC", "USD")
LATE = 4_102_444_800_000_000


def say(exchange: str, channel: Channel, text: str, pair: Pair | None = None) -> list[object]:
    """Decode one message, over REST if a pair is given."""
    frame = Frame(
        exchange=exchange,
        channel=channel,
        connection="c",
        number=1,
        received_time=LATE,
        payload=text.encode(),
        kind=Kind.REST if pair else Kind.SOCKET,
        pair=pair,
    )
    return list(EXCHANGES[exchange].decode(frame))


def test_upbit_ticker() -> None:
    assert next(events("upbit", "ticker")) == Ticker(
        pair=BTC_KRW,
        exchange_time=1_676_965_262_177_000,
        last="32287000",
        open_day="31883000",
        high_day="32310000",
        low_day="31855000",
        prev_close_day="31883000.00000000",
        change_day="404000.00000000",
        change_rate_day="0.0126713295",
        volume_24h="7158.80283560",
        quote_volume_24h="228827082483.70729000",
    )


def test_upbit_books_trades_and_candles() -> None:
    assert next(events("upbit", "orderbook")) == BookUpdate(
        pair=BTC_KRW,
        exchange_time=1_746_601_573_804_000,
        is_snapshot=True,
        bids=[Level(137_001_000, 0.03656812)],
        asks=[Level(137_002_000, 0.10623869)],
    )
    assert next(events("upbit", "trade")) == Trade(
        pair=BTC_KRW,
        exchange_time=1_730_336_862_047_000,
        id="17303368620470000",
        price=100_473_000,
        size=0.00014208,
        side=Side.BUY,
    )
    text = (
        '{"type":"candle.1m","code":"KRW-BTC","candle_date_time_utc":"2025-01-02T04:28:00","opening_price":142009000.0,'
        '"high_price":142010000.0,"low_price":142008000.0,"trade_price":142009500.0,'
        '"candle_acc_trade_volume":0.00606119,"candle_acc_trade_price":860743.53,"timestamp":1735792085824}'
    )
    assert say("upbit", Channel.CANDLE, text) == [
        Candle(
            pair=BTC_KRW,
            exchange_time=1_735_792_085_824_000,
            open_time=1_735_792_080_000_000,
            open=142_009_000,
            high=142_010_000,
            low=142_008_000,
            close=142_009_500,
            volume=0.00606119,
            quote_volume=860_743.53,
        )
    ]
    assert say("upbit", Channel.CANDLE, text.replace("candle.1m", "candle.1s")) == [Control(name="candle.1s")]


def test_upbit_padding_of_thin_books_is_no_level() -> None:
    text = (
        '{"type":"orderbook","code":"BTC-AQT","timestamp":1790134742106,"orderbook_units":'
        '[{"bid_price":0,"bid_size":0,"ask_price":0.00000689,"ask_size":8.70827286}]}'
    )
    [update] = say("upbit", Channel.ORDERBOOK, text)
    assert isinstance(update, BookUpdate)
    assert (update.bids, update.asks) == ([], [Level(0.00000689, 8.70827286)])


def test_upbit_over_rest() -> None:
    ticker, book, trade, candle = (
        next(events("upbit", f"rest_{n}")) for n in ("ticker", "orderbook", "trade", "candle")
    )
    assert isinstance(ticker, Ticker) and (ticker.pair, ticker.last) == (BTC_KRW, "103493000.0")
    assert isinstance(book, BookUpdate) and book.bids[0] == Level(103_460_000, 0.004)
    assert isinstance(trade, Trade) and (trade.side, trade.exchange_time) == (Side.SELL, 1_773_240_059_095_000)
    assert isinstance(candle, Candle) and candle.quote_volume == 2_654_722.02446
    [refused] = say("upbit", Channel.TICKER, '{"error":{"name":404,"message":"Code not found"}}', BTC_KRW)
    assert refused == Refused(pair=BTC_KRW, reason="404: Code not found")
    assert say("upbit", Channel.TICKER, "{}", BTC_KRW) == [Refused(pair=BTC_KRW, reason="not an array")]
    assert EXCHANGES["upbit"].read_markets(b'[{"market":"KRW-BTC"},{"market":"BTC-ETH"}]') == [
        BTC_KRW,
        Pair("ETH", "BTC"),
    ]


def test_upbit_controls_and_requests() -> None:
    assert say("upbit", Channel.TICKER, '{"status":"UP"}') == [Control(name="pong")]
    upbit = EXCHANGES["upbit"]
    [request] = upbit.subscribe(Channel.TICKER, [BTC_KRW, Pair("ETH", "KRW")], id=3, time=7)
    assert request.payload == '[{"ticket":"coin-platform-7-3"},{"type":"ticker","codes":["KRW-BTC","KRW-ETH"]}]'
    assert list(upbit.unsubscribe(Channel.TICKER, [BTC_KRW], id=1, time=0)) == []


def test_okx_ticker() -> None:
    text = (
        '{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT",'
        '"last":"64028.6","lastSz":"0.0011553","askPx":"64028.7","askSz":"2.31126955","bidPx":"","bidSz":"0.00503393",'
        '"open24h":"64324","high24h":"64496.9","low24h":"63237.6","sodUtc0":"63589.4","volCcy24h":"374703695.17",'
        '"vol24h":"5874.19398956","ts":"1786538789464"}]}'
    )
    assert say("okx", Channel.TICKER, text) == [
        Ticker(
            pair=BTC_USDT,
            exchange_time=1_786_538_789_464_000,
            last="64028.6",
            open_24h="64324",
            high_24h="64496.9",
            low_24h="63237.6",
            change_24h="-295.4",
            volume_24h="5874.19398956",
            quote_volume_24h="374703695.17",
            best_bid=None,
            best_bid_size="0.00503393",
            best_ask="64028.7",
            best_ask_size="2.31126955",
        )
    ]


BOOK = '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"%s","data":[{"asks":[],"bids":[["1","%s","0","1"]],"ts":"1786182438509","checksum":0,"seqId":%d,"prevSeqId":%d}]}'  # noqa: E501


def test_okx_books_follow_its_rules() -> None:
    okx = EXCHANGES["okx"]

    def update(action: str, sequence: int, previous: int) -> BookUpdate:
        [found] = say("okx", Channel.ORDERBOOK, BOOK % (action, "2", sequence, previous))
        assert isinstance(found, BookUpdate)
        return found

    assert update("update", 9, 4) == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_786_182_438_509_000,
        is_snapshot=False,
        bids=[Level(1, 2)],
        asks=[],
        first_sequence=5,
        last_sequence=9,
    )
    book = okx.book()
    assert okx.apply(book, update("update", 9, 4)) is Applied.WAITING
    assert okx.apply(book, update("snapshot", 10, -1)) is Applied.APPLIED
    assert okx.apply(book, update("update", 10, 10)) is Applied.APPLIED  # a keep-alive
    assert okx.apply(book, update("update", 20, 10)) is Applied.APPLIED
    assert okx.apply(book, update("update", 20, 10)) is Applied.IGNORED  # the same again
    assert okx.apply(book, update("update", 3, 20)) is Applied.APPLIED  # numbering restarts
    assert book.sequence == 3
    with pytest.raises(SequenceGap):
        okx.apply(book, update("update", 6, 5))
    assert not book.is_valid


def test_okx_trades_candles_and_controls() -> None:
    trade = next(e for e in events("okx", "trade") if isinstance(e, Trade))
    assert trade.id.isdecimal() if trade.id else False
    text = (
        '{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1786538760000","64040.2","64041","64025.7","64033.5",'
        '"2.16787395","138825.265446816","138825.265446816","1"]]}'
    )
    assert say("okx", Channel.CANDLE, text) == [
        Candle(
            pair=BTC_USDT,
            open_time=1_786_538_760_000_000,
            open=64_040.2,
            high=64_041,
            low=64_025.7,
            close=64_033.5,
            volume=2.16787395,
            quote_volume=138_825.265446816,
            is_closed=True,
        )
    ]
    assert say("okx", Channel.TICKER, "pong") == [Control(name="pong")]
    ack = '{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"d6"}'
    assert say("okx", Channel.TICKER, ack) == [Subscribed(pair=BTC_USDT)]
    assert say("okx", Channel.TICKER, ack.replace("subscribe", "unsubscribe")) == [Control(name="unsubscribe")]
    assert say("okx", Channel.TICKER, '{"event":"error","code":"60018","msg":"no","id":"12"}') == [
        Refused(reason="60018: no", request=12)
    ]
    assert say("okx", Channel.TICKER, '{"event":"notice","code":"64008","msg":"soon"}') == [
        Notice(reason="64008: soon")
    ]
    assert say("okx", Channel.TICKER, '{"arg":{"channel":"status"},"data":[]}') == [Control(name="channel status")]
    [request] = EXCHANGES["okx"].unsubscribe(Channel.ORDERBOOK, [BTC_USDT], id=4, time=0)
    assert request.payload == '{"id":"4","op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}'


def test_okx_over_rest() -> None:
    ticker, book = next(events("okx", "rest_ticker")), next(events("okx", "rest_orderbook"))
    assert isinstance(ticker, Ticker) and ticker.change_24h is not None
    assert isinstance(book, BookUpdate) and book.is_snapshot
    refused = say("okx", Channel.TICKER, '{"code":"51001","data":[],"msg":"none"}', BTC_USDT)
    assert refused == [Refused(pair=BTC_USDT, reason="51001: none")]
    markets = b'{"code":"0","data":[{"instId":"BTC-USDT","state":"live"},{"instId":"X-USDT","state":"suspend"}]}'
    assert EXCHANGES["okx"].read_markets(markets) == [BTC_USDT]
    assert EXCHANGES["okx"].socket_url(Channel.CANDLE).endswith("/business")


def test_kraken_ticker() -> None:
    assert next(events("kraken", "ticker")) == Ticker(
        pair=BTC_USD,
        exchange_time=1_790_358_506_844_359,
        last="83744.3",
        open_24h="84173.6",
        high_24h="85247.4",
        low_24h="83163.6",
        change_24h="-429.3",
        volume_24h="3156.84782110",
        best_bid="83744.2",
        best_bid_size="0.56251979",
        best_ask="83744.3",
        best_ask_size="0.00044780",
    )


def test_kraken_checksum_of_the_documented_book() -> None:
    asks = (
        "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 "
        "45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"
    )
    bids = (
        "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 "
        "45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"
    )
    sides = [
        ",".join('{{"price":{},"qty":{}}}'.format(*level.split("/")) for level in side.split()) for side in (bids, asks)
    ]
    text = (
        '{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],'
        '"checksum":3310070434}}]}}'
    )
    [update] = say("kraken", Channel.ORDERBOOK, text.format(*sides))
    assert isinstance(update, BookUpdate)
    assert EXCHANGES["kraken"].apply(EXCHANGES["kraken"].book(), update) is Applied.APPLIED
    assert update.depth == 10


def test_kraken_digits_never_turn_into_an_exponent() -> None:
    text = b'{"data":[{"symbol":"A/B","bids":[{"price":0.00000010,"qty":0.00000100}],"checksum":1}]}'
    level = _text_level(decode_books(text).data[0].bids[0])
    assert (level.price, level.text) == (1e-7, "10100")


def test_kraken_other_channels() -> None:
    assert next(events("kraken", "trade")) == Trade(
        pair=BTC_USD,
        exchange_time=1_790_358_506_844_359,
        id="109116693",
        price=83_744.3,
        size=0.0004478,
        side=Side.BUY,
    )
    candle = next(e for e in events("kraken", "candle") if isinstance(e, Candle))
    assert candle.open_time % 60_000_000 == 0
    assert list(events("kraken", "ticker"))[-1] == Control(name="ticker without a price")
    refusal = '{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD"}'
    assert say("kraken", Channel.TICKER, refusal) == [
        Refused(pair=BTC_USD, reason="Currency pair not supported XBT/USD")
    ]
    assert say("kraken", Channel.TICKER, '{"method":"pong","req_id":42}') == [Control(name="pong")]
    assert say("kraken", Channel.TICKER, '{"channel":"heartbeat"}') == [Control(name="heartbeat")]
    ack = '{"method":"subscribe","req_id":1,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}'
    assert say("kraken", Channel.ORDERBOOK, ack) == [Subscribed(pair=BTC_USD, request=1, depth=10)]


def test_kraken_requests() -> None:
    kraken = EXCHANGES["kraken"]
    [book] = kraken.subscribe(Channel.ORDERBOOK, [BTC_USD], id=2, time=0)
    assert (
        book.payload == '{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":100},"req_id":2}'
    )
    [ticker] = kraken.unsubscribe(Channel.TICKER, [BTC_USD], id=3, time=0)
    assert ticker.payload == '{"method":"unsubscribe","params":{"channel":"ticker","symbol":["BTC/USD"]},"req_id":3}'


def test_kraken_over_rest() -> None:
    ticker = next(events("kraken", "rest_ticker"))
    assert ticker == Ticker(
        pair=BTC_USDT,
        last="105899.40000",
        open_day="106021.60000",
        high_24h="106613.10000",
        low_24h="104711.00000",
        change_day="-122.20000",
        volume_24h="163.28908096",
        best_bid="105944.20000",
        best_bid_size="1.000",
        best_ask="105944.30000",
        best_ask_size="1.000",
    )
    book = next(events("kraken", "rest_orderbook"))
    assert isinstance(book, BookUpdate) and book.asks[0] == Level(105_944.3, 0.136)
    trade = next(events("kraken", "rest_trades"))
    assert trade == Trade(
        pair=BTC_USD, exchange_time=1_790_359_840_939_291, id="109118758", price=83_930.3, size=0.000051, side=Side.SELL
    )
    candle = next(events("kraken", "rest_candle"))
    assert isinstance(candle, Candle) and (candle.open, candle.volume) == (84_001.9, 159.04484404)
    refused = say("kraken", Channel.TICKER, '{"error":["EQuery:Unknown asset pair"]}', BTC_USD)
    assert refused == [Refused(pair=BTC_USD, reason="EQuery:Unknown asset pair")]
    answer = (
        b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","status":"online"},"A.d":{"wsname":"ETH/USD"},'
        b'"XDGUSD":{"wsname":"XDG/USD","status":"online"},"OLD":{"wsname":"OLD/USD","status":"delisted"}}}'
    )
    assert EXCHANGES["kraken"].read_markets(answer) == [BTC_USD, Pair("DOGE", "USD")]


def test_frames_of_a_file_are_numbered_by_line() -> None:
    assert [frame.number for frame in frames("kraken", "ticker")] == [1, 2, 3, 4, 5]
    assert msgspec.structs.asdict(frames("kraken", "ticker")[0])["exchange"] == "kraken"
