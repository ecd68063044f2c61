"""The watch of `coin demo` waits for frames and windows, and gives up with one line."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from coin_platform.demo.watch import Watch
from coin_platform.errors import DemoError
from coin_platform.model import Channel
from coin_platform.selection import exchanges_of, sources
from tests.kit.platform import FIRST, THEN, Platform, recorded

LATER = 1e9  # seconds of the monotonic clock that no test reaches


@pytest.fixture
def dagster() -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process that runs as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def watch(platform: Platform, dagster: "subprocess.Popen[bytes]", deadline: float = LATER) -> Watch:
    return Watch(platform.settings, platform.home, deadline, (dagster, dagster))


def log_everywhere(platform: Platform) -> None:
    """Append a frame of every source in the first window, and a ticker of Upbit in the second one."""
    platform.time = FIRST.start
    for exchange in exchanges_of(None, platform.settings):
        for source in sources(exchange, platform.settings):
            platform.log(exchange.name, source.channel, recorded(exchange.name, source.channel.value)[:1])
    platform.time = THEN.start
    platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:1], first=2)


def test_frames_of_every_channel_are_waited_for(platform: Platform, dagster: "subprocess.Popen[bytes]") -> None:
    waiting = watch(platform, dagster)
    platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:1])
    assert not waiting.has_frames()
    log_everywhere(platform)
    assert waiting.has_frames()


def test_all_windows_with_records_are_waited_for(platform: Platform, dagster: "subprocess.Popen[bytes]") -> None:
    log_everywhere(platform)
    waiting = watch(platform, dagster)
    waiting.fix_windows()
    assert not waiting.is_complete()
    for end in ("2026-11-02T03:01", "2026-11-02T03:02"):
        assert not waiting.is_complete(), "the second window of Upbit's tickers is missing"
        made = platform.coin("lake", "backfill", "--from", "2026-11-02T03:00", "--to", end)
        assert made.exit_code == 0, made.output
    assert waiting.is_complete()


def test_the_watch_gives_up_at_its_deadline(platform: Platform, dagster: "subprocess.Popen[bytes]") -> None:
    waiting = watch(platform, dagster, time.monotonic() - 1)
    with pytest.raises(DemoError, match=r"did not reach the moon in time; see the logs in .*/data/logs"):
        waiting.until("the moon", lambda: False)


def test_the_watch_gives_up_if_dagster_ends(platform: Platform, dagster: "subprocess.Popen[bytes]") -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    waiting = Watch(platform.settings, platform.home, LATER, (dagster, ended))
    with pytest.raises(DemoError, match=r"dagster dev ended by itself; see .*/data/logs/dagster\.log"):
        waiting.until("the moon", lambda: False)
