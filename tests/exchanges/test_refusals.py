"""Errors of exchanges, recorded or documented, are refusals. They are never data and never lists of markets."""

import re

import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Control, Frame, Kind, Pair, Refusal, Refused
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import LATE, events, frames, say
from tests.kit.refusals import LIMITS

# The same for addresses that have asked too often for long, or that are not served.
BANS = {
    "bybit": ['{"retCode":10018,"retMsg":"Exceeded the IP Rate Limit","result":{}}'],
    "okx": ['{"code":"50061","data":[],"msg":"Sub-account rate limit"}'],
    "kraken": ['{"error":["EAPI:Rate limit exceeded"]}', '{"error":["EGeneral:Temporary lockout"]}'],
    "coinone": ['{"result":"error","error_code":4,"error_msg":"Blocked user access"}'],
    "korbit": ['{"success":false,"error":{"code":"429","message":"TOO_MANY_REQUESTS"}}'],
    "binance": ['{"code":-1008,"msg":"Server is currently overloaded with other requests."}'],
}
OKX_RATE = '{"event":"error","code":"60014","msg":"Requests too frequent"}'
KRAKEN_RATE = '{"error":"Exceeded msg rate","method":"subscribe","success":false,"symbol":"BTC/USD"}'
COINBASE_RATE = '{"type":"error","message":"Rate limit exceeded"}'

# Refusals of sockets ("ws") and over REST, in the form of each exchange, with what they are about.
FINAL, TEMPORARY, CONNECTION = Refusal.FINAL, Refusal.TEMPORARY, Refusal.CONNECTION
KINDS = {
    "upbit": [
        ("rest", '{"error":{"name":404,"message":"Code not found"}}', FINAL),
        ("rest", '{"error":{"name":500,"message":"Internal server error"}}', TEMPORARY),
        ("rest", '{"error":{"name":"jwt_verification","message":"..."}}', CONNECTION),
        ("ws", '{"error":{"name":"INVALID_AUTH","message":"..."}}', CONNECTION),
        ("ws", '{"error":{"name":"WRONG_FORMAT","message":"Format이 맞지 않습니다."}}', CONNECTION),
        ("ws", '{"error":{"name":"SOMETHING_NEW","message":"..."}}', TEMPORARY),
    ],
    "bithumb": [
        ("rest", '{"error":{"name":404,"message":"Code not found"}}', FINAL),
        ("rest", '{"status":"5500","message":"상장 코인 아님"}', FINAL),
        ("rest", '{"status":"5900","message":"Unknown Error"}', TEMPORARY),
        ("ws", '{"error":{"name":"NO_CODES","message":"..."}}', CONNECTION),
        ("ws", '{"error":{"name":"SOMETHING_NEW","message":"..."}}', TEMPORARY),
    ],
    "coinone": [
        ("ws", '{"response_type":"ERROR","error_code":160012,"message":"Invalid Topic"}', FINAL),
        ("ws", '{"response_type":"ERROR","error_code":160010,"message":"Invalid Request"}', TEMPORARY),
        ("rest", '{"result":"error","error_code":"108","error_msg":"Unknown CryptoCurrency"}', FINAL),
        ("rest", '{"result":"success","error_code":"0","tickers":[]}', FINAL),
        ("rest", '{"result":"error","error_code":"405","error_msg":"Server error"}', TEMPORARY),
        ("rest", '{"result":"error","error_code":"12","error_msg":"Invalid access token"}', CONNECTION),
    ],
    "korbit": [
        (
            "ws",
            '{"status":"fail","code":"INVALID_SYMBOL","message":"The symbol does not exist (eth_btc)","requestId":1}',
            FINAL,
        ),
        ("ws", '{"status":"error","message":"internal"}', TEMPORARY),
        ("ws", '{"status":"fail","code":"UNAUTHORIZED","message":"..."}', CONNECTION),
        ("rest", '{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}', FINAL),
        ("rest", '{"success":true,"data":[]}', FINAL),
        ("rest", '{"success":false,"error":{"code":500,"message":"INTERNAL_SERVER_ERROR"}}', TEMPORARY),
    ],
    "okx": [
        (
            "ws",
            '{"event":"error","code":"60018","msg":"Wrong URL or channel:trades,instId:NO-NO doesn\'t exist"}',
            FINAL,
        ),
        (
            "ws",
            '{"event":"error","code":"64007","msg":"Operation failed due to WebSocket internal error","id":"1"}',
            TEMPORARY,
        ),
        ("ws", '{"event":"error","code":"60012","msg":"Invalid request"}', TEMPORARY),
        ("ws", '{"event":"error","code":"60011","msg":"Please log in"}', CONNECTION),
        ("ws", '{"event":"channel-conn-count-error","channel":"books","connCount":"30","connId":"a"}', CONNECTION),
        ("rest", '{"code":"51001","data":[],"msg":"Instrument ID doesn\'t exist."}', FINAL),
        ("rest", '{"code":"50026","data":[],"msg":"System error. Try again later"}', TEMPORARY),
        (
            "rest",
            '{"code":"50110","data":[],"msg":"Your IP is not included in your API key\'s IP whitelist."}',
            CONNECTION,
        ),
    ],
    "bybit": [
        ("ws", '{"success":false,"ret_msg":"Invalid symbol :[tickers.NOPEUSDT]","op":"subscribe"}', FINAL),
        (
            "ws",
            '{"success":false,"ret_msg":"error:handler not found,topic:publicTrade.NOUSDT","op":"subscribe"}',
            FINAL,
        ),
        (
            "ws",
            '{"success":false,"ret_msg":"error:already subscribed,topic:kline.1.BTCUSDT","op":"subscribe"}',
            TEMPORARY,
        ),
        (
            "ws",
            '{"success":false,"ret_msg":"error:already subscribed,topic:kline.1.AUTHUSDT","op":"subscribe"}',
            TEMPORARY,
        ),
        ("ws", '{"success":false,"ret_msg":"Internal error","op":"subscribe"}', TEMPORARY),
        ("ws", '{"success":false,"ret_msg":"Request not authorized","op":"subscribe"}', CONNECTION),
        ("rest", '{"retCode":10001,"retMsg":"Not supported symbols","result":{}}', FINAL),
        ("rest", '{"retCode":10001,"retMsg":"params error: symbol invalid","result":{}}', FINAL),
        ("rest", '{"retCode":10001,"retMsg":"params error: limit invalid","result":{}}', TEMPORARY),
        ("rest", '{"retCode":10016,"retMsg":"Request timeout, please try again later","result":{}}', TEMPORARY),
        ("rest", '{"retCode":10010,"retMsg":"Unmatched IP","result":{}}', CONNECTION),
        ("rest", '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[]},"time":1675307914985}', FINAL),
    ],
    "gateio": [
        (
            "ws",
            '{"channel":"spot.tickers","event":"subscribe","payload":["NO_XX"],"error":{"code":2,'
            '"message":"unknown currency pair: NO_XX"},"result":{"status":"fail"}}',
            FINAL,
        ),
        ("ws", '{"channel":"spot.obu","event":"subscribe","error":{"code":3,"message":"internal"}}', TEMPORARY),
        (
            "ws",
            '{"channel":"spot.obu","event":"subscribe","error":{"code":2,"message":"Alert sub ob.A_B.400"}}',
            TEMPORARY,
        ),
        ("ws", '{"channel":"spot.obu","event":"subscribe","error":{"code":4,"message":"auth fail"}}', CONNECTION),
        ("rest", '{"label":"INVALID_CURRENCY_PAIR","message":"Invalid currency pair BTC_USDTT"}', FINAL),
        ("rest", '{"label":"SERVER_ERROR","message":"Internal server error"}', TEMPORARY),
        ("rest", '{"label":"IP_FORBIDDEN","message":"IP not in whitelist"}', CONNECTION),
    ],
    "binance": [
        ("ws", '{"error":{"code":2,"msg":"Invalid request: unknown variant `FOO`"},"id":20}', TEMPORARY),
        ("rest", '{"code":-1121,"msg":"Invalid symbol."}', FINAL),
        ("rest", '{"code":-1100,"msg":"Illegal characters found in parameter \'symbol\'."}', FINAL),
        ("rest", '{"code":-1001,"msg":"Internal error; unable to process your request."}', TEMPORARY),
        ("rest", '{"code":0,"msg":"Service unavailable from a restricted location"}', CONNECTION),
    ],
    "kraken": [
        (
            "ws",
            '{"error":"Currency pair not supported NO/USD","method":"subscribe","success":false,"symbol":"NO/USD"}',
            FINAL,
        ),
        (
            "ws",
            '{"error":"Exceeded msg rate","method":"subscribe","req_id":1,"success":false,"symbol":"BTC/USD"}',
            TEMPORARY,
        ),
        ("ws", '{"error":"Already subscribed","method":"subscribe","success":false,"symbol":"BTC/USD"}', TEMPORARY),
        ("ws", '{"error":"ESession:Invalid session","method":"subscribe","success":false}', CONNECTION),
        ("rest", '{"error":["EQuery:Unknown asset pair"]}', FINAL),
        ("rest", '{"error":["EGeneral:Internal error"]}', TEMPORARY),
        ("rest", '{"error":["EGeneral:Permission denied"]}', CONNECTION),
    ],
    "coinbase": [
        ("ws", '{"type":"error","message":"Failed to subscribe","reason":"NO-USD is not a valid product"}', FINAL),
        ("ws", '{"type":"error","message":"Failed to subscribe","reason":"LOOM-USDC is delisted"}', FINAL),
        ("ws", '{"type":"error","message":"Internal error"}', TEMPORARY),
        (
            "ws",
            '{"type":"error","message":"Failed to subscribe","reason":"level2 now require authentication."}',
            CONNECTION,
        ),
        ("rest", '{"message":"NotFound"}', FINAL),
        ("rest", '{"message":"Internal server error"}', TEMPORARY),
        ("rest", '{"message":"Unauthorized."}', CONNECTION),
    ],
}


# Answers without a reason, and answers that list nothing for the pair that was asked for.
NAMED_BY_LISTS = {"coinone", "korbit", "okx", "bybit", "kraken"}  # a list of markets says why it is none
ODD = {"kraken": ["{}"], "korbit": ['{"success":false}']}
NOTHING = ":[]"


def refused_over_rest(exchange: str) -> list[Frame]:
    """Return the recorded errors over REST."""
    return [frame for frame in frames(exchange, "error") if frame.kind is Kind.REST]


def payloads(exchange: str) -> list[bytes]:
    """Return errors over REST, recorded and documented."""
    documented = [text for transport, text, _ in KINDS[exchange] if transport == "rest" and NOTHING not in text]
    return [frame.payload for frame in refused_over_rest(exchange)] + [
        text.encode() for text in [*LIMITS[exchange], *documented, *ODD.get(exchange, [])]
    ]


def usual(exchange: Exchange) -> Pair:
    return Pair("BTC", exchange.quote)


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
def test_R2_a_refusal_concerns_a_pair_for_good_the_moment_or_the_connection(exchange: str) -> None:
    pair = usual(EXCHANGES[exchange])
    for transport, text, refusal in KINDS[exchange]:
        [refused] = say(exchange, Channel.TICKER, text.encode(), pair if transport == "rest" else None)
        assert isinstance(refused, Refused), text
        assert refused.refusal is refusal, text
    assert {refusal for _, _, refusal in KINDS[exchange]} == {*Refusal}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R2_an_unknown_pair_is_refused_for_good_in_every_recording(exchange: str) -> None:
    """Recorded refusals that name a pair are about an unknown pair, or a pair that is already subscribed."""
    for frame in frames(exchange, "error"):
        for event in EXCHANGES[exchange].decode(frame):
            if isinstance(event, Refused) and frame.kind is Kind.SOCKET and event.pair is not None:
                is_there = "already" in event.reason or "Alert sub" in event.reason
                assert event.refusal is (TEMPORARY if is_there else FINAL), event


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R9_a_rate_limit_in_a_body_is_a_ban_for_the_moment(exchange: str) -> None:
    adapter = EXCHANGES[exchange]
    for text in LIMITS[exchange] + BANS.get(exchange, []):
        for channel in Channel:
            [refused] = say(exchange, channel, text.encode(), usual(adapter))
            assert isinstance(refused, Refused)
            assert refused.refusal is TEMPORARY, text
            assert 1 <= refused.ban_seconds <= 900, text


@pytest.mark.parametrize(
    ("exchange", "text"), [("okx", OKX_RATE), ("kraken", KRAKEN_RATE), ("coinbase", COINBASE_RATE)]
)
def test_R9_a_rate_limit_on_a_socket_is_a_ban_as_well(exchange: str, text: str) -> None:
    [refused] = say(exchange, Channel.TICKER, text.encode())
    assert isinstance(refused, Refused)
    assert (refused.refusal, refused.ban_seconds > 0) == (TEMPORARY, True)


@pytest.mark.parametrize(
    ("exchange", "text", "seconds"),
    [
        ("binance", '{"code":-1003,"msg":"Way too much request weight used; IP banned until %d000. ..."}', 259_200),
        ("kraken", '{"error":["EService:Throttled: %d"]}', 77),
        ("kraken", '{"error":["EService:Throttled: [%d]"]}', 77),
    ],
)
def test_R9_a_ban_in_a_body_ends_when_the_body_says(exchange: str, text: str, seconds: int) -> None:
    for until, expected in ((LATE // SECOND + seconds, seconds), (LATE // SECOND - 5, None)):
        [refused] = say(exchange, Channel.TICKER, (text % until).encode(), usual(EXCHANGES[exchange]))
        assert isinstance(refused, Refused)
        assert refused.ban_seconds == expected or (expected is None and refused.ban_seconds > 0)


def test_R9_upbits_block_lasts_as_long_as_its_message_says() -> None:
    text = '{"error":{"name":418,"message":"요청이 차단되었습니다. 90초 후 다시 시도해 주세요."}}'
    [refused] = say("upbit", Channel.TICKER, text.encode(), Pair("BTC", "KRW"))
    assert isinstance(refused, Refused)
    assert (refused.refusal, refused.ban_seconds) == (TEMPORARY, 90)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_error_is_no_list_of_markets(exchange: str) -> None:
    for payload in payloads(exchange):
        [refused] = say(exchange, Channel.TICKER, payload, usual(EXCHANGES[exchange]))
        assert isinstance(refused, Refused)
        reason = re.escape(refused.reason) if exchange in NAMED_BY_LISTS else ""
        with pytest.raises(DecodeError, match=f"^{exchange}: .*{reason}"):
            traded_pairs(EXCHANGES[exchange], payload)
        if exchange in NAMED_BY_LISTS:
            with pytest.raises(DecodeError, match=f"^{exchange}: .*{reason}"):
                EXCHANGES[exchange].market_rows(payload)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_what_cannot_be_read_is_no_list_of_markets(exchange: str) -> None:
    for payload in (b"", b"<html>", b"null", b'"-"', b"[[[", b"{}", b"7"):
        with pytest.raises(DecodeError):
            traded_pairs(EXCHANGES[exchange], payload)


def test_every_recorded_error_of_a_socket_is_a_refusal() -> None:
    for exchange in EXCHANGES:
        recorded = [frame for frame in frames(exchange, "error") if frame.kind is Kind.SOCKET]
        decoded = [event for frame in recorded for event in EXCHANGES[exchange].decode(frame)]
        assert all(isinstance(event, Refused) for event in decoded if not _gives_up(event)), exchange


def _gives_up(event: object) -> bool:
    """Return whether an event is the answer to an unsubscription that found no subscription. It does no harm."""
    return isinstance(event, Control) and event.name.startswith("Failed to unsubscribe")


def test_coinbases_channel_of_all_products_says_nothing_that_we_keep() -> None:
    assert list(events("coinbase", "instrument")) == [Control(name="status")]


def test_the_depth_of_a_book_is_the_one_that_is_asked_for() -> None:
    asked = {
        name: next(iter(exchange.subscribe(Channel.ORDERBOOK, [usual(exchange)], id=1, time=0))).payload
        for name, exchange in EXCHANGES.items()
    }
    assert f'"orderbook.{EXCHANGES["bybit"].depth}.BTCUSDT"' in asked["bybit"]
    assert f'"ob.BTC_USDT.{EXCHANGES["gateio"].depth}"' in asked["gateio"]
    assert f'"depth":{EXCHANGES["kraken"].depth}' in asked["kraken"]
    binance = EXCHANGES["binance"]
    assert f"limit={binance.depth}" in str(binance.request_url(Channel.ORDERBOOK, usual(binance)))
