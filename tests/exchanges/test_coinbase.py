"""Coinbase: facts of its documentation, its requests, its books whose changes bear no numbers."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.collect.actions import Failed
from coin_platform.collect.session import Session
from coin_platform.commands.decode import BookReplay
from coin_platform.errors import DecodeError
from coin_platform.exchanges.coinbase import Coinbase
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Instant,
    Kind,
    Level,
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
from tests.kit.recordings import cut, events, frames, say, spoilt
from tests.kit.sequences import folded, sides, updates

COINBASE = Coinbase()
BTC_USD, ETH_USD, BTC_EUR = Pair("BTC", "USD"), Pair("ETH", "USD"), Pair("BTC", "EUR")
SEQUENCES = ["book_sequence_1", "book_sequence_2"]
REST = "https://api.exchange.coinbase.com/products"


def test_what_coinbase_is() -> None:
    assert (COINBASE.name, COINBASE.title, COINBASE.region) == ("coinbase", "Coinbase", Region.NE)
    assert (COINBASE.partition, COINBASE.quote, COINBASE.proof) == (2, "USD", Proof.NONE)
    assert (COINBASE.has_deltas, COINBASE.is_bridged, COINBASE.is_chained) == (True, False, False)
    assert COINBASE.channels == {Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE}  # candles are on REST only
    assert COINBASE.socket_url(Channel.TICKER) == "wss://ws-feed.exchange.coinbase.com"
    assert COINBASE.ping is None and COINBASE.silence_seconds <= 15  # a heartbeat comes every second


def test_a_ticker_since_sizes_are_sent() -> None:
    assert list(events("coinbase", "ticker"))[24] == Ticker(
        pair=BTC_USD,
        exchange_time=1_705_613_574_368_300,
        last="40813.37",
        open_24h="42637.36",
        high_24h="42877.22",
        low_24h="40600.05",
        change_24h="-1823.99",
        volume_24h="24498.81475200",  # not volume_30d
        best_bid="40809.65",
        best_bid_size="0.10002360",
        best_ask="40818.25",
        best_ask_size="0.08964000",
    )


def test_a_ticker_of_2021_has_no_sizes() -> None:
    ticker = next(events("coinbase", "ticker"))
    assert isinstance(ticker, Ticker) and ticker.exchange_time == 1_618_677_810_244_075
    assert (ticker.best_bid, ticker.best_bid_size, ticker.best_ask_size) == ("14.7550", None, None)


@pytest.mark.parametrize("opened", [b'""', b'"0"', b'"0.00000000"'])
def test_a_price_24_hours_ago_that_is_not_known_makes_no_change(opened: bytes) -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"42637.36"', opened)
    [ticker] = say("coinbase", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.open_24h, ticker.change_24h) == (None, None)


def test_a_ticker_without_a_time_is_of_no_time() -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"time": "2024-01-18T21:32:54.368300Z", ', b"")
    [ticker] = say("coinbase", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.last, ticker.exchange_time) == ("40813.37", None)


def test_a_ticker_of_a_pair_that_never_traded_says_nothing() -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"40813.37"', b'"0"')
    assert say("coinbase", Channel.TICKER, payload) == [Control(name="ticker without a price")]
    payload = frames("coinbase", "rest_ticker")[1].payload.replace(b'"115743.68"', b'""')
    assert say("coinbase", Channel.TICKER, payload, BTC_USD) == [Control(name="ticker without a price")]


def test_a_whole_book_has_no_time() -> None:
    assert updates("coinbase", "orderbook")[22] == BookUpdate(
        pair=BTC_USD,
        is_snapshot=True,
        bids=[Level(37_209.96, 0.04016376), Level(37_209.32, 0.00192256), Level(37_209.16, 0.0113)],
        asks=[Level(37_212.77, 0.05724592), Level(37_215.39, 0.009), Level(37_215.69, 0.09654865)],
    )
    timed = frames("coinbase", "orderbook")[22].payload.replace(b"}", b',"time":"2025-08-18T07:41:57.816974Z"}')
    [book] = say("coinbase", Channel.ORDERBOOK, timed)
    assert isinstance(book, BookUpdate) and book.exchange_time == 1_755_502_917_816_974


def test_changes_are_bids_to_buy_and_asks_to_sell() -> None:
    assert updates("coinbase", "orderbook")[24] == BookUpdate(
        pair=BTC_EUR,
        exchange_time=None,  # the year 1
        is_snapshot=False,
        bids=[Level(9_202.7, 0.5866786)],
        asks=[Level(9_222.39, 0.00459825)],
    )


def test_times_have_three_to_nine_digits_behind_the_point() -> None:
    books = updates("coinbase", "orderbook")
    assert (books[23].exchange_time, books[31].exchange_time) == (1_564_617_603_818_000, 1_755_503_391_140_110)
    nine = list(events("coinbase", "rest_ticker"))[2]
    assert isinstance(nine, Ticker) and nine.exchange_time == 1_755_496_657_258_019


def test_a_level_whose_size_is_no_number_is_left_out() -> None:
    assert updates("coinbase", "orderbook")[25] == BookUpdate(
        pair=Pair("YFI", "USD"),
        is_snapshot=True,
        bids=[Level(40_533.24, 0.020416)],  # without 40531.19 x 0.-10000
        asks=[Level(40_584.89, 0.039985)],
    )
    other = frames("coinbase", "orderbook")[25].payload.replace(b"0.-10000", b"many")
    with pytest.raises(DecodeError):
        say("coinbase", Channel.ORDERBOOK, other)


def test_the_side_of_a_trade_is_the_makers_so_the_taker_did_the_opposite() -> None:
    trades = list(events("coinbase", "trade"))
    assert trades[0] == Trade(  # last_match
        pair=Pair("BAND", "GBP"),
        exchange_time=1_618_677_810_244_075,
        id="881613",
        price=14.7775,
        size=0.04,
        side=Side.BUY,  # the ticker of this trade says so too
    )
    assert trades[24] == Trade(
        pair=ETH_USD,
        exchange_time=1_635_852_650_808_413,
        id="174742474",
        price=4_450.09,
        size=0.02100634,
        side=Side.SELL,
    )


def test_a_trade_without_a_time_is_a_dead_letter() -> None:
    payload = frames("coinbase", "trade")[0].payload.replace(b"2021-04-17T16:43:30.244075Z", b"0001-01-01T00:00:00Z")
    with pytest.raises(DecodeError, match="bad_time"):
        say("coinbase", Channel.TRADE, payload)


def test_answers_list_all_that_is_subscribed_on_the_connection() -> None:
    answers = [COINBASE.decode(frame) for frame in frames("coinbase", "control")]
    listed = Control(name="subscriptions")
    books = [Pair.parse(text) for text in ("BAND-GBP", "BAND-BTC", "YFI-BTC", "NU-GBP", "CRV-EUR", "SKL-GBP")]
    assert answers[0][:7] == [listed, *(Subscribed(pair=pair) for pair in books)] and len(answers[0]) == 11
    assert answers[3:5] == [[listed, Subscribed(pair=BTC_USD)]] * 2  # level2_batch is called level2_50, or level2
    assert answers[5:7] == [[Control(name="heartbeat")]] * 2
    assert answers[7:] == [[listed]] * 2  # tickers, on a connection for books; and nothing at all


def test_an_answer_that_lists_more_than_anyone_can_ask_for_is_a_dead_letter() -> None:
    listed = b",".join([b'"BTC-USD"'] * 2001)
    payload = b'{"type":"subscriptions","channels":[{"name":"ticker","product_ids":[%s]}]}' % listed
    with pytest.raises(DecodeError, match="more subscriptions than a connection of ours has"):
        say("coinbase", Channel.TICKER, payload)


@pytest.mark.parametrize(
    ("channel", "pairs"),
    [
        (Channel.TICKER, [Pair("SKL", "USD"), Pair("BAND", "GBP")]),
        (Channel.TRADE, [Pair("SKL", "BTC"), Pair("DASH", "BTC")]),
        (Channel.ORDERBOOK, [Pair("SKL", "BTC"), Pair("NU", "GBP")]),
    ],
)
def test_only_a_connections_own_channel_is_confirmed(channel: Channel, pairs: list[Pair]) -> None:
    _, *confirmed = say("coinbase", channel, frames("coinbase", "control")[2].payload)
    assert len(confirmed) == 10
    assert confirmed[:2] == [Subscribed(pair=pair) for pair in pairs]


def test_refusals_name_the_pair_where_the_reason_does() -> None:
    needs_key = "Failed to subscribe: level2, level3, and full channels now require authentication."
    assert list(events("coinbase", "error")) == [
        Refused(reason=needs_key, refusal=Refusal.CONNECTION),
        Refused(reason="Failed to subscribe: LOOM-USDC is delisted", pair=Pair("LOOM", "USDC"), refusal=Refusal.FINAL),
        Control(name="Failed to unsubscribe: No channels provided"),
    ]
    invalid = b'{"type":"error","message":"Failed to subscribe","reason":"ETH-USD is not a valid product"}'
    [refused] = say("coinbase", Channel.TICKER, invalid)
    assert refused == Refused(
        reason="Failed to subscribe: ETH-USD is not a valid product", pair=ETH_USD, refusal=Refusal.FINAL
    )
    odd = invalid.replace(b"ETH-USD", b"A_B-USD")
    [refused] = say("coinbase", Channel.TICKER, odd)
    assert refused == Refused(reason="Failed to subscribe: A_B-USD is not a valid product", refusal=Refusal.FINAL)
    assert say("coinbase", Channel.TICKER, b'{"type":"error","message":"rate limit"}') == [
        Refused(reason="rate limit", ban_seconds=1.0)
    ]


def test_a_refused_pair_costs_none_of_the_others() -> None:
    session = Session(COINBASE, Channel.TICKER, [BTC_USD, Pair("LOOM", "USDC")])
    assert len(session.opened(Instant(0, 0))) == 2  # one request each
    [failed] = session.received(frames("coinbase", "error")[1], Instant(0, 1))
    assert isinstance(failed, Failed) and failed.pair == Pair("LOOM", "USDC")
    assert session.received(frames("coinbase", "ticker")[24], Instant(0, 1)) == []
    assert session.unconfirmed == frozenset()


def test_a_type_that_is_not_known_is_a_dead_letter() -> None:
    payload = frames("coinbase", "ticker")[0].payload.replace(b'"type": "ticker"', b'"type":"received"')
    with pytest.raises(DecodeError, match="received"):
        say("coinbase", Channel.TICKER, payload)


def test_a_rest_book_counts_orders_too() -> None:
    best, whole = updates("coinbase", "rest_orderbook")
    assert best == BookUpdate(
        pair=BTC_EUR, is_snapshot=True, bids=[Level(8_966.04, 3_009.994)], asks=[Level(8_966.06, 3_009.993)]
    )
    assert (len(whole.bids), whole.bids[-1], whole.asks) == (36, Level(0.01, 129.0), [Level(100_000.0, 740.94423141)])
    timed = frames("coinbase", "rest_orderbook")[0].payload.replace(b"}", b',"time":"2025-08-18T07:41:57.816974Z"}')
    [book] = say("coinbase", Channel.ORDERBOOK, timed, BTC_EUR)
    assert isinstance(book, BookUpdate) and book.exchange_time == 1_755_502_917_816_974


def test_trades_over_rest_have_the_makers_side_too() -> None:
    first, *_ = COINBASE.decode(frames("coinbase", "rest_trades")[1])
    assert first == Trade(
        pair=BTC_EUR,
        exchange_time=1_581_924_196_353_000,
        id="24169717",
        price=9_042.88,
        size=0.00846511,
        side=Side.BUY,
    )


def test_candles_over_rest_have_the_low_before_the_high() -> None:
    first, *later = events("coinbase", "candle")
    assert first == Candle(
        pair=BTC_USD,
        open_time=1_755_496_620_000_000,
        open=115_733.6,
        high=115_743.7,
        low=115_703.97,
        close=115_739.93,
        volume=0.61798602,
    )
    assert len(later) == 3
    assert isinstance(later[1], Candle) and (later[1].open, later[1].low) == (115_588.0, 115_588.0)  # no points there


@pytest.mark.parametrize("channel", Channel)
def test_a_rest_error_refuses_the_pair(channel: Channel) -> None:
    assert say("coinbase", channel, b'{"message":"NotFound"}', BTC_USD) == [
        Refused(pair=BTC_USD, reason="NotFound", refusal=Refusal.FINAL)
    ]


@pytest.mark.parametrize("stem", ["rest_ticker", "rest_orderbook", "rest_trades", "candle"])
def test_a_rest_answer_needs_its_pair(stem: str) -> None:
    frame = msgspec.structs.replace(frames("coinbase", stem)[0], pair=None)
    with pytest.raises(DecodeError, match="needs its pair"):
        COINBASE.decode(frame)


@pytest.mark.parametrize(
    ("channel", "name"),
    [(Channel.TICKER, "ticker"), (Channel.ORDERBOOK, "level2_batch"), (Channel.TRADE, "matches")],
)
def test_one_pair_a_request_with_a_heartbeat(channel: Channel, name: str) -> None:
    first, second = COINBASE.subscribe(channel, [BTC_USD, ETH_USD], id=7, time=0)
    assert first.payload == f'{{"type":"subscribe","product_ids":["BTC-USD"],"channels":["{name}","heartbeat"]}}'
    assert (first.pairs, first.id, second.pairs, second.id) == ((BTC_USD,), None, (ETH_USD,), None)
    [request] = COINBASE.unsubscribe(channel, [BTC_USD], id=8, time=0)
    assert request.payload == f'{{"type":"unsubscribe","product_ids":["BTC-USD"],"channels":["{name}","heartbeat"]}}'


def test_addresses() -> None:
    assert {channel: COINBASE.request_url(channel, BTC_USD) for channel in Channel} == {
        Channel.TICKER: f"{REST}/BTC-USD/ticker",
        Channel.ORDERBOOK: f"{REST}/BTC-USD/book?level=2",
        Channel.TRADE: f"{REST}/BTC-USD/trades?limit=1000",
        Channel.CANDLE: f"{REST}/BTC-USD/candles?granularity=60",
        Channel.INSTRUMENT: COINBASE.markets_url(),
    }
    assert COINBASE.markets_url() == REST


def test_markets_that_cannot_be_traded_are_left_out() -> None:
    recorded = frames("coinbase", "markets")[1].payload
    markets = traded_pairs(COINBASE, recorded)
    assert len(markets) == 15 and markets[:2] == [Pair("BTC", "USDT"), ETH_USD]
    assert Pair("GAL", "USDT") not in markets  # delisted
    disabled = recorded.replace(b'"trading_disabled": false', b'"trading_disabled":true', 1)
    assert traded_pairs(COINBASE, disabled) == markets[1:]


def test_symbols_read_both_ways() -> None:
    assert (COINBASE.symbol(BTC_USD), COINBASE.pair("BTC-USD")) == ("BTC-USD", BTC_USD)
    assert COINBASE.pair("1INCH-GBP") == Pair("1INCH", "GBP")


@pytest.mark.parametrize("symbol", ["BTCUSD", "BTC_USD", "BTC-USD-PERP", "-USD", ""])
def test_what_is_no_symbol_is_a_dead_letter(symbol: str) -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"BTC-USD"', f'"{symbol}"'.encode())
    with pytest.raises(DecodeError):
        say("coinbase", Channel.TICKER, payload)


@pytest.mark.parametrize("stem", SEQUENCES)
def test_F1_recorded_books_become_what_the_last_size_of_every_price_says(stem: str) -> None:
    replay = BookReplay(COINBASE)
    book = COINBASE.book()
    for frame in frames("coinbase", stem):
        replay.feed(frame)
    for update in updates("coinbase", stem):
        assert COINBASE.apply(book, update) is Applied.APPLIED
        assert not book.is_crossed
    result = replay.result()
    assert (result["gaps"], result["crossed"]) == (0, 0)
    assert book.is_valid and sides(book) == folded(updates("coinbase", stem))
    assert book.exchange_time == updates("coinbase", stem)[-1].exchange_time


def test_F2_a_repeated_change_does_no_harm_and_a_lost_one_cannot_be_proved() -> None:
    whole, *changes = updates("coinbase", "book_sequence_1")
    book = COINBASE.book()
    COINBASE.apply(book, whole)
    for update in changes:
        COINBASE.apply(book, update)
        COINBASE.apply(book, update)
    assert sides(book) == folded([whole, *changes])
    book = COINBASE.book()
    for update in (whole, *changes[1:]):
        assert COINBASE.apply(book, update) is Applied.APPLIED
    assert sides(book) == folded([whole, *changes[1:]]) != folded([whole, *changes])


def test_changes_before_the_whole_book_wait_and_are_forgotten() -> None:
    whole, *changes = updates("coinbase", "book_sequence_2")
    book = COINBASE.book()
    assert COINBASE.apply(book, changes[0]) is Applied.WAITING
    assert COINBASE.apply(book, whole) is Applied.APPLIED
    assert sides(book) == folded([whole])


def test_a_second_whole_book_replaces_the_first() -> None:
    whole, *changes = updates("coinbase", "book_sequence_1")
    book = COINBASE.book()
    for update in (whole, *changes[:50], whole):
        COINBASE.apply(book, update)
    assert sides(book) == folded([whole])


@pytest.mark.parametrize(
    "stem", ["ticker", "trade", "candle", "control", "error", "rest_ticker", "rest_orderbook", "rest_trades"]
)
def test_cut_messages_are_dead_letters_and_spoilt_ones_raise_nothing_else(stem: str) -> None:
    frame = frames("coinbase", stem)[0]
    for shorter in cut(frame):
        with pytest.raises(DecodeError):
            COINBASE.decode(shorter)
    for changed in spoilt(frame):
        try:
            COINBASE.decode(changed)
        except DecodeError:
            continue


def test_rest_frames_of_the_recordings_know_their_pair() -> None:
    assert {frame.pair for frame in frames("coinbase", "rest_trades")} == {Pair("BTC", "USDT"), BTC_EUR}
    assert all(frame.kind is Kind.REST for frame in frames("coinbase", "rest_trades"))
