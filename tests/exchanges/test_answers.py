"""Single messages that are no data: what each exchange answers, what it refuses, and what no exchange should send.

`test_refusals.py` has what a refusal is about; here is what it names. Recorded answers are in the golden files.
"""

import msgspec
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Control, Event, Frame, Kind, Notice, Pair, Refusal, Refused, Subscribed
from tests.kit.recordings import frames, say

FINAL, CONNECTION = Refusal.FINAL, Refusal.CONNECTION
BTC_KRW, BTC_USDT, BTC_USD = Pair("BTC", "KRW"), Pair("BTC", "USDT"), Pair("BTC", "USD")
KRAKEN_XBT = "Currency pair not supported XBT/USD"
COINBASE_ETH = "Failed to subscribe: ETH-USD is not a valid product"
GATEIO_WBTC = "2: unknown currency pair: WBTC_USDT"

ANSWERS: list[tuple[str, str, Event]] = [
    ("upbit", '{"status":"UP"}', Control(name="pong")),
    ("coinone", '{"response_type":"UNSUBSCRIBED","channel":"TICKER"}', Control(name="unsubscribed")),
    ("korbit", '{"status":"fail","message":"invalid_format"}', Refused(reason="fail: invalid_format")),
    ("okx", "pong", Control(name="pong")),
    ("okx", '{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"}}', Subscribed(pair=BTC_USDT)),
    ("okx", '{"event":"unsubscribe","arg":{"channel":"tickers","instId":"BTC-USDT"}}', Control(name="unsubscribe")),
    (
        "okx",
        '{"event":"error","code":"60018","msg":"no","id":"12"}',
        Refused(reason="60018: no", request=12, refusal=FINAL),
    ),
    ("okx", '{"event":"notice","code":"64008","msg":"soon"}', Notice(reason="64008: soon")),
    ("okx", '{"arg":{"channel":"status"},"data":[]}', Control(name="channel status")),
    ("bybit", '{"success":true,"ret_msg":"pong","req_id":"ping","op":"pong"}', Control(name="pong")),
    ("bybit", '{"success":true,"ret_msg":"","req_id":"12","op":"unsubscribe"}', Control(name="unsubscribe")),
    (
        "bybit",
        '{"success":false,"ret_msg":"no,topic:tickers.BTCUSDT","op":"unsubscribe"}',
        Control(name="unsubscribe"),
    ),
    (
        "bybit",
        '{"success":false,"ret_msg":"Request not authorized","op":""}',
        Refused(reason="Request not authorized", refusal=CONNECTION),
    ),
    (
        "bybit",
        '{"success":false,"ret_msg":"Invalid symbol :[orderbook.200.NOPEUSDT]","req_id":"7","op":"subscribe"}',
        Refused(reason="Invalid symbol :[orderbook.200.NOPEUSDT]", pair=Pair("NOPE", "USDT"), request=7, refusal=FINAL),
    ),
    (
        "bybit",
        '{"success":false,"ret_msg":"args size >10","req_id":"8","op":"subscribe"}',
        Refused(reason="args size >10", request=8),
    ),
    (  # the reason contains the name of another pair of the request
        "gateio",
        '{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","WBTC_USDT"],'
        '"error":{"code":2,"message":"unknown currency pair: WBTC_USDT"},"result":{"status":"fail"}}',
        Refused(reason=GATEIO_WBTC, pair=Pair("WBTC", "USDT"), request=3, refusal=FINAL),
    ),
    (
        "gateio",
        '{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe","result":{"status":"fail"}}',
        Refused(reason="0: no success", request=3),
    ),
    (
        "gateio",
        '{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe","payload":null,"error":null,"result":null}',
        Refused(reason="0: no success", request=3),
    ),
    (
        "gateio",
        '{"time":1,"channel":"spot.obu","event":"unsubscribe","error":{"code":2,"message":"Alert sub"}}',
        Control(name="unsubscribe"),
    ),
    ("binance", '{"error":{"code":2,"msg":"no"},"id":"a1"}', Refused(reason="2: no")),  # an id that is not ours
    (
        "kraken",
        '{"method":"subscribe","req_id":1,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}',
        Subscribed(pair=BTC_USD, request=1, depth=10),
    ),
    (
        "kraken",
        f'{{"error":"{KRAKEN_XBT}","method":"subscribe","success":false,"symbol":"XBT/USD"}}',
        Refused(pair=BTC_USD, reason=KRAKEN_XBT, refusal=FINAL),
    ),
    (
        "kraken",
        '{"error":"Already subscribed","method":"subscribe","req_id":4,"success":false,"symbol":"BTC/USD"}',
        Refused(pair=BTC_USD, request=4, reason="Already subscribed"),
    ),
    (  # an unsubscription that finds no subscription does the pair no harm
        "kraken",
        '{"error":"Subscription Not Found","method":"unsubscribe","success":false,"symbol":"BTC/USD"}',
        Control(name="unsubscribe"),
    ),
    ("kraken", '{"error":"Malformed request","success":false}', Refused(reason="Malformed request")),
    ("kraken", '{"method":"pong","req_id":42}', Control(name="pong")),
    ("kraken", '{"channel":"heartbeat"}', Control(name="heartbeat")),
    (
        "coinbase",
        '{"type":"error","message":"Failed to subscribe","reason":"ETH-USD is not a valid product"}',
        Refused(reason=COINBASE_ETH, pair=Pair("ETH", "USD"), refusal=FINAL),
    ),
    (
        "coinbase",
        '{"type":"error","message":"Failed to subscribe","reason":"A_B-USD is not a valid product"}',
        Refused(reason=COINBASE_ETH.replace("ETH", "A_B"), refusal=FINAL),
    ),
    ("coinbase", '{"type":"error","message":"rate limit"}', Refused(reason="rate limit", ban_seconds=1.0)),
]
REST_ANSWERS = [  # with HTTP 200, most of them
    ("upbit", '{"error":{"name":404,"message":"Code not found"}}', "404: Code not found", FINAL),
    ("upbit", "{}", "not an array", Refusal.TEMPORARY),
    ("coinone", '{"result":"success","error_code":"0","server_time":1,"tickers":[]}', "no such market", FINAL),
    ("korbit", '{"success":false}', "no success", Refusal.TEMPORARY),
    ("korbit", '{"success":true,"data":[]}', "no such market", FINAL),
    ("okx", '{"code":"51001","data":[],"msg":"none"}', "51001: none", FINAL),
    (
        "bybit",
        '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[]},"time":1790319460076}',
        "no such market",
        FINAL,
    ),
    ("kraken", '{"error":["EQuery:Unknown asset pair"]}', "EQuery:Unknown asset pair", FINAL),
    ("coinbase", '{"message":"NotFound"}', "NotFound", FINAL),
]
UNKNOWN = [  # with what the error says
    ("upbit", '{"type":"new"}', "neither|not known"),
    ("bithumb", '{"type":"new"}', "neither|not known"),
    ("bithumb", '{"type":"orderbookdepth","content":{}}', "is not known"),  # of the former API
    ("bithumb", '{"status":"0000"}', "is not known"),
    ("bithumb", "{}", "is not known"),
    ("coinone", '{"response_type":"NEW"}', "is not known"),
    ("coinone", '{"r":"DATA","c":"NEW","d":{}}', "is not known"),
    ("coinone", "{}", "is not known"),
    ("korbit", '{"symbol":"btc_krw","type":"candle","data":{}}', "'candle' is not known"),
    ("okx", "{}", "neither|not known"),
    ("okx", '{"event":"new"}', "neither|not known"),
    (  # a ticker of derivatives
        "bybit",
        '{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","lastPrice":"61875.06"},"ts":1}',
        "of type 'delta' is not known",
    ),
    ("kraken", "{}", "neither|not known"),
    ("kraken", '{"channel":"new"}', "neither|not known"),
]
UNKNOWN_WORDS = [  # in the place of a word of the first recorded ticker
    ("gateio", "spot.tickers", "spot.balances"),
    ("binance", "24hrTicker", "outboundAccountPosition"),
    ("coinbase", '"type": "ticker"', '"type":"received"'),
]
OTHER_CANDLES = [  # in the place of the minute of the first recorded candle, with the name of the message
    ("coinone", '"interval":"1m"', '"interval":"1h"', "candle of 1h"),
    ("gateio", "1m_BTC", "5m_BTC", "candle 5m_BTC_USDT"),
    ("binance", '"1m"', '"5m"', "candle 5m"),
]
UNKNOWN_BOOKS = {
    "okx": '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"%s","data":[{"asks":[],"bids":[["1","2","0","1"]],'
    '"ts":"1786182438509","checksum":0,"seqId":9,"prevSeqId":4}]}',
    "kraken": '{"channel":"book","type":"%s","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}',
}
WITHOUT_PAIR = {  # recorded REST answers that do not name their pair
    "coinone": ["rest_candle"],
    "korbit": ["rest_orderbook", "rest_trade", "rest_candle"],
    "gateio": ["rest_orderbook"],
    "binance": ["rest_orderbook", "rest_trades", "rest_candle"],
    "coinbase": ["rest_ticker", "rest_orderbook", "rest_trades", "candle"],
}


@pytest.mark.parametrize(("exchange", "text", "event"), ANSWERS)
def test_an_answer_says_whom_it_concerns(exchange: str, text: str, event: Event) -> None:
    assert say(exchange, Channel.TICKER, text.encode()) == [event]


@pytest.mark.parametrize(("exchange", "text", "reason", "refusal"), REST_ANSWERS)
def test_an_answer_over_rest_may_be_a_refusal(exchange: str, text: str, reason: str, refusal: Refusal) -> None:
    pair = Pair("BTC", EXCHANGES[exchange].quote)
    assert say(exchange, Channel.TICKER, text.encode(), pair) == [Refused(pair=pair, reason=reason, refusal=refusal)]


@pytest.mark.parametrize(("exchange", "text", "match"), UNKNOWN)
def test_a_message_of_an_unknown_type_is_a_dead_letter(exchange: str, text: str, match: str) -> None:
    with pytest.raises(DecodeError, match=match):
        say(exchange, Channel.TICKER, text.encode())


@pytest.mark.parametrize(("exchange", "word", "unknown"), UNKNOWN_WORDS)
def test_an_unknown_word_makes_a_recorded_message_a_dead_letter(exchange: str, word: str, unknown: str) -> None:
    payload = frames(exchange, "ticker")[0].payload
    assert word.encode() in payload
    with pytest.raises(DecodeError, match=unknown.strip('"').rpartition('"')[2]):
        say(exchange, Channel.TICKER, payload.replace(word.encode(), unknown.encode()))


@pytest.mark.parametrize(("exchange", "minute", "longer", "name"), OTHER_CANDLES)
def test_a_candle_of_another_length_is_left_out(exchange: str, minute: str, longer: str, name: str) -> None:
    payload = frames(exchange, "candle")[0].payload.replace(minute.encode(), longer.encode())
    assert say(exchange, Channel.CANDLE, payload) == [Control(name=name)]


@pytest.mark.parametrize("action", ["", "updates", "Snapshot"])
@pytest.mark.parametrize("exchange", UNKNOWN_BOOKS)
def test_a_book_message_of_an_unknown_kind_is_neither_snapshot_nor_update(exchange: str, action: str) -> None:
    with pytest.raises(DecodeError, match="is not known"):
        say(exchange, Channel.ORDERBOOK, (UNKNOWN_BOOKS[exchange] % action).encode())


@pytest.mark.parametrize(
    ("exchange", "payload"),
    [
        ("bithumb", b'{"type":"orderbookdepth","content":{}}'),
        ("bithumb", b'{"status":"0000"}'),
        ("bithumb", b"{}"),
        ("coinone", b"<!DOCTYPE html><html></html>"),  # an unknown path, also HTTP 200
        (
            "bybit",
            b"{\n    error:The Amazon CloudFront distribution is configured to block access from your country\n}",
        ),
    ],
)
def test_what_is_no_answer_of_the_interface_is_a_dead_letter(exchange: str, payload: bytes) -> None:
    with pytest.raises(DecodeError):
        say(exchange, Channel.ORDERBOOK, payload, Pair("BTC", EXCHANGES[exchange].quote))


def needs_pair(frame: Frame) -> None:
    """Assert that a REST answer cannot be read without its pair."""
    with pytest.raises(DecodeError, match="needs its pair"):
        EXCHANGES[frame.exchange].decode(msgspec.structs.replace(frame, pair=None))


@pytest.mark.parametrize(
    ("exchange", "stem"), [(exchange, stem) for exchange, stems in WITHOUT_PAIR.items() for stem in stems]
)
def test_a_recorded_answer_that_does_not_name_its_pair_needs_it(exchange: str, stem: str) -> None:
    needs_pair(frames(exchange, stem)[0])


@pytest.mark.parametrize(
    ("exchange", "channel", "payload"),
    [
        ("okx", Channel.TICKER, b'{"code":"0","data":[]}'),
        ("kraken", Channel.TICKER, b'{"error":[],"result":{"XXBTZUSD":[]}}'),
        ("bybit", Channel.CANDLE, b'{"retCode":0,"retMsg":"OK","result":{"list":[["1","2","3","4","5","6","7"]]}}'),
    ],
)
def test_an_answer_that_does_not_name_its_pair_needs_it(exchange: str, channel: Channel, payload: bytes) -> None:
    needs_pair(
        Frame(
            exchange=exchange,
            channel=channel,
            connection="c",
            number=1,
            received_time=0,
            payload=payload,
            kind=Kind.REST,
        )
    )
