"""Windows exist for Dagster when they are over by the clock of their log, also where ours is behind."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from coin_platform.model import SECOND
from coin_platform.orchestration import partitions
from coin_platform.orchestration.partitions import has_come, key_of, window_of, windows
from coin_platform.settings import Settings

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = 3600 * SECOND


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "_latest_come", 0.0)


def test_a_key_names_its_window() -> None:
    window = window_of("2026-11-24-11:00", HOUR)
    assert (window.start, window.stop) == (int(NOON.timestamp()) * SECOND - HOUR, int(NOON.timestamp()) * SECOND)
    assert key_of(window) == "2026-11-24-11:00"


@pytest.mark.parametrize("start", ["2026-11-01T00:00Z", "2026-11-24T11:00Z"])  # the latter: there is no other window
def test_D3_a_window_that_is_over_exists_although_our_clock_is_behind(start: str) -> None:
    hourly = windows(Settings(window="1h", start=start))
    window = window_of("2026-11-24-11:00", HOUR)
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 24, 11, 30, tzinfo=UTC)):
        assert not hourly.has_partition_key(key_of(window))
        has_come(window.stop)
        assert hourly.has_partition_key(key_of(window))
        assert hourly.get_last_partition_key() == key_of(window)
        keys = dg.PartitionKeyRange(key_of(window), key_of(window))
        assert hourly.empty_subset().with_partition_key_range(hourly, keys).get_partition_keys() == [key_of(window)]


def test_D3_a_clock_that_is_right_says_which_windows_exist() -> None:
    hourly = windows(Settings(window="1h", start="2026-11-24T00:00Z"))
    has_come(int(NOON.timestamp()) * SECOND - 5 * HOUR)
    with dg.partition_loading_context(effective_dt=NOON):
        assert hourly.get_last_partition_key() == "2026-11-24-11:00"
