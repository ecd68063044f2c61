"""Bybit: facts of its tickers, trades and candles, its answers, requests and symbols."""

import msgspec
import pytest

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges.bybit import Bybit
from coin_platform.model import (
    Candle,
    Channel,
    Control,
    Frame,
    Kind,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, frames, say

BYBIT = Bybit()
BTC_USDT, ETH_USDT = Pair("BTC", "USDT"), Pair("ETH", "USDT")


def test_what_bybit_is() -> None:
    assert (BYBIT.name, BYBIT.title, BYBIT.region, BYBIT.partition) == ("bybit", "Bybit", Region.ASIA, 1)
    assert (BYBIT.quote, BYBIT.proof, BYBIT.has_deltas) == ("USDT", Proof.SEQUENCE, True)
    assert (BYBIT.is_chained, BYBIT.is_bridged, BYBIT.refuses_whole_request) == (False, False, True)
    assert BYBIT.channels == set(Channel) - {Channel.INSTRUMENT}


def test_a_ticker_of_the_socket_has_no_best_prices() -> None:
    assert next(events("bybit", "ticker")) == Ticker(
        pair=BTC_USDT,
        exchange_time=1_786_310_819_126_000,
        last="65140.5",
        open_24h="65045.3",
        high_24h="65305.6",
        low_24h="64727.9",
        change_24h="95.2",
        volume_24h="2953.835931",
        quote_volume_24h="191907024.69597728",
    )


def test_a_ticker_of_derivatives_is_a_dead_letter() -> None:
    text = (
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","lastPrice":"61875.06",'
        b'"bid1Price":"61873.90","bid1Size":"3.543"},"cs":176530004279,"ts":1715748763063}'
    )
    with pytest.raises(DecodeError, match="of type 'delta' is not known"):
        say("bybit", Channel.TICKER, text)


def test_other_books_and_candles_are_left_out() -> None:
    assert Control(name="orderbook.rpi.BTCUSDT") in list(events("bybit", "orderbook"))
    assert list(events("bybit", "candle"))[-1] == Control(name="kline.5.BTCUSDT")


def test_a_message_may_have_several_trades() -> None:
    trades = [event for event in events("bybit", "trade") if isinstance(event, Trade)]
    assert trades[0] == Trade(
        pair=BTC_USDT,
        exchange_time=1_786_310_822_605_000,
        id="2290000001189048101",
        price=65_140.5,
        size=0.002705,
        side=Side.BUY,
    )
    assert trades[2].side is Side.SELL
    assert [(trade.pair, trade.id) for trade in trades[7:9]] == [
        (ETH_USDT, "2280000001739247420"),
        (ETH_USDT, "2280000001739247421"),
    ]


def test_a_candle_says_when_it_is_closed() -> None:
    unfinished, closed, *_ = events("bybit", "candle")
    assert unfinished == Candle(
        pair=BTC_USDT,
        exchange_time=1_786_310_816_562_000,
        open_time=1_786_310_760_000_000,
        open=65_140.4,
        high=65_140.5,
        low=65_140.4,
        close=65_140.5,
        volume=0.15318,
        quote_volume=9978.2084389,
        is_closed=False,
    )
    assert isinstance(closed, Candle) and (closed.is_closed, closed.volume) == (True, 0.15388)


def test_an_answer_names_its_request() -> None:
    assert list(events("bybit", "control")) == [
        Subscribed(),
        Subscribed(),
        Control(name="pong"),  # spot answers op "ping"
        Subscribed(request=10001),
    ]
    answers = {
        b'{"success":true,"ret_msg":"pong","req_id":"ping","op":"pong"}': Control(name="pong"),
        b'{"success":true,"ret_msg":"","req_id":"12","op":"unsubscribe"}': Control(name="unsubscribe"),
        b'{"success":false,"ret_msg":"no,topic:tickers.BTCUSDT","op":"unsubscribe"}': Control(name="unsubscribe"),
        b'{"success":false,"ret_msg":"Request not authorized","op":""}': Refused(
            reason="Request not authorized", refusal=Refusal.CONNECTION
        ),
    }
    for payload, answer in answers.items():
        assert say("bybit", Channel.TICKER, payload) == [answer]


def test_a_refusal_names_the_topic_in_its_text() -> None:
    unknown, spot, again, rest = events("bybit", "error")
    assert unknown == Refused(reason="error:handler not found,topic:publicTrade.NOTASYMBOL", refusal=Refusal.FINAL)
    assert spot == Refused(
        reason="Invalid symbol :[tickers.NOPEUSDT]", pair=Pair("NOPE", "USDT"), refusal=Refusal.FINAL
    )
    assert again == Refused(reason="error:already subscribed,topic:kline.1.BTCUSDT", pair=BTC_USDT)
    assert rest == Refused(reason="10016: Request timeout, please try again later")
    numbered = frames("bybit", "error")[1].payload.replace(b'"req_id":""', b'"req_id":"7"')
    numbered = numbered.replace(b"tickers.NOPEUSDT", b"orderbook.200.NOPEUSDT")
    assert say("bybit", Channel.ORDERBOOK, numbered) == [
        Refused(
            reason="Invalid symbol :[orderbook.200.NOPEUSDT]",
            pair=Pair("NOPE", "USDT"),
            request=7,
            refusal=Refusal.FINAL,
        )
    ]
    too_many = b'{"success":false,"ret_msg":"args size >10","req_id":"8","op":"subscribe"}'
    assert say("bybit", Channel.TICKER, too_many) == [Refused(reason="args size >10", request=8)]


def test_a_rest_ticker_has_best_prices_and_the_time_of_the_answer() -> None:
    assert list(events("bybit", "rest_ticker")) == [
        Ticker(
            pair=BTC_USDT,
            exchange_time=1_673_859_087_947_000,
            last="20533.13",
            open_24h="20393.48",
            high_24h="21128.12",
            low_24h="20318.89",
            change_24h="139.65",
            volume_24h="11801.27771",
            quote_volume_24h="243765620.65899866",
            best_bid="20517.96",
            best_bid_size="2",
            best_ask="20527.77",
            best_ask_size="1.862172",
        )
    ]


def test_rest_trades_and_candles_as_documented() -> None:
    # https://bybit-exchange.github.io/docs/v5/market/recent-trade and …/kline
    trades = (
        b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"execId":"2100000000007764263",'
        b'"symbol":"BTCUSDT","price":"16618.49","size":"0.00012","side":"Buy","time":"1672052955758",'
        b'"isBlockTrade":false}]},"retExtInfo":{},"time":1672053054358}'
    )
    assert say("bybit", Channel.TRADE, trades, BTC_USDT) == [
        Trade(
            pair=BTC_USDT,
            exchange_time=1_672_052_955_758_000,
            id="2100000000007764263",
            price=16_618.49,
            size=0.00012,
            side=Side.BUY,
        )
    ]
    candles = (
        b'{"retCode":0,"retMsg":"OK","result":{"symbol":"BTCUSD","category":"inverse","list":[["1670608800000",'
        b'"17071","17073","17027","17055.5","268611","15.74462667"]]},"retExtInfo":{},"time":1672025956592}'
    )
    assert say("bybit", Channel.CANDLE, candles, BTC_USDT) == [
        Candle(
            pair=BTC_USDT,
            open_time=1_670_608_800_000_000,
            open=17_071,
            high=17_073,
            low=17_027,
            close=17_055.5,
            volume=268_611,
            quote_volume=15.74462667,
        )
    ]
    frame = Frame(exchange="bybit", channel=Channel.CANDLE, connection="c", number=1, received_time=0, payload=candles)
    with pytest.raises(DecodeError, match="needs its pair"):
        BYBIT.decode(msgspec.structs.replace(frame, kind=Kind.REST))


def test_errors_come_with_http_200_and_are_refusals() -> None:
    error = frames("bybit", "error")[3].payload
    for channel in Channel:
        assert say("bybit", channel, error, BTC_USDT) == [
            Refused(pair=BTC_USDT, reason="10016: Request timeout, please try again later")
        ]
    nothing = b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[]},"retExtInfo":{},"time":1790319460076}'
    assert say("bybit", Channel.TICKER, nothing, BTC_USDT) == [
        Refused(pair=BTC_USDT, reason="no such market", refusal=Refusal.FINAL)
    ]
    with pytest.raises(DecodeError, match="without any"):
        traded_pairs(BYBIT, nothing)
    with pytest.raises(DecodeError, match="10016"):
        traded_pairs(BYBIT, error)
    blocked = b"{\n    error:The Amazon CloudFront distribution is configured to block access from your country\n}"
    with pytest.raises(DecodeError):
        say("bybit", Channel.TICKER, blocked, BTC_USDT)


def test_requests_hold_at_most_ten_topics() -> None:
    [request] = BYBIT.subscribe(Channel.ORDERBOOK, [BTC_USDT, ETH_USDT], id=3, time=0)
    assert request.payload == (
        '{"req_id":"3","op":"subscribe","args":["orderbook.200.BTCUSDT","orderbook.200.ETHUSDT"]}'
    )
    [given_up] = BYBIT.unsubscribe(Channel.TICKER, [BTC_USDT], id=4, time=0)
    assert given_up.payload == '{"req_id":"4","op":"unsubscribe","args":["tickers.BTCUSDT"]}'
    many = [Pair(f"A{number}", "USDT") for number in range(23)]
    requests = list(BYBIT.subscribe(Channel.TRADE, many, id=5, time=0))
    assert [(len(request.pairs), request.id) for request in requests] == [(10, 5), (10, 6), (3, 7)]
    assert '"args":["publicTrade.A0USDT",' in requests[0].payload
    [candle] = BYBIT.subscribe(Channel.CANDLE, [BTC_USDT], id=9, time=0)
    assert '"args":["kline.1.BTCUSDT"]' in candle.payload
    assert BYBIT.ping == '{"req_id":"ping","op":"ping"}' and BYBIT.ping_every == 20


def test_addresses() -> None:
    urls = {channel: BYBIT.request_url(channel, BTC_USDT) for channel in Channel}
    market = "https://api.bybit.com/v5/market"
    assert urls == {
        Channel.TICKER: f"{market}/tickers?category=spot&symbol=BTCUSDT",
        Channel.ORDERBOOK: f"{market}/orderbook?category=spot&symbol=BTCUSDT&limit=200",
        Channel.TRADE: f"{market}/recent-trade?category=spot&symbol=BTCUSDT&limit=60",
        Channel.CANDLE: f"{market}/kline?category=spot&symbol=BTCUSDT&interval=1&limit=1000",
        Channel.INSTRUMENT: BYBIT.markets_url(),
    }
    assert BYBIT.socket_url(Channel.TICKER) == "wss://stream.bybit.com/v5/public/spot"
    assert BYBIT.markets_url() == f"{market}/instruments-info?category=spot"


def test_symbols_without_a_separator_are_read_as_the_exchange_lists_them() -> None:
    payload = frames("bybit", "markets")[0].payload
    listed = traded_pairs(BYBIT, payload)
    assert len(listed) == 21 and {pair.quote for pair in listed} >= {"USDT", "USDC", "USD1", "RLUSD", "BTC", "BRL"}
    assert [BYBIT.pair(BYBIT.symbol(pair)) for pair in listed] == listed
    assert BYBIT.pair("XUSDUSDT") == Pair("XUSD", "USDT")
    assert BYBIT.pair("BTCRLUSD") == Pair("BTC", "RLUSD")
    assert traded_pairs(BYBIT, payload.replace(b'"Trading"', b'"PreLaunch"')) == []


@pytest.mark.parametrize("symbol", ["spot", "btcusdt", "USDT", "NOTASYMBOL", ""])
def test_a_symbol_without_a_known_quote_is_no_pair(symbol: str) -> None:
    with pytest.raises(UnknownPair):
        BYBIT.pair(symbol)
