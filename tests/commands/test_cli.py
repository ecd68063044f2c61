"""The command line itself: its version, its completion, an example in every help text, and one way to print lists."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from coin_platform import __version__
from coin_platform.cli import app
from coin_platform.settings import PREFIX, Settings
from tests.kit.platform import Platform

LISTS = re.compile(r"(List|Show|Check|Decode the dead letters|Create the missing topics)\b")
"""How the help text of a command begins that prints rows."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that is no group, with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from leaves(subcommand, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def named(path: tuple[str, ...]) -> str:
    return " ".join(path)


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_every_help_text_has_an_example_that_the_command_line_takes(path: tuple[str, ...]) -> None:
    epilog = COMMANDS[path].epilog or ""
    assert epilog.startswith("Example: ")
    words = [word for word in shlex.split(epilog.removeprefix("Example: ")) if not word.startswith(PREFIX)]
    assert words[: 1 + len(path)] == ["coin", *path]
    COMMANDS[path].make_context("coin", words[1 + len(path) :])  # raises for what it does not know
    helped = CliRunner().invoke(app, [*path, "--help"], terminal_width=300)
    assert epilog.split()[-1] in helped.output


@pytest.mark.parametrize("path", [path for path in COMMANDS if LISTS.match(COMMANDS[path].help)], ids=named)
def test_every_command_that_lists_prints_json_too(path: tuple[str, ...]) -> None:
    prints_only_json = "one JSON object a line" in COMMANDS[path].help
    assert prints_only_json or "--json" in {name for option in COMMANDS[path].params for name in option.opts}


def test_the_help_has_a_short_option_everywhere() -> None:
    for arguments in (["-h"], ["lake", "-h"], ["lake", "gaps", "-h"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0 and "Usage:" in result.output


def test_the_version_is_one_line() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"coin {__version__}\n")


def test_completion_is_installed_and_completes_commands(tmp_path: Path) -> None:
    coin = str(Path(sys.executable).parent / "coin")
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = ["bash", "-c", f"{shlex.quote(coin)} --install-completion; exit $?"]  # the shell is found by its process
    installed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "coin" in (tmp_path / ".bashrc").read_text()
    asked = {**environment, "_COIN_COMPLETE": "complete_bash", "COMP_WORDS": "coin lake ga", "COMP_CWORD": "2"}
    completed = subprocess.run([coin], env=asked, capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["gaps"]


def test_settings_are_printed_as_json_and_whole_in_a_pipe(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["setting"]: row for row in map(json.loads, platform.coin("settings", "--json").stdout.splitlines())}
    assert set(rows) == {PREFIX + name.upper() for name in Settings.model_fields}
    assert (rows["COIN_WINDOW"]["value"], rows["COIN_WINDOW"]["default"]) == ("1m", "1h")
    assert str(Settings.model_fields["window"].description) in platform.coin("settings").stdout


def test_exchanges_are_printed_as_json(platform: Platform) -> None:
    rows = [json.loads(line) for line in platform.coin("exchanges", "--json").stdout.splitlines()]
    upbit = next(row for row in rows if row["exchange"] == "Upbit")
    assert (upbit["depth"], upbit["channels"]) == (30, ["ticker", "orderbook", "trade", "candle", "instrument"])
    assert upbit["limits"]["pairs a connection"] == 100
    assert len(rows) == 10


def test_an_empty_list_is_no_line_of_json(platform: Platform) -> None:
    for arguments in (("lake", "tables"), ("dead-letters", "list"), ("dead-letters", "redrive")):
        result = platform.coin(*arguments, "--json")
        assert (result.exit_code, result.output) == (0, "")
