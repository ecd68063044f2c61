"""A lake has one deployment that writes it: another one is refused, until it adopts the lake by name."""

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from coin_platform.errors import Conflict, LakeError, NotOwner, SettingsError
from coin_platform.lake import FolderStore, Lake, MemoryStore, Store, deployment, open_lake
from coin_platform.lake.deployment import FILE, Deployment, deployment_of
from coin_platform.lake.lake_file import LAKE_FILE
from coin_platform.lake.landing import CLAIM_SECONDS, LandingStore
from coin_platform.lake.s3 import S3Store
from coin_platform.model import SECOND, Window
from coin_platform.settings import Settings
from tests.kit.s3 import s3_client, scan_options

HOUR = 3600 * SECOND
TEN = 1_792_144_800 * SECOND  # 2026-10-16 10:00 UTC
WINDOW, NEXT = Window(TEN, TEN + HOUR), Window(TEN + HOUR, TEN + 2 * HOUR)
ROWS = pl.DataFrame({"received_time": [datetime(2026, 10, 16, 10, tzinfo=UTC)], "last": [1.0]})
OURS, OTHERS = Deployment("ours", "alpha", "/srv/a"), Deployment("theirs", "beta", "/srv/b")


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "lake")
    address = request.getfixturevalue("seaweedfs").address
    return S3Store(
        s3_client(address), "lake", uuid.uuid4().hex, scan_options=scan_options(address), single_writer=False
    )


def lake_of(store: Store, who: Deployment) -> Lake:
    return Lake(store, HOUR, deployment=lambda: who)


def commit(lake: Lake, last: float = 1.0, window: Window = WINDOW) -> bool:
    """Commit a window; return whether that changed it."""
    return lake.commit("ticker", "upbit", window, ROWS.with_columns(last=pl.lit(last)), {}).changed


def test_D2_a_second_deployment_is_refused_with_a_line_that_names_both(store: Store) -> None:
    ours, others = lake_of(store, OURS), lake_of(store, OTHERS)
    assert commit(ours)
    before = {key: store.get(key) for key in store.list("")}
    writes: list[Callable[[], object]] = [
        lambda: commit(others, 2.0),
        lambda: commit(others, 1.0, NEXT),
        lambda: others.landing.put("ticker", "upbit", "topic-0-7", ROWS),
        lambda: others.landing.delete("landing/ticker/exchange=upbit/topic-0-7.parquet"),
        lambda: commit(Lake(store, HOUR), 2.0),
    ]
    for write in writes:
        with pytest.raises(NotOwner, match=r"belongs to deployment ours \(alpha:/srv/a\), and we are .*") as caught:
            write()
        assert "`coin lake adopt`" in str(caught.value) and "COIN_DEPLOYMENT=ours" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotOwner, match=r"we are theirs \(beta:/srv/b\)"):
        commit(others, 2.0)
    assert {key: store.get(key) for key in store.list("")} == before
    assert not commit(others), "what is there already is no write"
    assert others.scan("ticker").collect().height == 1, "everybody may read"
    assert commit(ours, 3.0)


def test_D2_who_adopts_a_lake_may_write_it_and_the_former_owner_no_longer_may(store: Store) -> None:
    ours, others = lake_of(store, OURS), lake_of(store, OTHERS)
    commit(ours)
    assert others.file.owner() == OURS
    assert others.file.adopt(OURS) == OTHERS == ours.file.owner()
    assert commit(others, 2.0)
    with pytest.raises(NotOwner, match=r"belongs to deployment theirs .*we are ours"):
        commit(ours, 3.0)
    with pytest.raises(Conflict, match=r"the lake belongs to theirs .* by now"):
        lake_of(store, Deployment("third", "c", "/c")).file.adopt(OURS)
    stored = store.get(LAKE_FILE)
    assert stored is not None
    assert json.loads(stored.data) == {
        "window_minutes": 60,
        "deployment": "theirs",
        "host": "beta",
        "home": "/srv/b",
    }


def test_D2_a_lake_of_a_former_version_is_adopted_by_its_first_writer_and_keeps_what_it_says(store: Store) -> None:
    store.put(LAKE_FILE, json.dumps({"window_minutes": 60, "note": "mine"}).encode(), None)
    names = [Deployment(f"d{number}", "h", "/") for number in range(6)]
    barrier = threading.Barrier(len(names))

    def write(number: int) -> bool:
        lake = lake_of(store, names[number])
        barrier.wait()
        try:
            return commit(lake, float(number), Window(TEN + number * HOUR, TEN + (number + 1) * HOUR))
        except NotOwner:
            return False

    with ThreadPoolExecutor(len(names)) as pool:
        won = list(pool.map(write, range(len(names))))
    assert sum(won) == 1
    assert lake_of(store, OURS).file.owner() == names[won.index(True)]
    stored = store.get(LAKE_FILE)
    assert stored is not None and json.loads(stored.data)["note"] == "mine"


def test_D2_a_lander_that_runs_on_looks_again_who_owns_the_lake() -> None:
    store, moment = MemoryStore(), 0.0
    landing = LandingStore(store, lake_of(store, OURS).file.claim, lambda: moment)
    landing.put("ticker", "upbit", "topic-0-1", ROWS)
    lake_of(store, OTHERS).file.adopt(OURS)
    moment = CLAIM_SECONDS
    with pytest.raises(NotOwner):
        landing.put("ticker", "upbit", "topic-0-2", ROWS)
    with pytest.raises(NotOwner):
        landing.delete("landing/ticker/exchange=upbit/topic-0-1.parquet")


def test_D2_first_writers_with_other_window_lengths_do_not_share_a_lake() -> None:
    store = MemoryStore()
    lakes = [Lake(store, HOUR, deployment=lambda: OURS), Lake(store, HOUR // 2, deployment=lambda: OURS)]
    commit(lakes[0])
    with pytest.raises(LakeError, match="windows of 60 minutes: set COIN_WINDOW=60m"):
        lakes[1].commit("ticker", "upbit", Window(TEN, TEN + HOUR // 2), ROWS, {})


def test_D2_two_homes_are_two_deployments_unless_they_are_given_one_name(tmp_path: Path) -> None:
    lake_url = f"file:{tmp_path}/lake"
    homes = [Settings(home=tmp_path / name, lake_url=lake_url) for name in ("a", "b")]
    assert commit(open_lake(homes[0]))
    with pytest.raises(NotOwner, match=rf"{tmp_path}/a\), and we are .*{tmp_path}/b\)"):
        commit(open_lake(homes[1]), 2.0)
    assert commit(open_lake(homes[0]), 2.0), "another process of the same home"
    owner = deployment_of(homes[0]).id
    assert commit(open_lake(homes[1].model_copy(update={"deployment": owner})), 3.0)


def test_D2_processes_that_start_at_once_agree_on_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, barrier = Settings(home=tmp_path), threading.Barrier(8)
    make = deployment._make

    def at_once(path: Path) -> None:
        barrier.wait()
        make(path)

    monkeypatch.setattr(deployment, "_make", at_once)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(deployment_of, [settings] * 8))
    assert len(found) == 1
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [FILE.name]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"id": 7}', b"\xff\xfe"])
def test_D25_a_damaged_file_of_the_deployment_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"deployment.json does not name a deployment: .*coin lake adopt") as caught:
        deployment_of(Settings(home=tmp_path))
    assert "\n" not in str(caught.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match=r"deployment.json: Is a directory; .*COIN_DEPLOYMENT"):
        deployment_of(Settings(home=tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"window_minutes": "sixty"}', b"\xff\xfe", b"null", b"7", bytes(40)]
)
def test_D25_a_damaged_lake_file_is_one_line_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    lake = lake_of(FolderStore(tmp_path), OURS)
    commit(lake)
    (tmp_path / LAKE_FILE).write_bytes(content)
    again = lake_of(FolderStore(tmp_path), OURS)
    reads: list[Callable[[], object]] = [
        partial(commit, again, 2.0),
        partial(again.scan, "ticker"),
        partial(again.read, "ticker", "upbit", WINDOW),
        partial(again.windows, "ticker", "upbit"),
        partial(again.landing.put, "ticker", "upbit", "topic-0-1", ROWS),
        again.file.owner,
        partial(again.file.adopt, OURS),
        partial(commit, lake, 2.0),
    ]
    for read in reads:
        with pytest.raises(LakeError, match=r"_lake.json does not say how long .*\{\"window_minutes\": 60\}") as caught:
            read()
        assert "\n" not in str(caught.value)
