"""How each exchange is asked: its facts, the texts of its requests, its addresses."""

from typing import NamedTuple

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Pair, Proof, Region

TICKER, ORDERBOOK, TRADE, CANDLE = Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE, Channel.CANDLE
NOT_STREAMED = {"bithumb": {CANDLE}, "korbit": {CANDLE}, "coinbase": {CANDLE}}  # candles are on REST only
WITHOUT_IDS = {"upbit", "bithumb", "coinone", "coinbase"}

FACTS = {
    "upbit": ("Upbit", Region.KOREA, 0, "KRW", Proof.SNAPSHOT),
    "bithumb": ("Bithumb", Region.KOREA, 1, "KRW", Proof.SNAPSHOT),
    "coinone": ("Coinone", Region.KOREA, 2, "KRW", Proof.SNAPSHOT),
    "korbit": ("Korbit", Region.KOREA, 3, "KRW", Proof.SNAPSHOT),
    "okx": ("OKX", Region.ASIA, 0, "USDT", Proof.SEQUENCE),
    "bybit": ("Bybit", Region.ASIA, 1, "USDT", Proof.SEQUENCE),
    "gateio": ("Gateio", Region.ASIA, 2, "USDT", Proof.SEQUENCE),
    "binance": ("Binance", Region.NE, 0, "USDT", Proof.SEQUENCE),
    "kraken": ("Kraken", Region.NE, 1, "USD", Proof.CHECKSUM),
    "coinbase": ("Coinbase", Region.NE, 2, "USD", Proof.NONE),
}
PINGS = {  # the message that keeps a connection; the others answer pings of the protocol
    "upbit": "PING",
    "bithumb": "PING",
    "coinone": '{"request_type":"PING"}',
    "okx": "ping",
    "bybit": '{"req_id":"ping","op":"ping"}',
    "gateio": '{"channel":"spot.ping"}',
    "kraken": '{"method":"ping"}',
}
PING_SECONDS = {"kraken": 5, "gateio": 15}  # the others: 20
SILENCE_SECONDS = {"kraken": 15, "coinbase": 15}  # heartbeats come every second; the others: 40


class Form(NamedTuple):
    """How BTC and ETH are asked for and given up: one text for each request, with the exchange's words for channels."""

    exchange: str
    names: dict[Channel, str]
    texts: tuple[str, ...]
    to_give_up: tuple[str, ...] | None = None  # where the text differs; empty: a subscription replaces the former one


KOREAN = '[{"ticket":"coin-platform-7999999-3"},{"type":"%(name)s","codes":["KRW-BTC","KRW-ETH"]}'
COINONE = '{"request_type":"%(OP)s","channel":"%(name)s","topic":{"quote_currency":"KRW","target_currency":"@"}}'
COINONE_CANDLE = COINONE.replace('"@"', '"@","interval":"1m"')
GATEIO_CANDLE = '{"time":7,"id":ID,"channel":"%(name)s","event":"%(op)s","payload":["1m","@_USDT"]}'
KRAKEN = '{"method":"%(op)s","params":{"channel":"%(name)s","symbol":["BTC/USD","ETH/USD"]},"req_id":3}'
KRAKEN_TICKER = KRAKEN.replace("]}", '],"event_trigger":"bbo"}')
COINBASE = '{"type":"%(op)s","product_ids":["@-USD"],"channels":["%(name)s","heartbeat"]}'


def each(text: str) -> tuple[str, str]:
    """Return the texts of a request for BTC and of the next one for ETH."""
    return text.replace("@", "BTC").replace("ID", "3"), text.replace("@", "ETH").replace("ID", "4")


FORMS = [
    Form("upbit", {channel: channel.value for channel in (TICKER, ORDERBOOK, TRADE)}, (KOREAN + "]",), ()),
    Form("upbit", {CANDLE: "candle.1m"}, (KOREAN + "]",), ()),
    Form(
        "bithumb",
        {channel: channel.value for channel in (TICKER, ORDERBOOK, TRADE)},
        (KOREAN + ',{"format":"DEFAULT"}]',),
        (),
    ),
    Form("coinone", {TICKER: "TICKER", ORDERBOOK: "ORDERBOOK", TRADE: "TRADE"}, each(COINONE)),
    Form("coinone", {CANDLE: "CHART"}, each(COINONE_CANDLE)),
    Form(
        "korbit",
        {channel: channel.value for channel in (TICKER, ORDERBOOK, TRADE)},
        ('[{"requestId":3,"method":"subscribe","type":"%(name)s","symbols":["btc_krw","eth_krw"]}]',),
        ('[{"method":"unsubscribe","type":"%(name)s","symbols":["btc_krw","eth_krw"]}]',),
    ),
    Form(
        "okx",
        {TICKER: "tickers", ORDERBOOK: "books", TRADE: "trades-all", CANDLE: "candle1m"},
        (
            '{"id":"3","op":"%(op)s","args":[{"channel":"%(name)s","instId":"BTC-USDT"},'
            '{"channel":"%(name)s","instId":"ETH-USDT"}]}',
        ),
    ),
    Form(
        "bybit",
        {TICKER: "tickers", ORDERBOOK: "orderbook.200", TRADE: "publicTrade", CANDLE: "kline.1"},
        ('{"req_id":"3","op":"%(op)s","args":["%(name)s.BTCUSDT","%(name)s.ETHUSDT"]}',),
    ),
    Form(
        "gateio",
        {TICKER: "spot.tickers", TRADE: "spot.trades"},
        ('{"time":7,"id":3,"channel":"%(name)s","event":"%(op)s","payload":["BTC_USDT","ETH_USDT"]}',),
    ),
    Form(
        "gateio",
        {ORDERBOOK: "spot.obu"},
        ('{"time":7,"id":3,"channel":"%(name)s","event":"%(op)s","payload":["ob.BTC_USDT.400","ob.ETH_USDT.400"]}',),
    ),
    Form("gateio", {CANDLE: "spot.candlesticks"}, each(GATEIO_CANDLE)),
    Form(
        "binance",
        {TICKER: "ticker", ORDERBOOK: "depth@100ms", TRADE: "trade", CANDLE: "kline_1m"},
        ('{"method":"%(OP)s","params":["btcusdt@%(name)s","ethusdt@%(name)s"],"id":3}',),
    ),
    Form("kraken", {TICKER: "ticker"}, (KRAKEN_TICKER,), (KRAKEN,)),
    Form("kraken", {ORDERBOOK: "book"}, (KRAKEN.replace("]}", '],"depth":100}'),)),
    Form("kraken", {TRADE: "trade"}, (KRAKEN,)),
    Form("kraken", {CANDLE: "ohlc"}, (KRAKEN.replace("]}", '],"interval":1}'),)),
    Form("coinbase", {TICKER: "ticker", ORDERBOOK: "level2_batch", TRADE: "matches"}, each(COINBASE)),
]

# What comes before all REST addresses of an exchange, then those of BTC by channel, and of the list of markets.
ADDRESSES: dict[str, tuple[str, list[str]]] = {
    "upbit": (
        "https://api.upbit.com/v1",
        [
            "/ticker?markets=KRW-BTC",
            "/orderbook?markets=KRW-BTC",
            "/trades/ticks?market=KRW-BTC&count=200",
            "/candles/minutes/1?market=KRW-BTC&count=200",
            "/market/all?is_details=true",
        ],
    ),
    "bithumb": (
        "https://api.bithumb.com/v1",
        [
            "/ticker?markets=KRW-BTC",
            "/orderbook?markets=KRW-BTC",
            "/trades/ticks?market=KRW-BTC&count=200",
            "/candles/minutes/1?market=KRW-BTC&count=200",
            "/market/all?isDetails=true",
        ],
    ),
    "coinone": (
        "https://api.coinone.co.kr/public/v2",
        [
            "/ticker_new/KRW/BTC",
            "/orderbook/KRW/BTC?size=16",
            "/trades/KRW/BTC?size=200",
            "/chart/KRW/BTC?interval=1m&size=500",
            "/markets/KRW",
        ],
    ),
    "korbit": (
        "https://api.digitalx.miraeasset.com/v2",
        [
            "/tickers?symbol=btc_krw",
            "/orderbook?symbol=btc_krw",
            "/trades?symbol=btc_krw&limit=200",
            "/candles?symbol=btc_krw&interval=1&limit=200",
            "/currencyPairs",
        ],
    ),
    "okx": (
        "https://www.okx.com/api/v5",
        [
            "/market/ticker?instId=BTC-USDT",
            "/market/books?instId=BTC-USDT&sz=400",
            "/market/trades?instId=BTC-USDT&limit=500",
            "/market/candles?instId=BTC-USDT&bar=1m&limit=300",
            "/public/instruments?instType=SPOT",
        ],
    ),
    "bybit": (
        "https://api.bybit.com/v5/market",
        [
            "/tickers?category=spot&symbol=BTCUSDT",
            "/orderbook?category=spot&symbol=BTCUSDT&limit=200",
            "/recent-trade?category=spot&symbol=BTCUSDT&limit=60",
            "/kline?category=spot&symbol=BTCUSDT&interval=1&limit=1000",
            "/instruments-info?category=spot",
        ],
    ),
    "gateio": (
        "https://api.gateio.ws/api/v4/spot",
        [
            "/tickers?currency_pair=BTC_USDT",
            "/order_book?currency_pair=BTC_USDT&limit=100&with_id=true",
            "/trades?currency_pair=BTC_USDT&limit=1000",
            "/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=1000",
            "/currency_pairs",
        ],
    ),
    "binance": (
        "https://data-api.binance.vision/api/v3",
        [
            "/ticker/24hr?symbol=BTCUSDT",
            "/depth?symbol=BTCUSDT&limit=1000",
            "/trades?symbol=BTCUSDT&limit=1000",
            "/klines?symbol=BTCUSDT&interval=1m&limit=1000",
            "/exchangeInfo?showPermissionSets=false",
        ],
    ),
    "kraken": (
        "https://api.kraken.com/0/public",
        [
            "/Ticker?pair=BTC/USD",
            "/Depth?pair=BTC/USD&count=500",
            "/Trades?pair=BTC/USD&count=1000",
            "/OHLC?pair=BTC/USD&interval=1",
            "/AssetPairs",
        ],
    ),
    "coinbase": (
        "https://api.exchange.coinbase.com/products",
        [
            "/BTC-USD/ticker",
            "/BTC-USD/book?level=2",
            "/BTC-USD/trades?limit=1000",
            "/BTC-USD/candles?granularity=60",
            "",
        ],
    ),
}
SOCKETS = {
    "upbit": "wss://api.upbit.com/websocket/v1",
    "bithumb": "wss://ws-api.bithumb.com/websocket/v1",
    "coinone": "wss://stream.coinone.co.kr",
    "korbit": "wss://ws-api.digitalx.miraeasset.com/v2/public",
    "okx": "wss://ws.okx.com:8443/ws/v5/public",  # trades and candles: …/business
    "bybit": "wss://stream.bybit.com/v5/public/spot",
    "gateio": "wss://api.gateio.ws/ws/v4/",
    "binance": "wss://data-stream.binance.vision/stream",  # names streams, unlike …/ws
    "kraken": "wss://ws.kraken.com/v2",
    "coinbase": "wss://ws-feed.exchange.coinbase.com",
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_is_what_its_documentation_says(name: str) -> None:
    exchange = EXCHANGES[name]
    assert (exchange.title, exchange.region, exchange.partition, exchange.quote, exchange.proof) == FACTS[name]
    assert exchange.name == name
    assert exchange.channels - {Channel.INSTRUMENT} == set(Channel) - {Channel.INSTRUMENT} - NOT_STREAMED.get(
        name, set()
    )
    assert exchange.has_deltas == (exchange.proof is not Proof.SNAPSHOT)
    assert (exchange.ping, exchange.ping_every) == (PINGS.get(name), PING_SECONDS.get(name, 20))
    assert exchange.silence_seconds == SILENCE_SECONDS.get(name, 40)


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("is_bridged", {"binance"}),  # Gate.io's lost book is asked for again over the socket
        ("is_chained", {"okx"}),
        ("is_sparse", {"korbit", "binance"}),  # quiet books send nothing, but pongs come
        ("replaces_subscription", {"upbit", "bithumb"}),
        ("refuses_whole_request", {"korbit", "bybit", "gateio"}),
    ],
)
def test_a_special_way_is_that_of_these_exchanges_only(flag: str, names: set[str]) -> None:
    assert {name for name, exchange in EXCHANGES.items() if getattr(exchange, flag)} == names


@pytest.mark.parametrize(
    ("form", "channel"),
    [pytest.param(form, channel, id=f"{form.exchange}-{channel}") for form in FORMS for channel in form.names],
)
def test_requests_are_as_documented(form: Form, channel: Channel) -> None:
    exchange = EXCHANGES[form.exchange]
    pairs = (Pair("BTC", exchange.quote), Pair("ETH", exchange.quote))
    words = {"name": form.names[channel], "op": "subscribe", "OP": "SUBSCRIBE"}
    requests = list(exchange.subscribe(channel, pairs, id=3, time=8 * SECOND - 1))
    assert [request.payload for request in requests] == [text % words for text in form.texts]
    assert [request.pairs for request in requests] == ([pairs] if len(requests) == 1 else [(pair,) for pair in pairs])
    assert [request.id for request in requests] == [
        None if form.exchange in WITHOUT_IDS else 3 + number for number in range(len(requests))
    ]
    words |= {"op": "unsubscribe", "OP": "UNSUBSCRIBE"}
    to_give_up = form.texts if form.to_give_up is None else form.to_give_up
    given_up = list(exchange.unsubscribe(channel, pairs, id=3, time=8 * SECOND - 1))
    assert [request.payload for request in given_up] == [text % words for text in to_give_up]
    assert form.exchange != "korbit" or [request.id for request in given_up] == [None]


def test_every_streamed_channel_has_its_form() -> None:
    streamed = {(name, channel) for name in EXCHANGES for channel in EXCHANGES[name].channels - {Channel.INSTRUMENT}}
    assert {(form.exchange, channel) for form in FORMS for channel in form.names} == streamed


@pytest.mark.parametrize(
    ("name", "count"), [("korbit", 50), ("okx", 50), ("bybit", 10), ("gateio", 50), ("binance", 50), ("kraken", 50)]
)
def test_many_pairs_are_asked_for_in_numbered_requests(name: str, count: int) -> None:
    pairs = [Pair(f"A{number}", EXCHANGES[name].quote) for number in range(2 * count + 3)]
    requests = list(EXCHANGES[name].subscribe(TRADE, pairs, id=5, time=0))
    assert [(len(request.pairs), request.id) for request in requests] == [(count, 5), (count, 6), (3, 7)]
    assert [pair for request in requests for pair in request.pairs] == pairs


@pytest.mark.parametrize("name", EXCHANGES)
def test_addresses_are_as_documented(name: str) -> None:
    exchange, (base, paths) = EXCHANGES[name], ADDRESSES[name]
    urls = [exchange.request_url(channel, Pair("BTC", exchange.quote)) for channel in Channel]
    assert urls == [base + path for path in paths]
    assert exchange.markets_url() == urls[-1]
    business = {TRADE, CANDLE} if name == "okx" else set()
    for channel in exchange.channels:
        socket = SOCKETS[name].replace("public", "business") if channel in business else SOCKETS[name]
        assert exchange.socket_url(channel) == socket
