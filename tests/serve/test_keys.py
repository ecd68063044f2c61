"""Keys of the API: who gets in, and which servers refuse to start."""

import stat
from http import HTTPStatus
from pathlib import Path

import pytest
from pydantic import SecretStr

from coin_platform.errors import SettingsError
from coin_platform.serve.keys import Scope, is_loopback, open_keys
from coin_platform.serve.rates import RateLimits
from coin_platform.settings import Settings
from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, READ_KEY, Served, key

LONG = "x" * 32


def keys_of(home: Path, host: str = "127.0.0.1", keys: str | None = None, file: str | None = None) -> object:
    path = None
    if file is not None:
        path = home / "keys"
        path.write_text(file)
    secret = None if keys is None else SecretStr(keys)
    return open_keys(Settings(home=home, serve_host=host, serve_keys=secret, serve_keys_file=path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "coin.example", "127.0.0.1.evil.test"])
def test_C1_a_server_that_others_reach_does_not_start_without_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match=r"COIN_SERVE_HOST=.*no key is set.*COIN_SERVE_KEYS"):
        keys_of(tmp_path, host)
    assert not (tmp_path / "data").exists()
    with pytest.raises(SettingsError, match="fewer than 32 characters"):
        keys_of(tmp_path, host, "admin:" + "x" * 31)
    keys_of(tmp_path, host, f"admin:{LONG}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LONG, "entry 1: write SCOPE:KEY"),
        (f"root:{LONG}", "entry 1: write SCOPE:KEY; a scope is one of read, pairs, admin"),
        (f"read:{LONG},admin:", "entry 2: this key has fewer than 32"),
        (f"read:{LONG[:20]} {LONG}", "no blanks"),
        (f"read:{LONG}é", "ASCII"),
    ],
)
def test_C3_a_wrong_key_stops_the_start_and_is_not_shown(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        keys_of(tmp_path, keys=text)
    assert "xxxx" not in str(error.value)


def test_keys_come_from_a_file_too(tmp_path: Path) -> None:
    found = open_keys(
        Settings(home=tmp_path, serve_keys=SecretStr(f"read:{LONG}"), serve_keys_file=_file(tmp_path, LONG.upper()))
    )
    new, old = found.find(LONG.upper()), found.find(LONG)
    assert (new and new.scope, old and old.scope) == (Scope.ADMIN, Scope.READ)
    assert found.find("") is found.find(LONG[:-1]) is None


def _file(folder: Path, text: str) -> Path:
    file = folder / "keys"
    file.write_text(f"# for us\n\nadmin:{text}\n")
    return file


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_D24_a_file_of_keys_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match=rf"COIN_SERVE_KEYS_FILE={tmp_path}/keys"):
        open_keys(Settings(home=tmp_path, serve_keys_file=Path("keys")))


def test_C1_without_keys_the_server_makes_one_that_only_its_owner_reads(tmp_path: Path) -> None:
    open_keys(Settings(home=tmp_path))
    file = tmp_path / "data" / "serve.key"
    text = file.read_text().strip()
    assert len(text) >= 32 and stat.S_IMODE(file.stat().st_mode) == 0o600
    found = open_keys(Settings(home=tmp_path)).find(text)
    assert found is not None and found.scope is Scope.ADMIN
    assert [path.name for path in file.parent.iterdir()] == ["serve.key"]


def test_an_emptied_file_of_the_own_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "serve.key").touch()
    with pytest.raises(SettingsError, match="delete the file"):
        open_keys(Settings(home=tmp_path))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_scopes_include_those_before_them() -> None:
    assert [[scope.includes(other) for other in Scope] for scope in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


PUBLIC = ("/metrics", "/api/exchanges", "/api/exchanges/upbit/markets", "/api/gaps")


@pytest.mark.parametrize("path", PUBLIC)
def test_C1_a_server_that_others_reach_shows_nothing_without_a_key(tmp_path: Path, path: str) -> None:
    served = Served(tmp_path, serve_host="0.0.0.0")
    answer = served.ask("GET", path)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED and answer.headers["WWW-Authenticate"] == "Bearer"
    assert served.ask("GET", path, headers=key(READ_KEY)).status_code == HTTPStatus.OK
    assert served.ask("GET", path, headers={"X-API-Key": READ_KEY}).status_code == HTTPStatus.OK
    assert served.ask("GET", path, params={"key": READ_KEY, "api_key": READ_KEY}).status_code == 401
    assert served.ask("GET", path, headers={"Authorization": f"Basic {READ_KEY}"}).status_code == 401


def test_C1_health_is_open_to_everybody_and_tells_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path, serve_host="0.0.0.0")
    assert {served.ask("GET", path).status_code for path in ("/health", "/ready")} == {200}
    assert set(served.ask("GET", "/health").json()) == {"status", "version"}


def test_C1_five_wrong_keys_of_an_address_and_it_must_wait(tmp_path: Path) -> None:
    served = Served(tmp_path, rates=RateLimits(), serve_host="0.0.0.0")
    wrong = [served.ask("GET", "/api/exchanges", headers=key("w" * 40)).status_code for _ in range(6)]
    assert wrong == [401] * 5 + [429]
    assert served.ask("GET", "/api/exchanges", headers=key(ADMIN_KEY)).status_code == 429
    assert served.ask("GET", "/health").status_code == 200
    assert PAIRS_KEY not in served.ask("GET", "/openapi.json").text
