"""The accounts of `coin demo`: what is missing, double or without a row is seen, and what is right adds up."""

from collections import Counter

import pytest

from coin_platform.balance import Balance, balance
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.simulator.log import digest
from tests.commands.conftest import FIRST, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:01")
UPBIT = EXCHANGES["upbit"]
TICKERS = [digest(payload) for payload in recorded("upbit", "ticker")]


def stored(platform: Platform, payloads: list[bytes]) -> Platform:
    """Bring frames into the tables."""
    platform.time = FIRST.start
    platform.log("upbit", Channel.TICKER, payloads)
    done = platform.coin("lake", "backfill", *RANGE)
    assert done.exit_code == 0, done.output
    return platform


def test_what_was_sent_and_is_stored_adds_up(platform: Platform) -> None:
    lake = stored(platform, recorded("upbit", "ticker")).opened()
    found = balance(lake, UPBIT, Counter(TICKERS), Counter(TICKERS))
    assert found == Balance(len(TICKERS), missing=0, double=0, without_rows=0, declared=0)


@pytest.mark.parametrize(
    ("sent", "missing", "double"),
    [([*TICKERS, "never stored"], 1, 0), (TICKERS[1:], 0, 1), ([*TICKERS[1:], "never stored"], 1, 1)],
)
def test_what_is_missing_or_was_never_sent_is_counted(
    platform: Platform, sent: list[str], missing: int, double: int
) -> None:
    lake = stored(platform, recorded("upbit", "ticker")).opened()
    found = balance(lake, UPBIT, Counter(sent), Counter(sent))
    assert (found.missing, found.double) == (missing, double)


def test_a_frame_of_the_market_that_gave_no_row_is_counted_unless_it_is_a_double(platform: Platform) -> None:
    silent = b'{"status":"UP"}'
    lake = stored(platform, [*recorded("upbit", "ticker"), silent]).opened()
    names = Counter([*TICKERS, digest(silent)])
    assert balance(lake, UPBIT, names, names).without_rows == 1
    assert balance(lake, UPBIT, names, Counter(TICKERS)).without_rows == 0
