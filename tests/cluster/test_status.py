"""What components say of themselves, and when that no longer counts."""

from pathlib import Path

import pytest

from coin_platform import __version__
from coin_platform.cluster import Cluster
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.status import ComponentKind, PairStatus, Reporter, Status, statuses
from coin_platform.model import SECOND
from tests.kit.clusters import cluster_of

NOW = 1_700_000_000 * SECOND


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Give a cluster without status."""
    return cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")


def feed(state: str, **more: object) -> Status:
    """Return a report as a feed makes it."""
    return Status(name="feed/upbit/ticker/0", kind=ComponentKind.FEED, state=state, **more)  # type: ignore[arg-type]


def test_a_report_is_read_whole_with_its_host_process_and_version(cluster: Cluster) -> None:
    report = feed("live", numbers={"frames": 7, "lag": 0.5}, pairs={"BTC-KRW": PairStatus(state="confirmed")})
    Reporter(cluster, "collector-korea").announce([report], NOW)
    [status] = statuses(cluster, NOW)
    assert (status.name, status.kind, status.state, status.time) == (report.name, ComponentKind.FEED, "live", NOW)
    assert (status.numbers, status.pairs) == (report.numbers, report.pairs)
    assert status.host
    assert status.process
    assert status.version == __version__


def test_since_is_when_the_state_began(cluster: Cluster) -> None:
    reporter = Reporter(cluster, "collector-korea")
    for second, state in enumerate(["connecting", "live", "live", "stale"]):
        reporter.announce([feed(state)], NOW + second * SECOND)
        [status] = statuses(cluster, NOW + second * SECOND)
        assert status.since == NOW + {"connecting": 0, "live": 1, "stale": 3}[state] * SECOND


def test_a_report_older_than_five_seconds_is_lost_and_says_what_it_was(cluster: Cluster) -> None:
    Reporter(cluster, "collector-korea").announce([feed("live")], NOW)
    [status] = statuses(cluster, NOW + 5 * SECOND)
    assert status.state == "live"
    [status] = statuses(cluster, NOW + 65 * SECOND)
    assert (status.state, status.since, status.reason) == ("lost", NOW, "no report for 65 s; it was live")


def test_the_newest_report_of_a_component_counts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = Reporter(cluster, "collector-korea")
    monkeypatch.setattr("os.getpid", lambda: 1)
    restarted = Reporter(cluster, "collector-korea")
    restarted.announce([feed("live")], NOW + 60 * SECOND)
    killed.announce([feed("stale")], NOW)
    assert [status.state for status in statuses(cluster, NOW + 60 * SECOND)] == ["live"]


def test_a_process_that_ended_as_it_should_has_no_status_any_more(cluster: Cluster) -> None:
    reporter = Reporter(cluster, "collector-korea")
    reporter.announce([feed("live")], NOW)
    reporter.end()
    assert statuses(cluster, NOW) == []


def test_a_report_that_cannot_be_read_hides_no_other(cluster: Cluster) -> None:
    Reporter(cluster, "collector-korea").announce([feed("live")], NOW)
    for number, nonsense in enumerate([b"", b"null", b"[{}]", b'[{"kind":"\xff"}]', b"[" * 100_000]):
        cluster.announce(f"status/nonsense-{number}", nonsense, 60)
    assert [status.name for status in statuses(cluster, NOW)] == ["feed/upbit/ticker/0"]
