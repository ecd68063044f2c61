"""What the soak measures with: memory that grows, books that the market never had, processes that are started again."""

import os
import signal
from pathlib import Path

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Pair, Side
from coin_platform.simulator.market import Listing, Market
from tests.kit.exchanges import Top, Truth, top_of
from tests.kit.fleet import MIB, Fleet, Life, Member, Sample, gain, settled, slope, write_samples
from tests.kit.waiting import until

TIME = 1_795_478_400 * SECOND
STEP = SECOND // 10


def life(start: float, level: float, a_minute: float) -> Life:
    """Return a process that holds `level` MiB at first and gains `a_minute` MiB, measured every 5 s for 10 minutes."""
    samples = [Sample(start + at, int((level + a_minute * at / 60) * MIB), 10 + at // 60) for at in range(0, 600, 5)]
    return Life(start, samples)


def test_memory_that_grows_is_seen_and_only_once_a_process_has_settled() -> None:
    grown = life(0, 100, 0.2)
    early = Life(0, [*life(0, 50, 30).samples[:12], *grown.samples[12:]])  # 30 MiB more in the first minute
    [samples] = settled([early], 60)
    assert slope(samples) == pytest.approx(2.0, abs=0.01)
    assert slope(life(0, 100, 0.0).samples) == 0
    batches = [sample._replace(memory=sample.memory + (index % 3) * 9 * MIB) for index, sample in enumerate(samples)]
    assert slope(batches) == pytest.approx(2.0, abs=0.1), "what comes and goes is no growth"
    assert list(settled([grown], 590)) == [], "too few to say anything"


def test_what_a_process_gained_is_told_by_medians() -> None:
    samples = life(0, 100, 0.2).samples
    odd = [samples[0]._replace(memory=0), *samples[1:-1], samples[-1]._replace(memory=1 << 40)]
    assert gain(odd, lambda sample: sample.memory / MIB) == pytest.approx(1.9, abs=0.02)
    assert gain(samples, lambda sample: sample.files) == 9  # one a minute


def test_measurements_are_written_where_there_was_no_folder(tmp_path: Path) -> None:
    member = Member("worker", [], os.environ, tmp_path / "worker.log")
    member.lives = [Life(1.0, [Sample(3.0, 3 * MIB, 7)])]
    write_samples([member], tmp_path / "reports" / "memory.csv")
    assert (tmp_path / "reports" / "memory.csv").read_text().splitlines()[1:] == ["worker,0,2,3.00,7"]


@pytest.mark.parametrize("name", ["okx", "bithumb"])
def test_a_book_that_the_market_never_had_is_untrue(name: str) -> None:
    pair = Pair("BTC", EXCHANGES[name].quote)
    truth, market = Truth(), Market(7, {name: (pair,)}, TIME)
    tops = []
    for step in range(1, 4):
        market.step(TIME + step * STEP)
        truth.see(market, TIME + step * STEP)
        tops.append(_top(market.listings[name][pair], TIME + step * STEP))
    for top in tops:
        assert truth.had(name, str(pair), top, top.time + STEP // 2)
    assert not truth.had(name, str(pair), tops[0]._replace(time=tops[2].time), tops[2].time), "older than it says"
    assert not truth.had(name, str(pair), tops[0]._replace(prices=0), tops[0].time)
    is_seen = truth.had(name, str(pair), tops[1]._replace(sizes=0), tops[1].time)
    assert is_seen is not EXCHANGES[name].has_deltas


def _top(listing: Listing, time: int) -> Top:
    levels = [*listing.levels(Side.BUY, 10), *listing.levels(Side.SELL, 10)]
    return top_of(time, [listing.number(ticks) for ticks, _ in levels], [size for _, size in levels])


def test_a_member_that_ends_is_started_again_and_an_end_that_nobody_wanted_is_told(tmp_path: Path) -> None:
    sleeper = Member("sleeper", ["-c", "import time; time.sleep(60)"], os.environ, tmp_path / "sleeper.log")
    faulty = Member("faulty", ["-c", "print('begin'); raise SystemExit('no way')"], os.environ, tmp_path / "faulty.log")
    with Fleet([sleeper, faulty]) as fleet:
        sleeper.send(signal.SIGKILL)
        until(lambda: len(sleeper.lives) > 1 and len(faulty.lives) > 1)
    assert sleeper.ends[0][:2] == (-signal.SIGKILL, True)
    assert "faulty ended with 1: no way" in fleet.accidents
    assert "sleeper ended with -15: " in fleet.accidents, "SIGTERM is ignored"
    assert not [accident for accident in fleet.accidents if "-9" in accident]
