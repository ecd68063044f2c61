"""`coin doctor`: a line for each finding, JSON, the exit code, and a home that it leaves as it was."""

import json

import pytest

from coin_platform.settings import load
from tests.kit.platform import Platform
from tests.kit.topics import NOBODY

MACHINE = [word for name in ("settings", "packages", "disk", "journal", "lake") for word in ("--only", name)]


def test_what_is_fine_is_said_in_a_line_each_and_changes_nothing(platform: Platform) -> None:
    before = {path: path.stat().st_mtime_ns for path in platform.home.rglob("*")}
    result = platform.coin("doctor", *MACHINE)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert sorted(line.split()[1] for line in lines[:-1]) == ["disk", "journal", "lake", "packages", "settings"]
    assert all(line.startswith("fine ") for line in lines[:-1])
    assert lines[-1] == "5 checks: 5 fine"
    assert {path: path.stat().st_mtime_ns for path in platform.home.rglob("*")} == before


def test_what_is_wrong_is_named_with_its_remedy_and_the_exit_code_says_so(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COIN_BROKER_URL", f"kafka://{NOBODY}")
    monkeypatch.setenv("COIN_LAKE_URL", "s3://lake/x")
    monkeypatch.setenv("COIN_S3_ENDPOINT", f"http://{NOBODY}")
    monkeypatch.setenv("COIN_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("COIN_S3_SECRET_KEY", "canary-of-the-doctor")
    load.cache_clear()
    result = platform.coin("doctor", "--json", "--only", "kafka", "--only", "lake", "--only", "packages")
    assert result.exit_code == 1
    found = {row["check"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert {name: row["state"] for name, row in found.items()} == {
        "kafka": "wrong",
        "lake": "wrong",
        "packages": "fine",
    }
    assert "is it running" in found["kafka"]["text"] and "COIN_S3_ENDPOINT" in found["lake"]["text"]
    assert "canary" not in result.output


def test_settings_that_cannot_be_read_are_a_finding_beside_those_of_the_machine(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COIN_NOPE", "1")
    load.cache_clear()
    result = platform.coin("doctor")
    assert result.exit_code == 1
    first, *others = result.output.splitlines()
    assert first.split(maxsplit=2)[:2] == ["wrong", "settings"] and "COIN_NOPE: there is no such setting" in first
    assert any(line.split()[:2] == ["fine", "packages"] for line in others)


def test_an_unknown_check_is_refused(platform: Platform) -> None:
    refused = platform.coin("doctor", "--only", "heart")
    assert "--only heart: there is no such name; write one of settings, packages" in str(refused.exception)
