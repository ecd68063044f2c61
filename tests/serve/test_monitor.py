"""The monitor page as files: what may be loaded, what is vendored, and the states that it asks for."""

import hashlib
import re
import tomllib
from http import HTTPStatus
from pathlib import Path

import pytest

from coin_platform.clock import wall
from coin_platform.cluster.status import ComponentKind, Reporter, Status
from coin_platform.serve import monitor_routes
from coin_platform.serve.monitor_routes import content_policy
from tests.kit.serving import READ_KEY, Served, key

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "coin_platform/serve/static"
VENDOR = STATIC / "vendor"


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path, serve_hosts=("localhost", "coin.example", "::1"))


def test_the_page_runs_its_own_files_only_and_connects_to_feeds_of_the_deployment(served: Served) -> None:
    answer = served.ask("GET", "/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == HTTPStatus.OK and answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy and "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy, "no text can become markup"
    feeds = re.search("connect-src ([^;]*);", policy)
    assert feeds is not None
    assert feeds[1].split() == ["'self'"] + [
        f"{scheme}://{name}:*" for name in ("127.0.0.1", "localhost", "coin.example") for scheme in ("ws", "wss")
    ]
    assert "http" not in re.sub("http-equiv", "", answer.text) and "style=" not in answer.text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", answer.text)


def test_no_name_of_a_host_can_widen_the_policy() -> None:
    assert content_policy(["a.example"]).count(";") == content_policy([]).count(";")


def test_each_part_is_served_with_its_type_and_nothing_else_is(served: Served) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for name in monitor_routes.PARTS:
        answer = served.ask("GET", f"/static/{name}")
        assert answer.content == (STATIC / name).read_bytes()
        assert answer.headers["content-type"].startswith(types.get(Path(name).suffix, ""))
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name in ("vendor/sha256", "nothing.js", "%2e%2e/app.py", "..%2fapp.py", "", "monitor.html/"):
        assert served.ask("GET", f"/static/{name}").status_code == HTTPStatus.NOT_FOUND


def test_all_files_of_the_page_are_served_and_packed_into_the_wheel() -> None:
    files = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()}
    assert files - set(monitor_routes.PARTS) == {"vendor/README.md", "vendor/sha256"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"] == {"coin_platform.serve": ["static/**"]}


def test_files_of_others_are_unchanged_and_have_their_licence() -> None:
    lines = [line.split() for line in (VENDOR / "sha256").read_text(encoding="ascii").splitlines()]
    known = {name: digest for digest, name in lines}
    found = {str(path.relative_to(VENDOR)): path for path in VENDOR.rglob("*/*")}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == known
    assert "MIT" in (VENDOR / "uplot/LICENSE").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE" in (VENDOR / "inter/LICENSE").read_text(encoding="utf-8")


def test_text_becomes_no_markup_in_any_script() -> None:
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path
        )


def test_C1_the_page_needs_no_key_and_its_data_do(tmp_path: Path) -> None:
    served = Served(tmp_path, serve_host="0.0.0.0")
    assert served.ask("GET", "/").status_code == served.ask("GET", "/static/main.js").status_code == HTTPStatus.OK
    for path in ("/api/components", "/api/premium", "/api/exchanges", "/ws/info"):
        assert served.ask("GET", path).status_code == HTTPStatus.UNAUTHORIZED
        assert served.ask("GET", path, headers=key(READ_KEY)).status_code == HTTPStatus.OK


def test_components_tell_states_and_numbers_but_no_host_and_no_process(served: Served) -> None:
    now = wall()
    feed = Status(
        name="feed/upbit/ticker/0",
        kind=ComponentKind.FEED,
        state="stale",
        reason="no message for 30 s",
        numbers={"age_seconds": 30.5, "frame_bytes": 7},
    )
    Reporter(served.cluster, "collector-korea").announce([feed], now)
    Reporter(served.cluster, "old").announce([Status(name="worker/ne", kind=ComponentKind.WORKER, state="live")], 1)
    answer = served.ask("GET", "/api/components").json()
    assert answer["cluster"]["state"] == "good"
    [stale, lost] = answer["components"]
    assert stale == {
        "name": "feed/upbit/ticker/0",
        "kind": "feed",
        "state": "stale",
        "since": stale["time"],
        "time": stale["time"],
        "reason": "no message for 30 s",
        "numbers": {"age_seconds": 30.5},
    }
    assert (lost["name"], lost["state"]) == ("worker/ne", "lost") and lost["reason"].startswith("no report for")
