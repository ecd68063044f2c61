"""What is made again from the lake is what the worker made, in the order of the log; the gaps are among it."""

from collections import defaultdict

from coin_platform.model import Channel, Window
from coin_platform.preprocess.history import HistoricRecord, history
from coin_platform.preprocess.partition import Partition
from coin_platform.selection import exchanges_of, sources
from coin_platform.topic_names import GAPS
from tests.kit.platform import FIRST, THEN, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:02")
BOTH = Window(FIRST.start, THEN.stop)


def stored(platform: Platform) -> None:
    """Log tickers and books of two exchanges in two windows, and store them."""
    for number, window in enumerate((FIRST, THEN)):
        platform.time = window.start
        for exchange in ("upbit", "okx"):
            payloads = recorded(exchange, "ticker")
            platform.log(exchange, Channel.TICKER, payloads, first=1 + number * len(payloads))
        platform.log("okx", Channel.ORDERBOOK, recorded("okx", "book_sequence_1"), first=1 + number * 10_000)
    done = platform.coin("lake", "backfill", *RANGE)
    assert done.exit_code == 0, done.output


def made(platform: Platform, asked: Window = BOTH) -> list[HistoricRecord]:
    settings = platform.settings
    found = [source for exchange in exchanges_of(None, settings) for source in sources(exchange, settings)]
    return list(history(platform.opened(), found, asked))


def test_it_is_what_the_worker_made(platform: Platform) -> None:
    stored(platform)
    expected = {}
    for name, channel in (("upbit", Channel.TICKER), ("okx", Channel.TICKER), ("okx", Channel.ORDERBOOK)):
        source = platform.source(name, channel)
        partition = Partition(source, platform.broker, platform.settings, clock=lambda: platform.time)
        partition.open()
        while partition.work(platform.broker.end_offset(*partition.place)):
            pass
        platform.broker.flush()
        end = platform.broker.end_offset(partition.out, source.partition)
        read = platform.broker.read(partition.out, source.partition, 0, end)
        expected[partition.out, source.partition] = [(record.header, record.value) for record in read]
    found = defaultdict(list)
    for record in made(platform):
        if record.topic != GAPS:
            found[record.topic, record.partition].append((record.header, record.value))
    assert found == expected and all(expected.values())


def test_records_come_in_the_order_of_the_log_and_within_the_range(platform: Platform) -> None:
    stored(platform)
    times = [record.time for record in made(platform)]
    assert times == sorted(times) and times[0] < FIRST.stop < times[-1]
    asked = Window(FIRST.start + 20_000, FIRST.start + 60_000)
    part = {record.time for record in made(platform, asked)}
    assert part == {time for time in times if asked.start <= time < asked.stop} and part


def test_gaps_are_told_and_windows_that_are_not_stored_are_left_out(platform: Platform) -> None:
    stored(platform)
    gaps = [record for record in made(platform) if record.topic == GAPS]
    assert gaps and all(b'"cause":"' in record.value for record in gaps)  # of frames that OKX's books lack
    later = Window(THEN.stop, THEN.stop + 60_000_000)
    assert made(platform, later) == []
