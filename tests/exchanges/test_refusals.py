"""Errors that exchanges send, recorded or documented, are never taken for data: not by events, not by market lists."""

import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Control, Frame, Kind, Pair, Refused
from tests.recordings import events, frames, say

# The form of their answers, some of which come with HTTP 200, to who asks too often or while they are not well.
LIMITS = {
    "upbit": ['{"error":{"name":"too_many_requests","message":"Too many API requests."}}'],
    "bithumb": [
        '{"error":{"name":"too_many_requests","message":"..."}}',
        '{"status":"5900","message":"Unknown Error"}',
    ],
    "coinone": ['{"result":"error","error_code":"4","error_msg":"Blocked user access"}'],
    "korbit": ['{"success":false,"error":{"code":429,"message":"EXCEED_TIME_WINDOW"}}', '{"success":false}'],
    "okx": ['{"code":"50011","data":[],"msg":"Too Many Requests"}', '{"msg":"Systems are busy.","code":"50013"}'],
    "bybit": ['{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":1675307914985}'],
    "gateio": ['{"label":"TOO_MANY_REQUESTS","message":"Request Rate limit Exceeded"}'],
    "binance": ['{"code":-1003,"msg":"Too many requests; current limit is 6000 request weight per 1 MINUTE."}'],
    "kraken": ['{"error":["EGeneral:Too many requests"]}', '{"error":["EService:Unavailable"],"result":null}', "{}"],
    "coinbase": ['{"message":"Public rate limit exceeded"}'],
}


def refused_over_rest(exchange: str) -> list[Frame]:
    """Return the recorded errors over REST."""
    return [frame for frame in frames(exchange, "error") if frame.kind is Kind.REST]


def payloads(exchange: str) -> list[bytes]:
    """Return errors over REST, recorded and documented."""
    return [frame.payload for frame in refused_over_rest(exchange)] + [text.encode() for text in LIMITS[exchange]]


def usual(kind: Exchange) -> Pair:
    return Pair("BTC", kind.quote)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_error_over_rest_is_a_refusal_on_every_channel(exchange: str) -> None:
    pair = usual(EXCHANGES[exchange])
    for payload in payloads(exchange):
        for channel in Channel:
            [refused] = say(exchange, channel, payload, pair)
            assert isinstance(refused, Refused), payload
            assert refused.pair == pair
            assert refused.reason


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_error_is_no_list_of_markets(exchange: str) -> None:
    for payload in payloads(exchange):
        with pytest.raises(DecodeError, match=f"^{exchange}: "):
            EXCHANGES[exchange].decode_markets(payload)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_what_cannot_be_read_is_no_list_of_markets(exchange: str) -> None:
    for payload in (b"", b"<html>", b"null", b'"-"', b"[[[", b'[{"market":"-"}]'):
        with pytest.raises(DecodeError):
            EXCHANGES[exchange].decode_markets(payload)


def test_every_recorded_error_of_a_socket_is_a_refusal() -> None:
    for exchange in EXCHANGES:
        heard = [frame for frame in frames(exchange, "error") if frame.kind is Kind.SOCKET]
        found = [event for frame in heard for event in EXCHANGES[exchange].decode(frame)]
        assert all(isinstance(event, Refused) for event in found if not _gives_up(event)), exchange


def _gives_up(event: object) -> bool:
    """Whether it says that a pair could not be given up: it is not subscribed any more all the same."""
    return isinstance(event, Control) and event.name.startswith("Failed to unsubscribe")


def test_krakens_list_of_instruments_says_nothing_that_we_keep() -> None:
    assert list(events("kraken", "instrument")) == [Control(name="instrument")]
    update = b'{"channel":"instrument","type":"update","data":{"assets":[],"pairs":[{"symbol":"BTC/USD"}]}}'
    assert say("kraken", Channel.TICKER, update) == [Control(name="instrument")]


def test_the_depth_of_a_book_is_the_one_that_is_asked_for() -> None:
    asked = {
        name: next(iter(kind.subscribe(Channel.ORDERBOOK, [usual(kind)], id=1, time=0))).payload
        for name, kind in EXCHANGES.items()
    }
    assert f'"orderbook.{EXCHANGES["bybit"].depth}.BTCUSDT"' in asked["bybit"]
    assert f'"ob.BTC_USDT.{EXCHANGES["gateio"].depth}"' in asked["gateio"]
    assert f'"depth":{EXCHANGES["kraken"].depth}' in asked["kraken"]
    binance = EXCHANGES["binance"]
    assert f"limit={binance.depth}" in str(binance.request_url(Channel.ORDERBOOK, usual(binance)))
