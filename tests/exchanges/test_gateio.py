"""Gate.io: recorded messages and every value they hold, checked by hand; its numbered books."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.commands.decode import BookReplay
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.gateio import Gateio
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
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
from tests.kit.recordings import cut, events, frames, say, spoilt
from tests.kit.sequences import folded, sides, updates

GATEIO = Gateio()
BTC_USDT, ETH_USDT = Pair("BTC", "USDT"), Pair("ETH", "USDT")
NOW = 1_611_541_000_999_999
BRIDGED = [f"book_sequence_{number}" for number in range(1, 5)]
WHOLE = "book_sequence_5"


def test_what_gateio_is() -> None:
    assert (GATEIO.name, GATEIO.title, GATEIO.region, GATEIO.partition) == ("gateio", "Gateio", Region.ASIA, 2)
    assert (GATEIO.quote, GATEIO.proof, GATEIO.has_deltas) == ("USDT", Proof.SEQUENCE, True)
    assert GATEIO.channels == set(Channel)
    assert GATEIO.socket_url(Channel.TRADE) == "wss://api.gateio.ws/ws/v4/"
    assert GATEIO.ping == '{"channel":"spot.ping"}' and GATEIO.ping_every <= 15
    assert not GATEIO.is_bridged  # a lost book is asked for again over the socket


def test_a_ticker_has_a_rate_in_percent_and_no_opening_price() -> None:
    assert next(events("gateio", "ticker")) == Ticker(
        pair=BTC_USDT,
        exchange_time=1_786_539_989_549_000,
        last="64043.9",
        high_24h="64473.5",
        low_24h="63234.7",
        change_rate_24h="-0.004034",
        volume_24h="5291.366688",
        quote_volume_24h="337744396.9986996",
        best_bid="64043.8",
        best_ask="64043.9",
    )


def test_a_ticker_of_2021_is_timed_in_seconds() -> None:
    ticker = list(events("gateio", "ticker"))[5]
    assert isinstance(ticker, Ticker)
    assert (ticker.pair, ticker.exchange_time) == (Pair("NEO", "BTC"), 1_619_093_533_000_000)
    assert (ticker.last, ticker.change_rate_24h) == ("0.0018716", "0.029256")


@pytest.mark.parametrize(
    ("percent", "rate"),
    [("-0.4034", "-0.004034"), ("0", "0.00"), ("-100", "-1.00"), ("5.85", "0.0585"), ("0.0000001", "0.000000001")],
)
def test_a_percentage_becomes_a_fraction_digit_by_digit(percent: str, rate: str) -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b"-0.4034", percent.encode())
    [ticker] = say("gateio", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and ticker.change_rate_24h == rate


def test_what_a_ticker_leaves_empty_is_not_known() -> None:
    payload = frames("gateio", "ticker")[0].payload
    for full in (b'"lowest_ask":"64043.9"', b'"highest_bid":"64043.8"', b'"change_percentage":"-0.4034"'):
        assert full in payload
        payload = payload.replace(full, full.partition(b":")[0] + b':""')
    [ticker] = say("gateio", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker)
    assert (ticker.best_ask, ticker.best_bid, ticker.change_rate_24h) == (None, None, None)


def test_a_percentage_that_is_no_plain_number_is_a_dead_letter() -> None:
    for bad in (b"NaN", b"1e999999", b"1_0", b"-"):
        with pytest.raises(DecodeError):
            say("gateio", Channel.TICKER, frames("gateio", "ticker")[0].payload.replace(b"-0.4034", bad))


def test_a_ticker_of_a_pair_that_never_traded_says_nothing() -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b'"last":"64043.9"', b'"last":"0"')
    assert say("gateio", Channel.TICKER, payload) == [Control(name="ticker without a price")]


def test_a_whole_book_of_the_socket_names_its_depth() -> None:
    assert updates("gateio", "orderbook")[0] == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_754_006_400_261_000,
        is_snapshot=True,
        bids=[Level(115_765.1, 0.337839), Level(115_764.2, 0.005), Level(115_763.3, 0.004365)],
        asks=[Level(115_765.2, 0.631155), Level(115_765.9, 0.001534), Level(115_769.4, 0.005014)],
        last_sequence=25_847_113_075,
        depth=400,
    )


def test_changes_leave_out_a_side_that_has_none_and_come_after_the_answer() -> None:
    whole, answer, change = events("gateio", WHOLE)
    assert isinstance(whole, BookUpdate)
    assert (whole.is_snapshot, whole.last_sequence, whole.depth) == (True, 39_106_162_812, 50)
    assert answer == Subscribed(request=1)
    assert change == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_786_541_318_151_000,
        is_snapshot=False,
        bids=[Level(63_915.2, 0.022796)],
        asks=[],
        first_sequence=39_106_162_813,
        last_sequence=39_106_162_816,
    )


def test_the_older_book_channels() -> None:
    found = updates("gateio", "orderbook")
    assert found[4] == BookUpdate(
        pair=Pair("SAND", "USD"),
        exchange_time=1_790_133_869_806_000,
        is_snapshot=False,
        bids=[],
        asks=[Level(0.04446, 0.0)],
        first_sequence=2_448_207,
        last_sequence=2_448_207,
    )
    assert found[5] == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_606_294_781_123_000,
        is_snapshot=True,  # "full":true
        bids=[Level(19_137.74, 0.0001), Level(19_088.37, 0.0)],
        asks=[Level(19_137.75, 0.6135)],
        last_sequence=48_776_306,
        depth=100,
    )
    whole = found[6]
    assert (whole.is_snapshot, whole.exchange_time) == (True, 1_606_295_412_123_000)
    assert (whole.last_sequence, whole.depth) == (48_791_820, 5)
    assert whole.bids[0] == Level(19_079.55, 0.0195) and whole.asks[-1] == Level(19_083.8, 0.097)


def test_prices_that_bear_the_letters_of_a_book_are_no_book() -> None:
    assert [event for event in events("gateio", "orderbook") if isinstance(event, Control)] == [
        Control(name="spot.book_ticker")
    ] * 3


def test_changes_without_a_first_number_are_a_dead_letter() -> None:
    payload = frames("gateio", WHOLE)[2].payload.replace(b'"U":39106162813,', b"")
    with pytest.raises(DecodeError, match="U is missing"):
        say("gateio", Channel.ORDERBOOK, payload)


def test_trades_are_timed_in_fractions_of_milliseconds() -> None:
    trades = list(events("gateio", "trade"))
    assert trades[0] == Trade(
        pair=BTC_USDT,
        exchange_time=1_786_539_952_742_901,
        id="214976613",
        price=64_028.2,
        size=0.0803,
        side=Side.BUY,
    )
    assert trades[3] == Trade(
        pair=Pair("DIS", "USDT"),
        exchange_time=1_619_093_543_708_264,
        id="816995772",
        price=121.58,
        size=0.201,
        side=Side.SELL,
    )


def test_the_volume_of_a_candle_is_under_a_and_v_is_the_quote_volume() -> None:
    candles = list(events("gateio", "candle"))
    assert candles[0] == Candle(
        pair=BTC_USDT,
        exchange_time=1_786_539_971_596_000,
        open_time=1_786_539_960_000_000,
        open=64_035.1,
        high=64_044.0,
        low=64_026.5,
        close=64_044.0,
        volume=1.888203,
        quote_volume=120_920.0651408,
        is_closed=False,
    )
    assert isinstance(candles[1], Candle) and candles[1].is_closed is None  # not said in 2022
    assert candles[3] == Control(name="candle 1m_DIS_USDT")  # no base volume in 2021
    other = frames("gateio", "candle")[0].payload.replace(b"1m_BTC", b"5m_BTC")
    assert say("gateio", Channel.CANDLE, other) == [Control(name="candle 5m_BTC_USDT")]


def test_answers_name_the_request_they_are_for() -> None:
    assert list(events("gateio", "control")) == [
        Subscribed(request=1),
        Subscribed(request=1),
        Subscribed(),
        Subscribed(request=8_578_128_440_611_119_318),
        Control(name="unsubscribe"),
        Control(name="spot.pong"),
        Control(name="unsubscribe"),
        Subscribed(),
    ]


def test_refusals_name_the_pair_where_the_reason_does() -> None:
    assert list(events("gateio", "error")) == [
        Refused(reason="2: Alert sub ob.BTC_USDT.400", pair=BTC_USDT, request=1),
        Refused(reason="2: Unknown channel spot.obu"),
        Refused(reason="2: unknown currency pair: NOPE_XXX", pair=Pair("NOPE", "XXX"), refusal=Refusal.FINAL),
        Refused(
            reason="INVALID_CURRENCY_PAIR: Invalid currency pair BTC_USDTT",
            pair=Pair("BTC", "USDTT"),
            refusal=Refusal.FINAL,
        ),
        Refused(reason="INVALID_CURRENCY: Invalid currency", refusal=Refusal.FINAL),
    ]


def test_a_reason_that_contains_the_name_of_another_pair_does_not_name_it() -> None:
    payload = (
        b'{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","WBTC_USDT"],'
        b'"error":{"code":2,"message":"unknown currency pair: WBTC_USDT"},"result":{"status":"fail"}}'
    )
    reason = "2: unknown currency pair: WBTC_USDT"
    assert say("gateio", Channel.TICKER, payload) == [
        Refused(reason=reason, pair=Pair("WBTC", "USDT"), request=3, refusal=Refusal.FINAL)
    ]


@pytest.mark.parametrize("rest", [b'"result":{"status":"fail"}', b'"payload":null,"error":null,"result":null'])
def test_what_is_not_called_a_success_is_refused(rest: bytes) -> None:
    payload = b'{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe",' + rest + b"}"
    assert say("gateio", Channel.TICKER, payload) == [Refused(reason="0: no success", request=3)]


def test_a_refused_unsubscription_refuses_no_pair() -> None:
    payload = frames("gateio", "error")[0].payload.replace(b'"event":"subscribe"', b'"event":"unsubscribe"')
    assert say("gateio", Channel.ORDERBOOK, payload) == [Control(name="unsubscribe")]


def test_a_channel_that_is_not_known_is_a_dead_letter() -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b"spot.tickers", b"spot.balances")
    with pytest.raises(DecodeError, match=r"spot\.balances"):
        say("gateio", Channel.TICKER, payload)


def test_a_rest_ticker_is_a_list_without_a_time() -> None:
    found = list(events("gateio", "rest_ticker"))
    assert found[0] == Ticker(
        pair=BTC_USDT,
        last="84053.3",
        high_24h="84938.1",
        low_24h="82888",
        change_rate_24h="-0.0057",
        volume_24h="6330.010284",
        quote_volume_24h="532061973.7836039",
        best_bid="84049.9",
        best_bid_size="2.306681",
        best_ask="84050",
        best_ask_size="2.192231",
    )
    assert isinstance(found[2], Ticker)
    assert (found[2].pair, found[2].best_bid_size, found[2].best_ask_size) == (ETH_USDT, None, None)


def test_a_rest_book_is_of_the_time_of_its_last_change() -> None:
    book, old = updates("gateio", "rest_orderbook")
    assert book == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_759_104_757_919_000,
        is_snapshot=True,
        bids=[
            Level(112_095.8, 2.255276),
            Level(112_095.7, 1.490851),
            Level(112_095.0, 0.0439),
            Level(112_094.2, 0.08921),
            Level(112_092.3, 1.186865),
        ],
        asks=[
            Level(112_095.9, 0.509926),
            Level(112_096.0, 0.0439),
            Level(112_097.0, 0.0439),
            Level(112_097.9, 0.044111),
            Level(112_098.0, 0.0439),
        ],
        last_sequence=27_596_272_445,
    )
    assert (old.pair, old.exchange_time, old.last_sequence) == (Pair("HAI", "ETH"), None, 2_691_446)
    answered = frames("gateio", "rest_orderbook")[0].payload.replace(b',"update":1759104757919', b"")
    [timed] = say("gateio", Channel.ORDERBOOK, answered, BTC_USDT)
    assert isinstance(timed, BookUpdate) and timed.exchange_time == 1_759_104_757_920_000


def test_trades_over_rest_write_numbers_as_text() -> None:
    payload = (
        b'[{"id":"1232893232","create_time":"1548000000","create_time_ms":"1548000000123.456",'
        b'"currency_pair":"BTC_USDT","side":"sell","amount":"0.15","price":"0.03","sequence_id":"588018"}]'
    )
    [trade] = say("gateio", Channel.TRADE, payload, BTC_USDT)
    assert trade == Trade(
        pair=BTC_USDT, exchange_time=1_548_000_000_123_456, id="1232893232", price=0.03, size=0.15, side=Side.SELL
    )


def test_candles_over_rest_close_before_they_open() -> None:
    payload = b'[["1539852480","971519.677","0.0021724","0.0021922","0.0021711","0.0021923","447513890","true"]]'
    [candle] = say("gateio", Channel.CANDLE, payload, BTC_USDT)
    assert candle == Candle(
        pair=BTC_USDT,
        open_time=1_539_852_480_000_000,
        open=0.0021923,
        high=0.0021922,
        low=0.0021711,
        close=0.0021724,
        volume=447_513_890.0,
        quote_volume=971_519.677,
        is_closed=True,
    )


def test_a_rest_answer_that_does_not_name_its_pair_needs_it() -> None:
    frame = msgspec.structs.replace(frames("gateio", "rest_orderbook")[0], pair=None)
    with pytest.raises(DecodeError, match="needs its pair"):
        GATEIO.decode(frame)


@pytest.mark.parametrize(
    ("channel", "rest"),
    [
        (Channel.TICKER, '"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","ETH_USDT"]}'),
        (Channel.TRADE, '"channel":"spot.trades","event":"subscribe","payload":["BTC_USDT","ETH_USDT"]}'),
        (
            Channel.ORDERBOOK,
            '"channel":"spot.obu","event":"subscribe","payload":["ob.BTC_USDT.400","ob.ETH_USDT.400"]}',
        ),
    ],
)
def test_several_pairs_are_asked_for_at_once_with_the_time_in_seconds(channel: Channel, rest: str) -> None:
    [request] = GATEIO.subscribe(channel, [BTC_USDT, ETH_USDT], id=7, time=NOW)
    assert request.payload == '{"time":1611541000,"id":7,' + rest
    assert (request.pairs, request.id) == ((BTC_USDT, ETH_USDT), 7)


def test_candles_are_asked_for_one_pair_at_a_time() -> None:
    first, second = GATEIO.subscribe(Channel.CANDLE, [BTC_USDT, ETH_USDT], id=7, time=NOW)
    assert first.payload == (
        '{"time":1611541000,"id":7,"channel":"spot.candlesticks","event":"subscribe","payload":["1m","BTC_USDT"]}'
    )
    assert (first.pairs, first.id, second.pairs, second.id) == ((BTC_USDT,), 7, (ETH_USDT,), 8)


def test_pairs_are_given_up_in_the_same_words() -> None:
    [request] = GATEIO.unsubscribe(Channel.ORDERBOOK, [BTC_USDT], id=8, time=NOW)
    assert request.payload == (
        '{"time":1611541000,"id":8,"channel":"spot.obu","event":"unsubscribe","payload":["ob.BTC_USDT.400"]}'
    )


def test_addresses() -> None:
    base = "https://api.gateio.ws/api/v4/spot"
    assert {channel: GATEIO.request_url(channel, BTC_USDT) for channel in Channel} == {
        Channel.TICKER: f"{base}/tickers?currency_pair=BTC_USDT",
        Channel.ORDERBOOK: f"{base}/order_book?currency_pair=BTC_USDT&limit=100&with_id=true",
        Channel.TRADE: f"{base}/trades?currency_pair=BTC_USDT&limit=1000",
        Channel.CANDLE: f"{base}/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=1000",
    }
    assert GATEIO.markets_url() == f"{base}/currency_pairs"


def test_markets_that_cannot_be_traded_are_left_out() -> None:
    several, one = frames("gateio", "markets")
    assert GATEIO.read_markets(several.payload) == [
        Pair("IHT", "ETH"),
        Pair("AME", "ETH"),
        Pair("ALEPH", "USDT"),
        Pair("OGN", "USDT"),
    ]
    assert GATEIO.read_markets(one.payload) == [ETH_USDT]


def test_symbols_read_both_ways() -> None:
    assert GATEIO.symbol(BTC_USDT) == "BTC_USDT"
    assert GATEIO.pair("BTC_USDT") == BTC_USDT
    assert GATEIO.pair("BTC3L_USDT") == Pair("BTC3L", "USDT")


@pytest.mark.parametrize("symbol", ["BTC-USDT", "BTCUSDT", "1m_BTC_USDT", "_USDT", ""])
def test_what_is_no_symbol_is_a_dead_letter(symbol: str) -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b'"BTC_USDT"', f'"{symbol}"'.encode())
    with pytest.raises(DecodeError):
        say("gateio", Channel.TICKER, payload)


@pytest.mark.parametrize("stem", [*BRIDGED, WHOLE])
def test_F1_recorded_books_become_what_the_last_size_of_every_price_says(stem: str) -> None:
    replay = BookReplay(GATEIO)
    book = GATEIO.book()
    for frame in frames("gateio", stem):
        replay.feed(frame)
    for update in updates("gateio", stem):
        GATEIO.apply(book, update)
        assert not book.is_crossed
    result = replay.result()
    assert (result["gaps"], result["crossed"]) == (0, 0)
    assert book.is_valid and sides(book) == folded(updates("gateio", stem))
    assert book.sequence == updates("gateio", stem)[-1].last_sequence


def test_F1_a_lost_message_is_found_at_the_next_one() -> None:
    for stem in BRIDGED:
        early, whole, *changes = updates("gateio", stem)
        for lost in range(len(changes) - 1):
            if (changes[lost].last_sequence or 0) <= (whole.last_sequence or 0):
                continue  # the whole book holds it
            book = GATEIO.book()
            for update in (early, whole, *changes[:lost]):
                GATEIO.apply(book, update)
            with pytest.raises(SequenceGap):
                GATEIO.apply(book, changes[lost + 1])
            assert not book.is_valid


def test_F2_a_repeated_message_changes_nothing_and_a_swapped_one_is_a_gap() -> None:
    early, whole, *changes = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    GATEIO.apply(book, early)
    GATEIO.apply(book, whole)
    for update in changes:
        assert GATEIO.apply(book, update) is Applied.APPLIED
        assert GATEIO.apply(book, update) is Applied.IGNORED
    assert sides(book) == folded([early, whole, *changes])
    book = GATEIO.book()
    GATEIO.apply(book, whole)
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, changes[1])


def test_a_first_change_that_reaches_into_the_whole_book_is_applied() -> None:
    _, whole, *changes = updates("gateio", "book_sequence_1")
    assert whole.last_sequence == 59_231_869
    straddling = msgspec.structs.replace(changes[0], first_sequence=59_231_860)
    book = GATEIO.book()
    assert GATEIO.apply(book, straddling) is Applied.WAITING
    assert GATEIO.apply(book, whole) is Applied.APPLIED
    assert book.sequence == changes[0].last_sequence
    assert sides(book) == folded([whole, changes[0]])


def test_a_whole_book_that_is_older_than_what_waits_is_a_gap() -> None:
    _, whole, *changes = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    GATEIO.apply(book, changes[1])
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, whole)
    assert not book.is_valid


def test_a_rest_answer_that_was_overtaken_is_ignored() -> None:
    early, whole, *changes = history = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    for update in history:
        GATEIO.apply(book, update)
    assert GATEIO.apply(book, whole) is Applied.IGNORED
    assert book.sequence == changes[-1].last_sequence
    assert sides(book) == folded([early, whole, *changes])


def test_a_whole_book_of_the_socket_counts_whatever_its_number() -> None:
    whole, change = updates("gateio", WHOLE)
    book = GATEIO.book()
    GATEIO.apply(book, whole)
    GATEIO.apply(book, change)
    restarted = msgspec.structs.replace(whole, last_sequence=5)
    assert GATEIO.apply(book, restarted) is Applied.APPLIED
    assert (book.sequence, sides(book)) == (5, folded([whole]))
    assert GATEIO.apply(book, msgspec.structs.replace(change, first_sequence=6, last_sequence=6)) is Applied.APPLIED
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, change)


def test_changes_before_the_whole_book_of_the_socket_are_forgotten() -> None:
    whole, change = updates("gateio", WHOLE)
    book = GATEIO.book()
    assert GATEIO.apply(book, change) is Applied.WAITING
    assert GATEIO.apply(book, whole) is Applied.APPLIED
    assert (book.sequence, sides(book)) == (whole.last_sequence, folded([whole]))


@pytest.mark.parametrize("stem", ["ticker", "trade", "candle", "control", "error", "rest_ticker", "rest_orderbook"])
def test_cut_messages_are_dead_letters_and_spoilt_ones_raise_nothing_else(stem: str) -> None:
    frame = frames("gateio", stem)[0]
    for shorter in cut(frame):
        with pytest.raises(DecodeError):
            GATEIO.decode(shorter)
    for changed in spoilt(frame):
        try:
            GATEIO.decode(changed)
        except DecodeError:
            continue


def test_rest_frames_of_the_recordings_know_their_pair() -> None:
    assert {frame.pair for frame in frames("gateio", "rest_orderbook")} == {BTC_USDT, Pair("HAI", "ETH")}
    assert all(frame.kind is Kind.REST for frame in frames("gateio", "rest_orderbook"))
