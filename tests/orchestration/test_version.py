"""A version is that of code and settings."""

from pathlib import Path

import pytest

import coin_platform
from coin_platform.orchestration.version import version
from coin_platform.settings import Settings


def test_a_version_is_that_of_code_and_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = version()
    assert version() == before
    monkeypatch.setattr("coin_platform.orchestration.version.load", lambda: Settings(log_level="WARNING"))
    changed = version()
    (tmp_path / "more.py").write_text("more")
    monkeypatch.setattr("coin_platform.__path__", [*coin_platform.__path__, str(tmp_path)])
    assert len({before, changed, version()}) == 3
