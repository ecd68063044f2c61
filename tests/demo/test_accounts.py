"""The accounts of `coin demo` count frames that are missing, stored twice, or without a row."""

from collections import Counter

import pytest

from coin_platform.demo.accounts import Balance, balance
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.model import Channel
from coin_platform.selection import sources
from coin_platform.simulator.sent_log import digest
from tests.kit.platform import FIRST, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:01")
TICKERS = [digest(payload) for payload in recorded("upbit", "ticker")]


def upbit(platform: Platform) -> list[Source]:
    return list(sources(EXCHANGES["upbit"], platform.settings))


def stored(platform: Platform, payloads: list[bytes]) -> Lake:
    """Store frames in tables, and return the lake."""
    platform.time = FIRST.start
    platform.log("upbit", Channel.TICKER, payloads)
    done = platform.coin("lake", "backfill", *RANGE)
    assert done.exit_code == 0, done.output
    return platform.opened()


def test_frames_that_were_sent_and_are_stored_add_up(platform: Platform) -> None:
    lake = stored(platform, recorded("upbit", "ticker"))
    accounts = balance(lake, upbit(platform), Counter(TICKERS), Counter(TICKERS))
    assert accounts == Balance(len(TICKERS), missing=0, double=0, without_rows=0, declared=0)


@pytest.mark.parametrize(
    ("sent", "missing", "double"),
    [([*TICKERS, "never stored"], 1, 0), (TICKERS[1:], 0, 1), ([*TICKERS[1:], "never stored"], 1, 1)],
)
def test_frames_that_are_missing_or_were_never_sent_are_counted(
    platform: Platform, sent: list[str], missing: int, double: int
) -> None:
    lake = stored(platform, recorded("upbit", "ticker"))
    accounts = balance(lake, upbit(platform), Counter(sent), Counter(sent))
    assert (accounts.missing, accounts.double) == (missing, double)


def test_a_frame_with_market_data_that_gave_no_row_is_counted(platform: Platform) -> None:
    silent = b'{"status":"UP"}'
    lake = stored(platform, [*recorded("upbit", "ticker"), silent])
    names = Counter([*TICKERS, digest(silent)])
    assert balance(lake, upbit(platform), names, names).without_rows == 1
    assert balance(lake, upbit(platform), names, Counter(TICKERS)).without_rows == 0
