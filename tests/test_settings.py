"""Settings are read as people write them. A wrong setting stops with a line that names it and the remedy."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coin_platform.errors import SettingsError
from coin_platform.model import Channel, Pair, Region
from coin_platform.orchestration.partitions import windows
from coin_platform.settings import Settings, load


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load.cache_clear()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("COIN_WINDOW", "7m", "a window is"),
        ("COIN_PAIRS", "BTCKRW", "BASE-QUOTE"),
        ("COIN_SIMULATOR_PORT", "99999", "less than or equal to 65535"),
        ("COIN_EXCHANGES_MODE", "dead", "'live' or 'simulated'"),
        ("COIN_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("COIN_WINDOWS", "1h", "no such setting"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load()
    text = str(error.value)
    assert name in text and says in text and "\n" not in text
    load.cache_clear()


def test_settings_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COIN_PAIRS", "btc-krw, ETH-USDT")
    monkeypatch.setenv("COIN_WINDOW", "15m")
    monkeypatch.setenv("COIN_GRACE", "3s")
    monkeypatch.setenv("COIN_START", "2026-11-02T00:00:00")
    monkeypatch.setenv("COIN_CHANNELS", "ticker")
    monkeypatch.setenv("COIN_TOPIC_KOREA", "kora")
    settings = load()
    assert settings.pairs == (Pair("BTC", "KRW"), Pair("ETH", "USDT"))
    assert (settings.window_length, settings.grace) == (900_000_000, timedelta(seconds=3))
    assert settings.start == datetime(2026, 11, 2, tzinfo=UTC)
    assert settings.channels == (Channel.TICKER,)
    assert settings.topic_prefix(Region.KOREA) == "kora"
    assert settings.path(Path("data")) == (settings.home / "data").resolve()
    assert Settings(window=timedelta(hours=1)).window_length == 3_600_000_000
    load.cache_clear()


def test_the_command_line_shows_one_line_and_no_traceback() -> None:
    command = [sys.executable, "-m", "coin_platform", "settings"]
    done = subprocess.run(command, env={"COIN_NOPE": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "coin: COIN_NOPE: there is no such setting; `coin settings` lists them\n"


@pytest.mark.parametrize(
    ("start", "window", "first"),
    [
        ("2026-11-24T03:07:31Z", "1h", "2026-11-24T03:00"),
        ("2026-11-24T03:07:31Z", "15m", "2026-11-24T03:00"),
        ("2026-11-24T03:47:00.5", "20m", "2026-11-24T03:40"),
        ("2026-11-24T03:47:59+05:30", "1m", "2026-11-23T22:17"),
        ("2026-11-24T03:00:00+05:30", "1h", "2026-11-23T21:00"),
    ],
)
def test_D12_a_start_within_a_window_is_the_start_of_that_window(
    start: str, window: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COIN_START", start)
    monkeypatch.setenv("COIN_WINDOW", window)
    settings = Settings()
    assert settings.start == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert windows(settings).get_first_partition_key() == f"{settings.start:%Y-%m-%d-%H:%M}"
