"""Binance: facts of its documentation, its requests, its books bridged from a REST snapshot."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.collect.actions import Failed, Fetch, Lost, Restored, Rotate
from coin_platform.collect.session import Session
from coin_platform.commands.decode import BookReplay
from coin_platform.errors import DecodeError, SequenceGap, UnknownPair
from coin_platform.exchanges.binance import QUOTES, Binance
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Instant,
    Kind,
    Level,
    Notice,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Side,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import cut, events, frames, say, spoilt
from tests.kit.sequences import folded, sides, updates

BINANCE = Binance()
BTC_USDT, ETH_USDT, NKN_USDT = Pair("BTC", "USDT"), Pair("ETH", "USDT"), Pair("NKN", "USDT")
SEQUENCES = [f"book_sequence_{number}" for number in (1, 2, 3)]
REST = "https://data-api.binance.vision/api/v3"


def test_what_binance_is() -> None:
    assert (BINANCE.name, BINANCE.title, BINANCE.region, BINANCE.partition) == ("binance", "Binance", Region.NE, 0)
    assert (BINANCE.quote, BINANCE.proof) == ("USDT", Proof.SEQUENCE)
    assert (BINANCE.has_deltas, BINANCE.is_bridged, BINANCE.is_chained) == (True, True, False)
    assert BINANCE.channels == set(Channel) - {Channel.INSTRUMENT}
    assert BINANCE.socket_url(Channel.TICKER) == "wss://data-stream.binance.vision/stream"  # names streams
    assert BINANCE.ping is None  # the library answers protocol pings
    assert (BINANCE.silence_seconds, BINANCE.is_sparse) == (40, True)  # quiet books send nothing, but pongs come


def test_a_ticker_without_an_envelope() -> None:
    assert next(events("binance", "ticker")) == Ticker(
        pair=BTC_USDT,
        exchange_time=1_772_574_569_035_000,  # E, not C
        last="68004.12000000",  # c, not C
        open_24h="69442.01000000",  # o, not x: the last trade before the window
        high_24h="69506.94000000",
        low_24h="66158.00000000",  # l, not L
        change_24h="-1437.89000000",  # p, not P: per cent
        volume_24h="25691.57255000",
        quote_volume_24h="1742778450.16795780",  # q, not Q
        best_bid="68004.11000000",
        best_bid_size="0.25511000",
        best_ask="68004.12000000",
        best_ask_size="1.46494000",
    )


def test_a_ticker_of_a_pair_that_hardly_trades_has_prices_that_are_not_known() -> None:
    payload = frames("binance", "ticker")[0].payload
    for name, text in (("o", "69442.01000000"), ("b", "68004.11000000"), ("a", "68004.12000000")):
        full = f'"{name}": "{text}"'.encode()
        assert full in payload
        payload = payload.replace(full, f'"{name}":"0.00000000"'.encode())
    [ticker] = say("binance", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker)
    assert (ticker.open_24h, ticker.best_bid, ticker.best_ask) == (None, None, None)


def test_a_ticker_of_a_pair_that_never_traded_says_nothing() -> None:
    payload = frames("binance", "ticker")[0].payload.replace(b'"c": "68004.12000000"', b'"c":"0.00000000"')
    assert say("binance", Channel.TICKER, payload) == [Control(name="ticker without a price")]
    payload = frames("binance", "rest_ticker")[0].payload.replace(b"4.00000200", b"0.00000000")
    assert say("binance", Channel.TICKER, payload, BTC_USDT) == [Control(name="ticker without a price")]


def test_a_whole_book_of_the_socket_has_neither_pair_nor_time() -> None:
    payload = (
        b'{"stream":"nknusdt@depth20@100ms","data":{"lastUpdateId":499869768,'
        b'"bids":[["0.35210000","672.00000000"]],"asks":[["0.35260000","3199.00000000"]]}}'
    )
    [book] = say("binance", Channel.ORDERBOOK, payload)
    assert book == BookUpdate(
        pair=NKN_USDT,
        is_snapshot=True,
        bids=[Level(0.3521, 672.0)],
        asks=[Level(0.3526, 3199.0)],
        last_sequence=499_869_768,
        depth=20,
    )
    with pytest.raises(DecodeError):  # of `/ws`: nobody knows of what pair
        say("binance", Channel.ORDERBOOK, payload.partition(b'"data":')[2][:-1])


def test_the_taker_sold_when_the_buyer_waited() -> None:
    trades = list(events("binance", "trade"))
    assert trades[10] == Trade(
        pair=Pair("BNB", "BTC"),
        exchange_time=1_554_076_800_940_000,  # T, not E
        id="40756030",
        price=0.0042699,
        size=33.82,
        side=Side.BUY,
    )
    assert isinstance(trades[11], Trade) and (trades[11].id, trades[11].side) == ("60276726", Side.SELL)


def test_trades_that_were_added_up_have_a_number_of_their_own() -> None:
    assert list(events("binance", "trade"))[3] == Trade(
        pair=Pair("OMG", "BUSD"),
        exchange_time=1_633_998_289_097_000,
        id="425087",
        price=13.8004,
        size=30.11,
        side=Side.SELL,
    )


def test_candles_say_whether_they_are_closed() -> None:
    candles = list(events("binance", "candle"))
    assert candles[0] == Candle(
        pair=NKN_USDT,
        exchange_time=1_633_998_523_963_000,
        open_time=1_633_998_480_000_000,
        open=0.3527,
        high=0.3528,
        low=0.3522,
        close=0.3528,
        volume=25_877.0,  # v, not V: the takers' part
        quote_volume=9_116.046,
        is_closed=False,
    )
    assert isinstance(candles[5], Candle) and candles[5].is_closed is True
    other = frames("binance", "candle")[0].payload.replace(b'"1m"', b'"5m"')
    assert say("binance", Channel.CANDLE, other) == [Control(name="candle 5m")]


def test_an_answer_confirms_no_stream_for_those_that_do_not_exist_are_acknowledged_too() -> None:
    answers = list(events("binance", "control"))
    assert not [event for event in answers if not isinstance(event, Control | Notice)]
    assert answers[0] == Control(name="done")


def test_refusals_are_written_in_two_ways() -> None:
    nested, *_, flat = events("binance", "error")
    assert isinstance(nested, Refused) and nested.reason.startswith("2: Invalid request: unknown variant `FOO`")
    assert nested.request == 20
    assert flat == Refused(reason="-1121: Invalid symbol.", refusal=Refusal.FINAL)
    named = b'{"error":{"code":2,"msg":"no"},"id":"a1"}'
    assert say("binance", Channel.TICKER, named) == [Refused(reason="2: no")]  # an id that is not ours


def test_an_event_that_is_not_known_is_a_dead_letter() -> None:
    payload = frames("binance", "ticker")[0].payload.replace(b"24hrTicker", b"outboundAccountPosition")
    with pytest.raises(DecodeError, match="outboundAccountPosition"):
        say("binance", Channel.TICKER, payload)


def test_rest_tickers_come_alone_or_many_at_once() -> None:
    alone, many = (BINANCE.decode(frames("binance", "rest_ticker")[index]) for index in (4, 7))
    assert [event.pair for event in alone if isinstance(event, Ticker)] == [Pair("ETH", "BTC")]
    assert [event.pair for event in many if isinstance(event, Ticker)] == [BTC_USDT, ETH_USDT]


@pytest.mark.parametrize("stem", ["rest_orderbook", "rest_trades", "rest_candle"])
def test_a_rest_answer_that_does_not_name_its_pair_needs_it(stem: str) -> None:
    frame = msgspec.structs.replace(frames("binance", stem)[0], pair=None)
    with pytest.raises(DecodeError, match="needs its pair"):
        BINANCE.decode(frame)


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel.TICKER, "ticker"),
        (Channel.ORDERBOOK, "depth@100ms"),
        (Channel.TRADE, "trade"),
        (Channel.CANDLE, "kline_1m"),
    ],
)
def test_streams_are_asked_for_in_lower_case(channel: Channel, name: str) -> None:
    [request] = BINANCE.subscribe(channel, [BTC_USDT, ETH_USDT], id=7, time=0)
    assert request.payload == f'{{"method":"SUBSCRIBE","params":["btcusdt@{name}","ethusdt@{name}"],"id":7}}'
    assert (request.pairs, request.id) == ((BTC_USDT, ETH_USDT), 7)
    [request] = BINANCE.unsubscribe(channel, [BTC_USDT], id=8, time=0)
    assert request.payload == f'{{"method":"UNSUBSCRIBE","params":["btcusdt@{name}"],"id":8}}'


def test_many_pairs_are_asked_for_in_numbered_requests() -> None:
    pairs = [Pair(f"A{number}", "USDT") for number in range(51)]
    first, second = BINANCE.subscribe(Channel.TICKER, pairs, id=1, time=0)
    assert (len(first.pairs), first.id, second.pairs, second.id) == (50, 1, (Pair("A50", "USDT"),), 2)


def test_addresses() -> None:
    assert {channel: BINANCE.request_url(channel, BTC_USDT) for channel in Channel} == {
        Channel.TICKER: f"{REST}/ticker/24hr?symbol=BTCUSDT",
        Channel.ORDERBOOK: f"{REST}/depth?symbol=BTCUSDT&limit=1000",
        Channel.TRADE: f"{REST}/trades?symbol=BTCUSDT&limit=1000",
        Channel.CANDLE: f"{REST}/klines?symbol=BTCUSDT&interval=1m&limit=1000",
        Channel.INSTRUMENT: BINANCE.markets_url(),
    }
    assert BINANCE.markets_url() == f"{REST}/exchangeInfo?showPermissionSets=false"


def test_markets_that_cannot_be_traded_or_read_back_are_left_out() -> None:
    recorded = frames("binance", "markets")[0].payload
    markets = [Pair("ETH", "BTC"), BTC_USDT, ETH_USDT, Pair("LRC", "BTC")]
    assert traded_pairs(BINANCE, recorded) == markets  # without two that are in a BREAK
    no_spot = recorded.replace(b'"isSpotTradingAllowed": true', b'"isSpotTradingAllowed": false', 1)
    assert traded_pairs(BINANCE, no_spot) == markets[1:]
    new_quote = recorded.replace(b'"quoteAsset": "BTC"', b'"quoteAsset": "NEWUSD"', 1)
    assert traded_pairs(BINANCE, new_quote) == markets[1:]


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", BTC_USDT),
        ("USDTTRY", Pair("USDT", "TRY")),
        ("FDUSDUSDT", Pair("FDUSD", "USDT")),
        ("BTCU", Pair("BTC", "U")),
        ("EURIEUR", Pair("EURI", "EUR")),
        ("币安人生USDT", Pair("币安人生", "USDT")),
    ],
)
def test_symbols_read_both_ways(symbol: str, pair: Pair) -> None:
    assert (BINANCE.pair(symbol), BINANCE.symbol(pair)) == (pair, symbol)


def test_symbols_can_be_cut_in_one_way_only() -> None:
    assert [
        (quote, other_quote)
        for quote in QUOTES
        for other_quote in QUOTES
        if quote != other_quote and quote.endswith(other_quote)
    ] == []


@pytest.mark.parametrize("symbol", ["BTCXYZ", "USDT", "BTC-USDT", "btcusdt", ""])
def test_what_is_no_symbol_is_a_dead_letter(symbol: str) -> None:
    with pytest.raises(UnknownPair):
        BINANCE.pair(symbol)
    payload = frames("binance", "ticker")[0].payload.replace(b'"BTCUSDT"', f'"{symbol}"'.encode())
    with pytest.raises(DecodeError):
        say("binance", Channel.TICKER, payload)


@pytest.mark.parametrize("stem", SEQUENCES)
def test_F1_recorded_books_become_what_the_last_size_of_every_price_says(stem: str) -> None:
    replay = BookReplay(BINANCE)
    book = BINANCE.book()
    for frame in frames("binance", stem):
        replay.feed(frame)
    for update in updates("binance", stem):
        BINANCE.apply(book, update)
        assert not book.is_crossed
    result = replay.result()
    assert (result["gaps"], result["crossed"]) == (0, 0)
    assert book.is_valid and sides(book) == folded(updates("binance", stem))
    assert book.sequence == updates("binance", stem)[-1].last_sequence


@pytest.mark.parametrize("stem", SEQUENCES)
def test_F1_a_lost_message_is_found_at_the_next_one(stem: str) -> None:
    early, whole, *changes = updates("binance", stem)
    known = whole.last_sequence or 0
    first = next(index for index, change in enumerate(changes) if (change.last_sequence or 0) > known)
    for lost in range(first, len(changes) - 1, 7):
        book = BINANCE.book()
        for update in (early, whole, *changes[:lost]):
            BINANCE.apply(book, update)
        with pytest.raises(SequenceGap):
            BINANCE.apply(book, changes[lost + 1])
        assert not book.is_valid


def test_F2_a_repeated_message_changes_nothing_and_a_swapped_one_is_a_gap() -> None:
    early, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    BINANCE.apply(book, early)
    BINANCE.apply(book, whole)
    for update in changes:
        assert BINANCE.apply(book, update) is Applied.APPLIED
        assert BINANCE.apply(book, update) is Applied.IGNORED
    assert sides(book) == folded([early, whole, *changes])
    book = BINANCE.book()
    BINANCE.apply(book, whole)
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, changes[1])


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_whole_book_fits_in_wherever_it_comes(count: int) -> None:
    early, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in (early, *changes[:count]):
        assert BINANCE.apply(book, update) is Applied.WAITING
    for update in (whole, *changes[count:20]):
        assert BINANCE.apply(book, update) is Applied.APPLIED
    assert sides(book) == folded([early, whole, *changes[:20]])
    assert book.sequence == changes[19].last_sequence


def test_a_first_change_that_reaches_into_the_whole_book_is_applied() -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    assert (whole.last_sequence, changes[0].first_sequence) == (499_869_752, 499_869_753)
    straddling = msgspec.structs.replace(changes[0], first_sequence=499_869_750)
    book = BINANCE.book()
    assert BINANCE.apply(book, straddling) is Applied.WAITING
    assert BINANCE.apply(book, whole) is Applied.APPLIED
    assert book.sequence == changes[0].last_sequence
    assert sides(book) == folded([whole, changes[0]])


def test_a_whole_book_that_is_older_than_what_waits_is_a_gap() -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    BINANCE.apply(book, changes[1])
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, whole)
    assert not book.is_valid


def test_a_newer_whole_book_fits_in_before_all_that_waited_for_the_older_one() -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in changes[1:5]:
        BINANCE.apply(book, update)
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, whole)
    assert BINANCE.apply(book, changes[5]) is Applied.WAITING
    newer = msgspec.structs.replace(whole, last_sequence=changes[0].last_sequence)
    assert BINANCE.apply(book, newer) is Applied.APPLIED
    assert book.sequence == changes[5].last_sequence
    assert sides(book) == folded([newer, *changes[1:6]])


@pytest.mark.parametrize("number", [499_869_757, 499_869_758, 499_869_760])
def test_F1_the_change_that_reveals_a_gap_waits_for_the_whole_book_which_may_end_within_it(number: int) -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in (whole, changes[0]):
        BINANCE.apply(book, update)
    revealing = msgspec.structs.replace(changes[2], first_sequence=499_869_758, last_sequence=499_869_760)
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, revealing)
    newer = msgspec.structs.replace(whole, last_sequence=number)
    assert BINANCE.apply(book, newer) is Applied.APPLIED
    following = msgspec.structs.replace(changes[3], first_sequence=499_869_761, last_sequence=499_869_765)
    assert BINANCE.apply(book, following) is Applied.APPLIED
    assert sides(book) == folded([newer, revealing, following])


def test_a_whole_book_that_was_overtaken_is_ignored() -> None:
    history = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in history:
        BINANCE.apply(book, update)
    assert BINANCE.apply(book, history[1]) is Applied.IGNORED
    assert sides(book) == folded(history)


def test_F1_the_first_change_fetches_the_book_and_a_gap_fetches_it_again() -> None:
    early, whole, *changes = frames("binance", "book_sequence_1")
    session, url = Session(BINANCE, Channel.ORDERBOOK, [NKN_USDT]), f"{REST}/depth?symbol=NKNUSDT&limit=1000"
    session.opened(Instant(0, 0))
    assert session.received(early, Instant(0, 1)) == [Fetch(NKN_USDT, url)]
    assert session.received(whole, Instant(0, 2)) == []
    assert session.invalid == frozenset()
    assert session.received(changes[0], Instant(0, 3)) == []
    lost, fetch = session.received(changes[2], Instant(0, 20))  # the one before is missing
    assert isinstance(lost, Lost) and fetch == Fetch(NKN_USDT, url)
    later = msgspec.json.decode(whole.payload) | {"lastUpdateId": 499_869_757}
    assert list(
        session.received(msgspec.structs.replace(whole, payload=msgspec.json.encode(later)), Instant(0, 21))
    ) == [Restored(NKN_USDT)]


def test_a_stream_that_is_acknowledged_and_stays_silent_is_refused() -> None:
    session = Session(BINANCE, Channel.TICKER, [BTC_USDT, Pair("NOPE", "USDT")])
    session.opened(Instant(0, 0))
    acknowledged, ticker = frames("binance", "control")[0], frames("binance", "ticker")[0]
    assert [*session.received(acknowledged, Instant(0, 1)), *session.received(ticker, Instant(0, 2))] == []
    [failed] = session.tick(Instant(0, 11))
    assert isinstance(failed, Failed) and failed.pair == Pair("NOPE", "USDT")


def test_a_shutdown_that_is_announced_calls_for_a_successor() -> None:
    session = Session(BINANCE, Channel.TICKER, [BTC_USDT])
    assert session.received(frames("binance", "control")[3], Instant(0, 1)) == [Rotate("serverShutdown")]


@pytest.mark.parametrize(
    "stem", ["ticker", "trade", "candle", "control", "error", "orderbook", "rest_ticker", "rest_orderbook"]
)
def test_cut_messages_are_dead_letters_and_spoilt_ones_raise_nothing_else(stem: str) -> None:
    frame = frames("binance", stem)[0]
    for shorter in cut(frame):
        with pytest.raises(DecodeError):
            BINANCE.decode(shorter)
    for changed in spoilt(frame):
        try:
            BINANCE.decode(changed)
        except DecodeError:
            continue


def test_rest_frames_of_the_recordings_know_their_pair() -> None:
    assert {frame.pair for frame in frames("binance", "rest_orderbook")} == {BTC_USDT}
    assert all(frame.kind is Kind.REST for frame in frames("binance", "rest_orderbook"))
