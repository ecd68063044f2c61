"""The tables of a window, made with a log and a lake in memory."""

from datetime import timedelta
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.errors import LakeError, RetentionLoss, WindowOpen
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Event, Frame, Kind, Pair, Window
from coin_platform.orchestration import log_clock
from coin_platform.orchestration.assets import key, tables
from coin_platform.orchestration.materialise import materialise_dead, materialise_raw
from coin_platform.orchestration.partitions import key_of, window_of, windows
from coin_platform.records import Checkpoint, Facts, Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from tests.kit.dagster import GivenLake, GivenTopics
from tests.kit.log_and_lake import FIRST, MINUTE, SECOND, SETTINGS, START
from tests.kit.memory_platform import MemoryPlatform, source
from tests.kit.recordings import frames

HOUR = 60 * MINUTE


@pytest.fixture
def platform() -> MemoryPlatform:
    """Give a fresh log and lake."""
    return MemoryPlatform()


def test_a_window_becomes_tables_whose_checks_pass(platform: MemoryPlatform) -> None:
    books = platform.append(source("kraken", Channel.ORDERBOOK), "book_sequence_2")
    for channel in (Channel.TICKER, Channel.TRADE, Channel.CANDLE, Channel.INSTRUMENT):
        platform.append(source("kraken", channel), channel.value)
    result = platform.materialise("kraken")
    assert result.success
    checks = {(c.asset_key.path[-1], c.check_name): c.passed for c in result.get_asset_check_evaluations()}
    assert checks == {
        ("raw_orderbook", "conservation"): True,
        ("raw_ticker", "conservation"): True,
        ("raw_trade", "conservation"): True,
        ("raw_candle", "conservation"): True,
        ("orderbook", "conservation"): True,
        ("orderbook", "schema"): True,
        ("orderbook", "crossed_book"): True,
        ("orderbook", "checkpoint"): True,
        ("gap", "no_gap"): True,
        ("ticker", "conservation"): True,
        ("ticker", "schema"): True,
        ("trade", "conservation"): True,
        ("trade", "schema"): True,
        ("trade", "one_row_a_trade"): True,
        ("candle", "conservation"): True,
        ("candle", "schema"): True,
        ("candle", "ohlc"): True,
        ("raw_instrument", "conservation"): True,
        ("instrument", "conservation"): True,
        ("instrument", "schema"): True,
        ("instrument", "listed"): True,
    }
    stored = platform.read("orderbook", "kraken")
    assert stored.height == 1129
    raw = platform.read("raw_orderbook", "kraken")
    assert raw.height == books
    trades, candles = (platform.read(table, "kraken", FIRST) for table in ("trade", "candle"))
    assert trades is not None and trades["id"].to_list() == ["109116693", "100320028", "64175815", "62886870"]
    assert candles is not None and (candles.height, candles["pair"].unique().to_list()) == (9, ["BTC-USDT"])


def test_S2_a_window_that_runs_again_is_left_as_it_is(platform: MemoryPlatform) -> None:
    platform.append(source("okx", Channel.TICKER), "ticker")
    platform.append(source("okx", Channel.ORDERBOOK), "book_sequence_1")
    first, again = platform.materialise("okx"), platform.materialise("okx")
    for table in ("raw_ticker", "ticker", "raw_orderbook", "orderbook", "dead"):
        [one], [two] = (
            r.asset_materializations_for_node("__".join(key(EXCHANGES["okx"], table))) for r in (first, again)
        )
        assert (one.metadata["changed"].value, two.metadata["changed"].value) == (True, False)
        assert one.metadata["generation"] == two.metadata["generation"]


def test_windows_tile_and_a_book_goes_on_where_the_window_before_ended(platform: MemoryPlatform) -> None:
    place = source("kraken", Channel.ORDERBOOK)
    platform.append(place, "book_sequence_2", middle=600)
    platform.append(source("kraken", Channel.TICKER), "ticker")
    assert platform.materialise("kraken").success and platform.materialise("kraken", SECOND).success
    one, two = (platform.read("orderbook", "kraken", window) for window in (FIRST, SECOND))
    assert one.height + two.height == 1129
    facts = [platform.lake.provenance("raw_orderbook", "kraken", window) or {} for window in (FIRST, SECOND)]
    assert facts[0]["stop_offset"] == facts[1]["start_offset"] == 599
    assert pl.concat([one, two])["offset"].n_unique() == 1129


@pytest.mark.parametrize("is_trimmed", [False, True])
def test_F1_a_book_goes_on_in_a_window_long_after_its_last_checkpoint_when_the_broker_was_away(
    platform: MemoryPlatform, is_trimmed: bool
) -> None:
    place = source("kraken", Channel.ORDERBOOK)
    later = Window(SECOND.stop + MINUTE, SECOND.stop + 2 * MINUTE)
    for number, frame in enumerate(frames("kraken", "book_sequence_2"), 1):
        if number == 600:
            platform.clock.time = later.start  # but received before
        platform.say(place, number, frame.payload, time=min(platform.clock.time, FIRST.stop - 1))
    for window in (FIRST, later):
        platform.raw(place, window)
    platform.rows(place)
    if is_trimmed:
        platform.broker.trim(place.topic, place.partition, 599)
    platform.rows(place, later)
    one, two = (platform.read("orderbook", "kraken", window) for window in (FIRST, later))
    assert one.height + two.height == 1129


def test_a_malformed_frame_is_a_dead_letter_and_the_rest_of_the_window_is_unharmed(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    good = platform.append(place, "ticker")
    platform.say(place, good + 1, b'{"type":"ticker"')
    assert platform.materialise("upbit").success
    dead = platform.read("dead", "upbit")
    assert dead.select("connection", "number", "error", "offset").rows() == [("c", good + 1, "DecodeError", good)]
    assert dead["payload"].to_list() == [b'{"type":"ticker"']
    rows = platform.read("ticker", "upbit")
    assert rows.height == good


def test_R1_a_malformed_frame_that_is_sent_again_in_the_next_window_is_dead_once(platform: MemoryPlatform) -> None:
    place, good = source("upbit", Channel.TICKER), frames("upbit", "ticker")[0].payload
    platform.say(place, 1, good)
    platform.clock.time = FIRST.stop - 2_000_000
    platform.say(place, 2, b"{half")
    platform.clock.time = SECOND.start
    for number, payload in ((2, b"{half"), (3, good), (4, b"{other")):
        platform.say(place, number, payload)
    for window, wanted in ((FIRST, [2]), (SECOND, [4])):
        assert platform.materialise("upbit", window).success
        dead = platform.read("dead", "upbit", window)
        assert dead is not None and dead["number"].to_list() == wanted
        assert (platform.lake.provenance("ticker", "upbit", window) or {})["frames_dead"] == dead.height
        kept = dead.to_dicts()[0]
        assert (kept["channel"], kept["error"], kept["topic"]) == ("ticker", "DecodeError", place.topic)


def test_R1_each_frame_of_a_window_is_decoded_once(platform: MemoryPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    kraken, count = EXCHANGES["kraken"], 0
    count += platform.append(source("kraken", Channel.ORDERBOOK), "book_sequence_2")
    for channel in (Channel.TICKER, Channel.TRADE, Channel.CANDLE):
        count += platform.append(source("kraken", channel), channel.value)
    platform.say(source("kraken", Channel.TICKER), 1000, b"{half")
    decode, decoded = kraken.decode, list[bytes]()

    def counted(frame: Frame) -> list[Event]:
        decoded.append(frame.payload)
        return decode(frame)

    monkeypatch.setattr(kraken, "decode", counted)
    assert platform.materialise("kraken").success
    assert len(decoded) == count + 1


def test_R1_the_dead_of_a_table_whose_footer_does_not_name_them_are_found_in_its_records(
    platform: MemoryPlatform,
) -> None:
    place = source("upbit", Channel.TICKER)
    platform.say(place, 1, b"{half")
    platform.raw(place)
    rows = platform.read("raw_ticker", "upbit")
    platform.lake.commit("ticker", "upbit", FIRST, rows.clear(), {"frames_dead": 1})
    materialise_dead(EXCHANGES["upbit"], [place], FIRST, platform.lake)
    dead = platform.read("dead", "upbit")
    assert dead["payload"].to_list() == [b"{half"]


def test_R1_dead_letters_need_the_table_that_found_them(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    platform.say(place, 1, b"{half")
    platform.raw(place)
    with pytest.raises(dg.Failure, match="ticker of upbit has no such window yet"):
        materialise_dead(EXCHANGES["upbit"], [place], FIRST, platform.lake)
    rows = platform.read("raw_ticker", "upbit")
    platform.lake.commit("ticker", "upbit", FIRST, rows.clear(), {"dead_found": [["DecodeError", "half", [7]]]})
    with pytest.raises(LakeError, match=r"raw_ticker of upbit has no offset 7, .* materialise ticker again"):
        materialise_dead(EXCHANGES["upbit"], [place], FIRST, platform.lake)


def test_a_crossed_book_fails_its_check_and_says_which_pair(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.ORDERBOOK)
    unit = b'{"ask_price":1.0,"bid_price":2.0,"ask_size":1.0,"bid_size":1.0}'
    payload = b'{"type":"orderbook","code":"KRW-BTC","timestamp":1777000000000,"orderbook_units":[%s]}' % unit
    platform.say(place, 1, payload)
    result = platform.materialise("upbit")
    [failed] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (failed.check_name, failed.description) == ("crossed_book", "1 rows are crossed: BTC-KRW")


def test_S6_frames_that_come_twice_are_declared_and_their_rows_stored_once(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    platform.append(place, "ticker")
    assert platform.materialise("upbit").success
    raw = platform.read("raw_ticker", "upbit")
    facts = {
        name: (platform.lake.provenance("raw_ticker", "upbit", FIRST) or {})[name]
        for name in ("start_offset", "stop_offset")
    }
    place_ = {"topic": place.topic, "partition": 0, **facts}
    platform.lake.commit("raw_ticker", "upbit", FIRST, pl.concat([raw, raw]), {**place_, "frames": 1})
    result = platform.rows(place)
    assert result.check_results is not None
    outcome = {check.check_name: check.passed for check in result.check_results}
    assert outcome["conservation"], "doubles of one identity are declared, not stored"
    kept = platform.read("ticker", "upbit")
    assert kept.height == raw.height


def candle(close: float) -> bytes:
    """Return an answer of Bithumb with one candle."""
    prices = b'"opening_price":1,"high_price":9,"low_price":1,"trade_price":%r' % close
    volumes = b'"candle_acc_trade_price":5,"candle_acc_trade_volume":2'
    rest = b'"market":"KRW-BTC","candle_date_time_utc":"2026-11-01T23:59:00","timestamp":1793577560000,"unit":1'
    return b"[{%s,%s,%s}]" % (rest, prices, volumes)


def test_a_minute_that_is_polled_in_two_windows_is_read_as_it_was_told_last(platform: MemoryPlatform) -> None:
    place = source("bithumb", Channel.CANDLE)
    for number, close in enumerate((2.0, 3.0, 4.0), 1):
        platform.clock.time = SECOND.start if number == 3 else platform.clock.time
        platform.answer(place, number, candle(close), Pair("BTC", "KRW"))
    assert platform.materialise("bithumb").success and platform.materialise("bithumb", SECOND).success
    stored = [platform.read("candle", "bithumb", window) for window in (FIRST, SECOND)]
    assert [None if rows is None else rows["close"].to_list() for rows in stored] == [[3.0], [4.0]]
    facts = platform.lake.provenance("candle", "bithumb", FIRST) or {}
    assert (facts["frames"], facts["rows_emitted"], facts["rows_replaced"]) == (2, 2, 1)
    rows = platform.lake.scan("candle", start=START - timedelta(minutes=1), end=START).collect()
    assert rows.select("exchange", "pair", "close", "offset").rows() == [("bithumb", "BTC-KRW", 4.0, 2)]


def test_channels_that_an_exchange_neither_streams_nor_answers_have_no_tables() -> None:
    class Silent(type(EXCHANGES["bithumb"])):  # type: ignore[misc]  # a class that is only known at run time
        """Bithumb without candles."""

        polled = frozenset[Channel]()

    assert [place.channel for place in sources(EXCHANGES["bithumb"], SETTINGS)] == list(Channel)
    assert [place.channel for place in sources(Silent(), SETTINGS)] == [
        Channel.TICKER,
        Channel.ORDERBOOK,
        Channel.TRADE,
    ]
    few = SETTINGS.model_copy(update={"channels": (Channel.CANDLE,)})
    assert [place.topic for place in sources(EXCHANGES["bithumb"], few)] == ["koreaSocketDataIn-candle"]


def test_an_open_window_is_not_read(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    platform.append(place, "ticker")
    later = Window(4_102_444_800_000_000, 4_102_444_860_000_000)
    with pytest.raises(WindowOpen, match="the window is still open"):
        platform.raw(place, later)


def test_D3_a_run_by_hand_on_a_clock_that_is_ahead_makes_no_window_that_is_open_by_the_clock_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = wall() - 25 * HOUR
    broker, place = MemoryBroker(clock=lambda: now), source("upbit", Channel.TICKER)
    broker.append(place.topic, place.partition, "h", b"value")

    def collect(_: float) -> None:
        broker.append(place.topic, place.partition, "h", b"value")

    monkeypatch.setattr(log_clock, "SETTLE_SECONDS", 60.0)
    monkeypatch.setattr(log_clock, "time", SimpleNamespace(sleep=collect))
    begin = now // HOUR * HOUR
    with pytest.raises(WindowOpen, match="the window is still open"):
        materialise_raw(place, Window(begin, begin + HOUR), broker, Lake(MemoryStore(), HOUR), SETTINGS)


def test_A9_a_window_whose_offsets_were_trimmed_says_so(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    count = platform.append(place, "ticker")
    platform.raw(place)
    stored = platform.read("raw_ticker", "upbit")
    platform.broker.trim(place.topic, 0, 2)
    again = platform.raw(place)  # the lake has it all
    assert again.metadata is not None and again.metadata["changed"] is False
    assert stored.height == count


def test_A9_S8_records_that_were_trimmed_unseen_fail_a_check_and_are_a_gap(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    count = platform.append(place, "ticker")
    platform.broker.trim(place.topic, 0, 2)
    raw = platform.raw(place)
    [check] = raw.check_results or ()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "unknown before offset 2 were trimmed" in (check.description or "")
    stored = platform.read("raw_ticker", "upbit")
    assert stored["offset"].to_list() == list(range(2, count))
    platform.gaps(place)
    gaps = platform.lake.scan("gap").collect()
    [row] = gaps.iter_rows(named=True)
    assert (row["channel"], row["pair"], row["cause"]) == ("ticker", None, "retention_loss")
    assert (row["from"], row["to"]) == (START, stored["received_time"][0])
    again = platform.raw(place)
    assert again.metadata is not None and again.metadata["changed"] is False


def test_A9_S8_how_many_were_trimmed_is_told_where_the_window_before_says_so(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    count = platform.append(place, "ticker")
    platform.raw(place)
    platform.clock.time = SECOND.start
    platform.append(place, "ticker")
    platform.broker.trim(place.topic, 0, count + 3)
    raw = platform.raw(place, SECOND)
    [check] = raw.check_results or ()
    assert not check.passed and f"3 before offset {count + 3} were trimmed" in (check.description or "")
    assert (platform.lake.provenance("raw_ticker", "upbit", SECOND) or {})["trimmed"] == 3


def test_S8_a_gap_over_the_end_of_a_window_is_one_gap_and_a_failed_check(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    [frame, *_] = frames("upbit", "ticker")
    platform.tell(place, Kind.OPENED, 0, FIRST.start, "a")
    platform.say(place, 1, frame.payload, "a", FIRST.start + 10)
    platform.tell(place, Kind.CLOSED, 1, FIRST.start + 50_000_000, "a", "connection reset")
    platform.clock.time = SECOND.start
    platform.tell(place, Kind.OPENED, 0, SECOND.start + 19_000_000, "b")
    platform.say(place, 1, frame.payload, "b", SECOND.start + 20_000_000)
    results = []
    for window in (FIRST, SECOND):
        platform.raw(place, window)
        results.append(platform.gaps(place, window))
    checks = [check for result in results for check in result.check_results or ()]
    assert [(c.check_name, c.passed, c.severity) for c in checks] == [("no_gap", False, dg.AssetCheckSeverity.WARN)] * 2
    assert checks[0].description == "1 gaps: ticker of BTC-KRW (disconnect)"
    assert [result.metadata["gap_seconds"] for result in results if result.metadata] == [10.0, 30.0]
    [row] = platform.lake.scan("gap", start=START + timedelta(seconds=65)).collect().iter_rows(named=True)
    assert (row["from"], row["to"]) == (START + timedelta(seconds=50), START + timedelta(seconds=80))
    assert (row["exchange"], row["cause"], row["reason"]) == ("upbit", "disconnect", "connection reset")
    assert platform.lake.scan("gap", end=START + timedelta(seconds=50)).collect().is_empty()
    assert platform.lake.scan("gap", start=START + timedelta(seconds=81)).collect().is_empty()
    alone = Lake(MemoryStore(), MINUTE)  # the window before was never looked at for gaps: its records are read
    for window in (FIRST, SECOND):
        platform.raw(place, window, alone)
    platform.gaps(place, SECOND, alone)
    rows = alone.read("gap", "upbit", SECOND)
    assert rows is not None and rows.equals(platform.read("gap", "upbit", SECOND))


def test_D5_an_exchange_that_is_never_reached_fails_the_check_of_every_window_and_is_listed(
    platform: MemoryPlatform,
) -> None:
    place = source("upbit", Channel.TICKER)
    third = Window(SECOND.stop, SECOND.stop + MINUTE)
    platform.want(place, Kind.OPENED, FIRST.start + 50_000_000)
    platform.want(place, Kind.PAIRS, FIRST.start + 53_000_000, "HTTP 451")
    platform.clock.time = SECOND.start
    platform.want(place, Kind.PAIRS, SECOND.start + 55_000_000, "HTTP 451")
    platform.clock.time = third.stop + 10_000_000  # no record at all in the third window
    results = []
    for window in (FIRST, SECOND, third):
        platform.raw(place, window)
        results.append(platform.gaps(place, window))
    checks = [check for result in results for check in result.check_results or ()]
    assert [(check.passed, check.severity) for check in checks] == [(False, dg.AssetCheckSeverity.WARN)] * 3
    gaps = "2 gaps: ticker of BTC-KRW (unreachable), ticker of ETH-KRW (unreachable)"
    assert checks[0].description == f"{gaps}; not served at all: ticker (unreachable)"
    assert checks[2].description == f"{gaps}; not served at all: ticker (no record)"
    for row in platform.lake.scan("gap").collect().iter_rows(named=True):  # once a pair, whichever window is read
        assert (row["from"], row["to"], row["reason"]) == (START + timedelta(seconds=50), None, "HTTP 451")
    late = timedelta(0)
    assert platform.lake.scan("gap", start=START + timedelta(seconds=130), late=late).collect()["pair"].to_list() == [
        "BTC-KRW",
        "ETH-KRW",
    ]
    [frame, *_] = frames("upbit", "ticker")
    fourth = Window(third.stop, third.stop + MINUTE)
    platform.tell(place, Kind.OPENED, 0, fourth.start + 10_000_000, "a")
    platform.say(place, 1, frame.payload, "a", fourth.start + 11_000_000)
    platform.clock.time = fourth.stop + 10_000_000
    platform.raw(place, fourth)
    result = platform.gaps(place, fourth)
    [check] = result.check_results or ()
    assert not check.passed and "not served" not in (check.description or "")
    ends = {row["pair"]: row["to"] for row in platform.lake.scan("gap").collect().iter_rows(named=True)}
    assert ends == {"BTC-KRW": START + timedelta(seconds=191), "ETH-KRW": None}


def test_D5_a_collector_that_was_stopped_fails_no_check(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    platform.want(place, Kind.OPENED, FIRST.start + 50_000_000)
    platform.want(place, Kind.CLOSED, FIRST.start + 53_000_000, "stopped")
    platform.clock.time = SECOND.stop + 10_000_000
    for window in (FIRST, SECOND):
        platform.raw(place, window)
        [check] = platform.gaps(place, window).check_results or ()
        assert check.passed, check.description
    assert platform.lake.scan("gap").collect()["cause"].to_list() == ["stopped", "stopped"]


def test_F1_a_book_that_does_not_arrive_at_its_checkpoint_fails_a_check_that_names_the_pair(
    platform: MemoryPlatform,
) -> None:
    place = source("kraken", Channel.ORDERBOOK)
    count = platform.append(place, "book_sequence_2")
    book = Checkpoint(pair="ETH-USD", bids=[], asks=[])
    facts = Facts(pairs=["ETH-USD"], book=book).pack()
    platform.log(place, Header(Kind.CHECKPOINT, 1, "c", count, platform.clock.time), facts)
    platform.raw(place)
    result = platform.rows(place)
    [check] = [check for check in result.check_results or () if check.check_name == "checkpoint"]
    assert not check.passed and check.description == "1 checkpoints not arrived at: ETH-USD"


def test_A9_a_topic_trimmed_up_to_a_window_still_makes_that_window(platform: MemoryPlatform) -> None:
    place = source("upbit", Channel.TICKER)
    platform.append(place, "ticker")
    platform.raw(place)
    platform.clock.time = SECOND.start
    platform.append(place, "ticker")
    platform.broker.trim(place.topic, 0, platform.broker.offset_for_time(place.topic, 0, SECOND.start))
    result = platform.raw(place, SECOND)
    assert all(check.passed for check in result.check_results or ())
    fresh = Lake(MemoryStore(), MINUTE)  # one that has the second window only
    again = platform.read("raw_ticker", "upbit", SECOND)
    facts = platform.lake.provenance("raw_ticker", "upbit", SECOND) or {}
    assert again.height
    fresh.commit("raw_ticker", "upbit", SECOND, again, {name: facts[name] for name in ("start_offset", "stop_offset")})
    repeated = platform.raw(place, SECOND, fresh)
    assert repeated.metadata is not None and repeated.metadata["dagster/partition_row_count"] == again.height
    assert all(check.passed for check in repeated.check_results or ())


def test_A9_a_book_whose_begin_was_trimmed_does_not_replace_the_one_that_is_stored(platform: MemoryPlatform) -> None:
    place = source("kraken", Channel.ORDERBOOK)
    platform.append(place, "book_sequence_2", middle=600)
    platform.raw(place, SECOND)
    platform.rows(place, SECOND)
    stored = platform.read("orderbook", "kraken", SECOND)
    platform.broker.trim(place.topic, place.partition, 599)
    with pytest.raises(RetentionLoss, match="the stored table is kept"):
        platform.rows(place, SECOND)
    kept = platform.read("orderbook", "kraken", SECOND)
    assert kept is not None and kept.equals(stored) and kept.height


def test_a_failing_exchange_fails_alone(platform: MemoryPlatform) -> None:
    upbit = source("upbit", Channel.TICKER)
    platform.append(upbit, "ticker")
    platform.append(source("okx", Channel.TICKER), "ticker")
    platform.lake.commit("raw_ticker", "upbit", FIRST, pl.DataFrame({"x": [1]}), {"start_offset": "none of ours"})
    assets = [*tables(EXCHANGES["upbit"], SETTINGS), *tables(EXCHANGES["okx"], SETTINGS)]
    resources = {"topics": GivenTopics(), "lake": GivenLake()}
    result = dg.materialize(assets, partition_key=key_of(FIRST), resources=resources, raise_on_error=False)
    assert not result.success
    rows = platform.read("ticker", "okx")
    assert rows.height == len(frames("okx", "ticker"))
    assert platform.lake.read("ticker", "upbit", FIRST) is None


def test_partition_keys_are_windows() -> None:
    assert window_of(key_of(FIRST), MINUTE) == FIRST
    assert key_of(FIRST) == "2026-11-02-00:00"
    parts = windows(SETTINGS)
    assert parts.get_first_partition_key() == "2026-11-02-00:00"
    assert windows(Settings(start=START)).cron_schedule == "0 * * * *"
