"""Our processes killed and ended: the simulated exchanges know what they sent, the history checker compares."""

import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from coin_platform.model import SECOND, Microseconds
from coin_platform.tables.json_times import time_text
from tests.kit.asia import Asia, events, running
from tests.kit.figures import figure
from tests.kit.history import CLEAN, Sent, Stored, check, once
from tests.kit.waiting import slowness_of_this_machine, until
from tests.kit.witness import read

UNWRITTEN: Microseconds = SECOND // 20  # K2: what a killed collector may not have brought to the disk yet


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest) -> str:
    return "local:" if request.param == "local" else f"kafka://{request.getfixturevalue('kafka').address}"


@pytest.fixture
def platform(url: str, tmp_path: Path) -> Iterator[Asia]:
    with running(tmp_path / "home", url) as made:
        yield made


def lag(sent: Sequence[Sent], stored: Sequence[Stored]) -> Microseconds:
    """Return the longest that a message was on its way to us: so long before a kill it may not have been read yet."""
    times = {(message.exchange, message.hash): message.time for message in sent}
    return max(record.time - times.get((record.exchange, record.hash or ""), record.time) for record in stored)


@pytest.mark.alone
@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_S1_S8_K2_A1_a_collector_killed_again_and_again_loses_what_it_had_just_read(
    platform: Asia, rounds: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills: list[Microseconds] = []
    slowness = 1.0
    for _ in range(rounds):
        platform.start("collect", "--region", "asia", module="tests.kit.witness")
        platform.until_all_heard()  # else a pair is missing over two kills, and its gap is no hole of the feed
        moment, wait = time.monotonic(), chance.uniform(0, 1)
        until(lambda: time.monotonic() - moment > wait)  # noqa: B023
        kills.append(platform.kill("collect"))
        slowness = max(slowness, slowness_of_this_machine())
    platform.start("collect", "--region", "asia")
    platform.until_all_heard()
    platform.end("simulate")
    platform.end("collect")
    sent, stored = platform.sent(), platform.stored()
    findings = check(sent, once(stored))
    assert (findings.phantom, findings.double, findings.reordered) == ([], [], [])
    slack = UNWRITTEN + lag(sent, stored)
    early = [
        message for message in findings.lost if not any(kill - slack <= message.time <= kill + SECOND for kill in kills)
    ]
    assert early == [], f"lost {len(early)} of {len(sent)} earlier than {slack / 1000:.0f} ms before a kill"
    repeated = len(stored) - len(once(stored))
    print(f"{len(sent)} sent, {len(findings.lost)} lost around {rounds} kills, {repeated} sent again")
    findings = check(sent, once(stored), gaps=platform.gaps(), served=platform.served())
    assert findings.counts == CLEAN, findings.overreported[:3]
    known = {(record.epoch, record.connection, record.number) for record in stored}
    costs = [time for frame, time in read(platform.witness).items() if frame not in known]
    before = [min(kills, key=lambda kill: abs(kill - time)) - time for time in costs]
    print("oldest frames that were read and lost, ms before a kill:", sorted(cost / 1000 for cost in before)[-20:])
    over = platform.values["broker_url"].partition(":")[0]
    name = f"before one of {rounds} kills, over {over}, the oldest frame was read that it cost"
    figure("K2", name, round(max(before, default=0) / 1000), "ms")
    assert max(before, default=0) <= UNWRITTEN * slowness


@pytest.mark.alone
def test_S1_A2_whoever_is_asked_to_end_does_so_at_once_and_loses_nothing(platform: Asia) -> None:
    platform.start("collect", "--region", "asia")
    platform.start("preprocess", "--region", "asia")
    platform.until_more()
    asked = time.time_ns() // 1000
    times = {"collect": platform.end("collect")}
    platform.start("collect", "--region", "asia")
    platform.until_more()
    times |= {name: platform.end(name) for name in ("simulate", "preprocess", "collect")}
    slowness = slowness_of_this_machine()
    sent, stored = platform.sent(), platform.stored()
    findings = check(sent, stored)
    assert (findings.phantom, findings.double, findings.reordered) == ([], [], [])
    assert [message for message in findings.lost if message.time < asked] == []
    newest = max(record.epoch for record in stored)
    first = min(record.time for record in stored if record.epoch == newest)
    assert [message for message in findings.lost if message.time > first] == [], (
        "the exchange closed after its last word"
    )
    assert check(sent, stored, gaps=platform.gaps()).counts == CLEAN
    for name, seconds in times.items():
        assert seconds < 10 * slowness
        figure("S1", f"until `coin {name}` has ended", round(seconds, 2), "s")


@pytest.mark.alone
def test_F5_a_collector_that_takes_over_leaves_no_gap_and_no_double(url: str, tmp_path: Path) -> None:
    begun = str(time_text(time.time_ns() // 1000))
    with running(tmp_path / "home", url, "ticker,orderbook,trade") as platform:
        platform.start("collect", "--region", "asia")
        platform.until_more()
        old = platform.processes.pop("collect")
        started = time.monotonic()
        platform.start("collect", "--region", "asia", "--take-over")
        assert old.wait(60) == 0, (platform.home / "collect.log").read_text()[-2000:]
        seconds = round(time.monotonic() - started, 1)
        figure("F5", "from the start of a collector that takes over to the end of the other", seconds, "s")
        platform.until_more()
        ended = time.time_ns() // 1000
        platform.end("simulate")
        platform.end("collect")
        sent, stored = platform.sent(), platform.stored()
        assert len({record.epoch for record in stored}) == 2
        assert check(sent, stored).counts == CLEAN
        assert [gap for gap in platform.gaps() if gap.start < ended] == []
        other_gaps = [gap for gap in platform.told_gaps() if begun < gap["from"] < str(time_text(ended))]
        assert other_gaps == []  # of the whole topic, which others have written too
        for source in platform.sources:
            known, rows = events(platform, source)
            assert set(rows) == known, f"{source}: events without a row"
            assert [event for event, times in rows.items() if times > 1] == [], f"{source}: rows told twice"


def test_S1_S8_A3_who_was_frozen_goes_on_and_what_that_cost_is_recorded(platform: Asia) -> None:
    for name in ("collect", "preprocess"):
        platform.start(name, "--region", "asia")
    platform.until_more()
    until(lambda: "first records" in (platform.home / "preprocess.log").read_text(), 40)  # all have started
    for name in ("collect", "preprocess"):
        platform.processes[name].send_signal(signal.SIGSTOP)
    time.sleep(6)
    for name in ("preprocess", "collect"):
        platform.processes[name].send_signal(signal.SIGCONT)
    platform.until_more()
    for name in ("simulate", "collect", "preprocess"):
        platform.end(name)
    assert check(platform.sent(), platform.stored(), gaps=platform.gaps()).counts == CLEAN


def test_S1_A16_a_log_that_takes_no_line_stops_nobody(tmp_path: Path) -> None:
    with running(tmp_path / "home", "local:") as platform:
        platform.start("collect", "--region", "asia", log=Path("/dev/full"))
        platform.until_more()
        platform.until_more()
        assert platform.processes["collect"].poll() is None
        platform.end("simulate")
        process = platform.processes.pop("collect")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 120)  # 120: Python could not flush its log either
        assert check(platform.sent(), platform.stored(), gaps=platform.gaps()).counts == CLEAN


def test_S8_A16_a_full_disk_of_the_local_log_ends_the_collector_with_a_line_and_a_gap(tmp_path: Path) -> None:
    with running(tmp_path / "home", "local:") as platform:
        platform.start("collect", "--region", "asia")
        platform.until_more()
        folder = platform.settings.path(platform.settings.journal_dir)
        largest = max(path.stat().st_size for path in folder.rglob("*.db*") if ".new" not in path.name)
        process = platform.processes.pop("collect")
        psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (largest + 65_536,) * 2)
        full = time.time_ns() // 1000
        unwritten = UNWRITTEN * slowness_of_this_machine()
        assert process.wait(60) == 2
        [line] = [text for text in (platform.home / "collect.log").read_text().splitlines() if text[:5] == "coin:"]
        assert f"journal {folder}" in line
        assert "free space on that disk" in line
        platform.start("collect", "--region", "asia")
        platform.until_more()
        platform.end("simulate")
        platform.end("collect")
        sent, stored = platform.sent(), platform.stored()
        assert all(message.time > full - unwritten - lag(sent, stored) for message in check(sent, stored).lost)
        assert check(sent, stored, gaps=platform.gaps()).counts == CLEAN
