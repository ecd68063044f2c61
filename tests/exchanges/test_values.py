"""Recorded messages and every value they hold, checked by hand."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, SequenceGap, UnknownPair
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
    Refusal,
    Refused,
    Side,
    Subscribed,
    TextLevel,
    Ticker,
    Trade,
)
from tests.kit.recordings import events, frames

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


def test_upbit_short_names_mean_the_same() -> None:
    ticker = next(e for e in events("upbit", "ticker") if isinstance(e, Ticker) and e.last == "40441000")
    assert ticker == Ticker(
        pair=BTC_KRW,
        exchange_time=1_611_063_306_635_000,
        last="40441000",
        open_day="40008000",
        high_day="41000000",
        low_day="39674000",
        prev_close_day="40008000",
        change_day="433000",
        change_rate_day="0.0108228354",
        volume_24h="8541.35594639",
        quote_volume_24h="343031046559.8189",
    )
    assert list(events("upbit", "orderbook"))[3] == BookUpdate(
        pair=BTC_KRW,
        exchange_time=1_790_134_773_006_000,
        is_snapshot=True,
        bids=[Level(116_534_000, 0.00079276), Level(116_521_000, 0.01624318)],
        asks=[Level(116_606_000, 0.06288509), Level(116_609_000, 0.0005)],
    )
    assert list(events("upbit", "trade"))[4] == Trade(
        pair=Pair("LAMB", "KRW"),
        exchange_time=1_618_678_262_000_000,
        id="1618678262000003",
        price=127,
        size=46.48838371,
        side=Side.BUY,
    )


def test_upbit_candles_open_in_utc_whatever_their_zone() -> None:
    recorded = [event for event in events("upbit", "candle") if isinstance(event, Candle)]
    assert recorded[0] == Candle(
        pair=BTC_KRW,
        exchange_time=1_785_397_531_885_000,
        open_time=1_785_397_500_000_000,
        open=91_154_000,
        high=91_157_000,
        low=91_142_000,
        close=91_157_000,
        volume=0.15511395,
        quote_volume=14_139_448.26754,
    )
    frame = frames("upbit", "candle")[1]
    zoned = frame.payload.replace(b'"2026-07-30T07:45:00"', b'"2026-07-30T16:45:00+09:00"')
    assert EXCHANGES["upbit"].decode(msgspec.structs.replace(frame, payload=zoned)) == [recorded[0]]


def test_upbit_trades_of_2018_have_no_id() -> None:
    old = next(e for e in events("upbit", "rest_trade") if isinstance(e, Trade) and e.pair == Pair("ETH", "BTC"))
    assert old == Trade(
        pair=Pair("ETH", "BTC"),
        exchange_time=1_530_519_465_697_000,
        id=None,
        price=0.07092,
        size=0.01840677,
        side=Side.SELL,
    )


def test_upbit_over_rest() -> None:
    ticker, book, trade, candle = (
        next(events("upbit", f"rest_{n}")) for n in ("ticker", "orderbook", "trade", "candle")
    )
    assert isinstance(ticker, Ticker) and (ticker.pair, ticker.last) == (BTC_KRW, "103493000.0")
    assert isinstance(book, BookUpdate) and book.bids[0] == Level(103_460_000, 0.004)
    assert isinstance(trade, Trade) and (trade.side, trade.exchange_time) == (Side.SELL, 1_773_240_059_095_000)
    assert isinstance(candle, Candle) and candle.quote_volume == 2_654_722.02446
    [refused] = say("upbit", Channel.TICKER, '{"error":{"name":404,"message":"Code not found"}}', BTC_KRW)
    assert refused == Refused(pair=BTC_KRW, reason="404: Code not found", refusal=Refusal.FINAL)
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
    assert next(events("okx", "trade")) == Trade(
        pair=BTC_USDT,
        exchange_time=1_786_538_760_218_000,
        id="1040968613",
        price=64_040.2,
        size=0.00240857,
        side=Side.BUY,
        count=2,
    )
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
        Refused(reason="60018: no", request=12, refusal=Refusal.FINAL)
    ]
    assert say("okx", Channel.TICKER, '{"event":"notice","code":"64008","msg":"soon"}') == [
        Notice(reason="64008: soon")
    ]
    assert say("okx", Channel.TICKER, '{"arg":{"channel":"status"},"data":[]}') == [Control(name="channel status")]
    [request] = EXCHANGES["okx"].unsubscribe(Channel.ORDERBOOK, [BTC_USDT], id=4, time=0)
    assert request.payload == '{"id":"4","op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}'


def test_okx_over_rest() -> None:
    assert next(events("okx", "rest_ticker")) == Ticker(
        pair=BTC_USDT,
        exchange_time=1_790_323_049_365_000,
        last="84070.9",
        open_24h="84515.8",
        high_24h="84944.4",
        low_24h="82874.5",
        change_24h="-444.9",
        volume_24h="6094.07117965",
        quote_volume_24h="511984068.580413188",
        best_bid="84070.9",
        best_bid_size="4.80941911",
        best_ask="84071",
        best_ask_size="0.61943805",
    )
    assert next(events("okx", "rest_orderbook")) == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_654_328_918_680_000,
        is_snapshot=True,
        bids=[Level(29_692.4, 0.43986254), Level(29_691.2, 0.33792), Level(29_690, 0.39370474)],
        asks=[Level(29_692.5, 0.10951348), Level(29_692.6, 0.00631557), Level(29_692.8, 0.10662911)],
    )
    refused = say("okx", Channel.TICKER, '{"code":"51001","data":[],"msg":"none"}', BTC_USDT)
    assert refused == [Refused(pair=BTC_USDT, reason="51001: none", refusal=Refusal.FINAL)]
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
    assert list(events("kraken", "candle"))[-1] == Candle(
        pair=BTC_USDT,
        open_time=1_789_061_700_000_000,
        open=77_499.9,
        high=77_509.2,
        low=77_467.5,
        close=77_509.2,
        volume=0.58051276,
    )
    assert list(events("kraken", "ticker"))[-1] == Control(name="ticker without a price")
    refusal = '{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD"}'
    assert say("kraken", Channel.TICKER, refusal) == [
        Refused(pair=BTC_USD, reason="Currency pair not supported XBT/USD", refusal=Refusal.FINAL)
    ]
    assert say("kraken", Channel.TICKER, '{"method":"pong","req_id":42}') == [Control(name="pong")]
    assert say("kraken", Channel.TICKER, '{"channel":"heartbeat"}') == [Control(name="heartbeat")]
    ack = '{"method":"subscribe","req_id":1,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}'
    assert say("kraken", Channel.ORDERBOOK, ack) == [Subscribed(pair=BTC_USD, request=1, depth=10)]


def test_kraken_books_are_an_update_for_each_row() -> None:
    update = next(e for e in events("kraken", "orderbook") if isinstance(e, BookUpdate) and e.checksum == 512997283)
    assert update == BookUpdate(
        pair=Pair("ETH", "USD"),
        exchange_time=1_785_644_623_218_616,
        is_snapshot=False,
        bids=[],
        asks=[TextLevel(1877.6, 0, "187760"), TextLevel(1878.19, 0.4113, "18781941130000")],
        checksum=512997283,
    )


def test_kraken_answers_say_whom_they_concern() -> None:
    refused = '{"error":"Already subscribed","method":"subscribe","req_id":4,"success":false,"symbol":"BTC/USD"}'
    assert say("kraken", Channel.TICKER, refused) == [Refused(pair=BTC_USD, request=4, reason="Already subscribed")]
    # that nothing was subscribed which could be given up is no harm to the pair
    gone = '{"error":"Subscription Not Found","method":"unsubscribe","success":false,"symbol":"BTC/USD"}'
    assert say("kraken", Channel.TICKER, gone) == [Control(name="unsubscribe")]
    assert say("kraken", Channel.TICKER, '{"error":"Malformed request","success":false}') == [
        Refused(reason="Malformed request")
    ]


@pytest.mark.parametrize("kind", ["", "updates", "Snapshot"])
def test_a_book_message_of_an_unknown_kind_is_neither_snapshot_nor_update(kind: str) -> None:
    kraken = '{"channel":"book","type":"%s","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}'
    for exchange, text in (("kraken", kraken % kind), ("okx", BOOK % (kind, "2", 9, 4))):
        with pytest.raises(DecodeError, match="is not known"):
            say(exchange, Channel.ORDERBOOK, text)


def test_a_book_message_without_its_proof_is_a_dead_letter() -> None:
    whole = BOOK % ("update", "2", 9, 4)
    for lost in ('"seqId"', '"prevSeqId"'):
        with pytest.raises(DecodeError, match="neither seqId nor checksum"):
            say("okx", Channel.ORDERBOOK, whole.replace(lost, '"other"'))
    [snapshot] = say("okx", Channel.ORDERBOOK, (BOOK % ("snapshot", "2", 9, -1)).replace('"prevSeqId"', '"other"'))
    assert isinstance(snapshot, BookUpdate) and snapshot.last_sequence == 9
    text = '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[]}]}'
    with pytest.raises(DecodeError, match="checksum"):
        say("kraken", Channel.ORDERBOOK, text)


def test_okx_candles_without_a_quote_volume_do_not_say_0() -> None:
    text = '{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1786538760000","4","5","3","4.5","2"]]}'
    [candle] = say("okx", Channel.CANDLE, text)
    assert isinstance(candle, Candle) and (candle.quote_volume, candle.is_closed) == (None, None)


ASKED = [
    ("upbit", Channel.TICKER, '[{"ticket":"coin-platform-7-3"},{"type":"ticker","codes":["KRW-BTC"]}]', None),
    ("upbit", Channel.ORDERBOOK, '[{"ticket":"coin-platform-7-3"},{"type":"orderbook","codes":["KRW-BTC"]}]', None),
    ("upbit", Channel.TRADE, '[{"ticket":"coin-platform-7-3"},{"type":"trade","codes":["KRW-BTC"]}]', None),
    ("upbit", Channel.CANDLE, '[{"ticket":"coin-platform-7-3"},{"type":"candle.1m","codes":["KRW-BTC"]}]', None),
    ("okx", Channel.TICKER, '{"id":"3","op":"%s","args":[{"channel":"tickers","instId":"BTC-USDT"}]}', None),
    ("okx", Channel.ORDERBOOK, '{"id":"3","op":"%s","args":[{"channel":"books","instId":"BTC-USDT"}]}', None),
    ("okx", Channel.TRADE, '{"id":"3","op":"%s","args":[{"channel":"trades-all","instId":"BTC-USDT"}]}', None),
    ("okx", Channel.CANDLE, '{"id":"3","op":"%s","args":[{"channel":"candle1m","instId":"BTC-USDT"}]}', None),
    (
        "kraken",
        Channel.TICKER,
        '"channel":"ticker","symbol":["BTC/USD"],"event_trigger":"bbo"',
        '"channel":"ticker","symbol":["BTC/USD"]',
    ),
    ("kraken", Channel.ORDERBOOK, '"channel":"book","symbol":["BTC/USD"],"depth":100', None),
    ("kraken", Channel.TRADE, '"channel":"trade","symbol":["BTC/USD"]', None),
    ("kraken", Channel.CANDLE, '"channel":"ohlc","symbol":["BTC/USD"],"interval":1', None),
]


@pytest.mark.parametrize(("exchange", "channel", "text", "given_up"), ASKED)
def test_requests_are_what_the_exchange_documents(
    exchange: str, channel: Channel, text: str, given_up: str | None
) -> None:
    kind = EXCHANGES[exchange]
    frame = '{"method":"%s","params":{' + text + '},"req_id":3}' if exchange == "kraken" else text
    pairs = [Pair("BTC", kind.quote)]
    [request] = kind.subscribe(channel, pairs, id=3, time=7)
    assert request.payload == frame.replace("%s", "subscribe")
    assert request.pairs == tuple(pairs)
    dropped = [one.payload for one in kind.unsubscribe(channel, pairs, id=3, time=7)]
    wanted = frame.replace("%s", "unsubscribe").replace(text, given_up or text.replace("%s", "unsubscribe"))
    assert dropped == ([] if kind.replaces_subscription else [wanted])


@pytest.mark.parametrize("exchange", ["okx", "kraken"])
def test_many_pairs_are_asked_for_in_numbered_requests(exchange: str) -> None:
    kind = EXCHANGES[exchange]
    pairs = [Pair(f"A{number}", kind.quote) for number in range(kind.limits.pairs_per_request + 1)]
    one, two = kind.subscribe(Channel.TRADE, pairs, id=8, time=0)
    assert (one.id, two.id) == (8, 9)
    assert (one.pairs, two.pairs) == (tuple(pairs[:-1]), tuple(pairs[-1:]))


SYMBOLS = [
    ("upbit", "KRW-BTC", BTC_KRW),
    ("upbit", "BTC-ETH", Pair("ETH", "BTC")),
    ("okx", "1INCH-USDT", Pair("1INCH", "USDT")),
    ("kraken", "ETH/BTC", Pair("ETH", "BTC")),
]


@pytest.mark.parametrize(("exchange", "symbol", "pair"), SYMBOLS)
def test_symbols_are_spelled_as_the_exchange_does(exchange: str, symbol: str, pair: Pair) -> None:
    assert EXCHANGES[exchange].pair(symbol) == pair
    assert EXCHANGES[exchange].symbol(pair) == symbol


@pytest.mark.parametrize(
    ("old", "pair"), [("XBT/USD", BTC_USD), ("XBTUSDT", BTC_USDT), ("XDGUSD", Pair("DOGE", "USD"))]
)
def test_kraken_reads_the_names_of_its_older_interfaces(old: str, pair: Pair) -> None:
    assert EXCHANGES["kraken"].pair(old) == pair


@pytest.mark.parametrize(
    ("exchange", "symbol"), [("okx", "BTC-USDT-SWAP"), ("okx", ""), ("upbit", "BTC"), ("kraken", "FOO")]
)
def test_what_is_no_spot_pair_is_refused(exchange: str, symbol: str) -> None:
    with pytest.raises(UnknownPair):
        EXCHANGES[exchange].pair(symbol)


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
    assert refused == [Refused(pair=BTC_USD, reason="EQuery:Unknown asset pair", refusal=Refusal.FINAL)]
    answer = (
        b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","status":"online"},"A.d":{"wsname":"ETH/USD"},'
        b'"XDGUSD":{"wsname":"XDG/USD","status":"online"},"OLD":{"wsname":"OLD/USD","status":"delisted"}}}'
    )
    assert EXCHANGES["kraken"].read_markets(answer) == [BTC_USD, Pair("DOGE", "USD")]


def test_frames_of_a_file_are_numbered_by_line() -> None:
    assert [frame.number for frame in frames("kraken", "ticker")] == [1, 2, 3, 4, 5]
    assert msgspec.structs.asdict(frames("kraken", "ticker")[0])["exchange"] == "kraken"
