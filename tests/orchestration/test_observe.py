"""Dagster observes exchanges and topics: live or not, age, pairs, gaps, offsets, lag. The event log stays small."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from coin_platform.clock import wall
from coin_platform.cluster import open_cluster
from coin_platform.cluster.status import ComponentKind, Reporter, Status
from coin_platform.errors import BrokerUnreachable, ClusterError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.orchestration import observe as observing
from coin_platform.orchestration.assets import external_keys
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.observe import TURNS, observe
from coin_platform.orchestration.retention import KEEP_OBSERVATIONS, forget_observations
from coin_platform.settings import Settings
from tests.kit.dagster import GivenTopics
from tests.kit.faulty_broker import FaultyBroker

UPBIT = EXCHANGES["upbit"]
TOPIC = "koreaSocketDataIn-ticker"


class World:
    """A deployment of one exchange with one channel, and what Dagster observes of it."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, exchanges=("upbit",), channels=(Channel.TICKER,))
        self.broker = FaultyBroker()
        self.cursor: str | None = None

    def report(self, *components: Status, time: Microseconds | None = None, process: str = "one") -> None:
        with closing(open_cluster(self.settings)) as cluster:
            Reporter(cluster, process).announce(components, wall() if time is None else time)

    def tick(self, instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
        """Let the sensor look once. Return the facts of each asset that it observed."""
        GivenTopics.broker = self.broker
        sensor = observe([UPBIT], self.settings)
        context = dg.build_sensor_context(instance=instance, cursor=self.cursor, resources={"topics": GivenTopics()})
        result: Any = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
        return {
            event.asset_key.to_user_string(): {name: value.value for name, value in event.metadata.items()}
            for event in result.asset_events
        }


@pytest.fixture
def given(tmp_path: Path) -> World:
    return World(tmp_path)


def feed(state: str = "live", name: str = "feed/upbit/ticker/0", **numbers: float) -> Status:
    """Return a report as a feed makes it."""
    known: dict[str, float | int] = {
        "frames": 70,
        "age_seconds": 0.25,
        "pairs_confirmed": 3,
        "pairs_refused": 1,
        "gap_records": 2,
        "reconnects": 5,
    }
    return Status(name=name, kind=ComponentKind.FEED, state=state, reason="", numbers=known | numbers)


def worker(state: str = "live", reason: str = "") -> Status:
    """Return a report as a partition of a worker makes it."""
    return Status(
        name="partition/upbit/ticker",
        kind=ComponentKind.PARTITION,
        state=state,
        reason=reason,
        numbers={"lag_records": 4},
    )


def test_an_exchange_and_its_topic_are_observed_as_the_status_says(given: World, instance: dg.DagsterInstance) -> None:
    given.broker.append(TOPIC, 0, "", b"x")
    given.report(feed(), feed(name="feed/upbit/orderbook/0", age_seconds=9.0), worker())
    assert given.tick(instance) == {
        "exchange/upbit": {
            "state": "live",
            "age_seconds": 0.2,
            "frames": 140,
            "pairs_confirmed": 6,
            "pairs_refused": 2,
            "gap_records": 4,
            "reconnects": 10,
        },
        f"topic/{TOPIC}/upbit": {"worker": "live", "lag_records": 4, "end_offset": 1},
    }
    records = instance.fetch_observations(dg.AssetKey(["exchange", "upbit"]), limit=5).records
    assert len(records) == 1
    observation = records[0].asset_observation
    assert observation is not None and observation.metadata["frames"].value == 140


def test_a_feed_that_is_not_live_is_named_with_its_reason(given: World, instance: dg.DagsterInstance) -> None:
    waiting = Status(name="feed/upbit/trade/0", kind=ComponentKind.FEED, state="waiting", reason="HTTP 503")
    given.report(feed(), waiting)
    facts = given.tick(instance)["exchange/upbit"]
    assert facts["state"] == "1 of 2 feeds are not live"
    assert facts["reason"] == "feed/upbit/trade/0 is waiting: HTTP 503"
    assert facts["frames"] == 70


def test_a_topic_is_observed_in_its_turn_and_at_once_when_its_state_changes(
    given: World, instance: dg.DagsterInstance
) -> None:
    topic = f"topic/{TOPIC}/upbit"

    def is_observed() -> bool:
        found = given.tick(instance)
        assert "exchange/upbit" in found
        return topic in found

    given.report(worker())
    assert [is_observed() for _ in range(2 * TURNS)] == [*[True, *[False] * (TURNS - 1)] * 2]
    assert is_observed()
    given.report(worker("waiting", "the broker does not answer"))
    assert [is_observed(), is_observed()] == [True, False]
    given.broker.refuse("end_offsets", BrokerUnreachable("kafka does not answer"))
    assert [is_observed(), is_observed()] == [True, False]
    given.cursor = "a cursor of another version"
    assert is_observed()


def test_an_old_status_is_lost_and_its_numbers_prove_nothing(given: World, instance: dg.DagsterInstance) -> None:
    given.report(feed(), worker(), time=wall() - 6 * SECOND)
    found = given.tick(instance)
    assert found["exchange/upbit"].keys() == {"state", "reason"}
    assert found["exchange/upbit"]["state"] == "lost"
    assert found["exchange/upbit"]["reason"].startswith("no report for 6 s; it was live")
    topic = found[f"topic/{TOPIC}/upbit"]
    assert (topic["worker"], topic["end_offset"], "lag_records" in topic) == ("lost", 0, False)


def test_after_a_failover_the_newest_report_counts(given: World, instance: dg.DagsterInstance) -> None:
    given.report(feed(), time=wall() - 60 * SECOND, process="former")
    given.report(feed(), process="successor")
    assert given.tick(instance)["exchange/upbit"]["state"] == "live"


def test_nothing_that_runs_is_told_as_such(given: World, instance: dg.DagsterInstance) -> None:
    found = given.tick(instance)
    assert found["exchange/upbit"] == {"state": "no feed reports"}
    assert found[f"topic/{TOPIC}/upbit"] == {"worker": "none reports", "end_offset": 0}


def test_a_broker_that_is_away_costs_the_offsets_alone(given: World, instance: dg.DagsterInstance) -> None:
    given.report(feed(), worker())
    given.broker.refuse("end_offsets", BrokerUnreachable("kafka does not answer"))
    found = given.tick(instance)
    assert found["exchange/upbit"]["state"] == "live"
    topic = found[f"topic/{TOPIC}/upbit"]
    assert topic == {"worker": "live", "lag_records": 4, "reason": "kafka does not answer"}


def test_a_store_of_the_status_that_is_away_is_told(
    given: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Status]:
        raise ClusterError("redis: away; start it")

    monkeypatch.setattr(observing, "statuses", fail)
    found = given.tick(instance)
    assert found["exchange/upbit"] == {"state": "unknown", "reason": "redis: away; start it"}
    assert found[f"topic/{TOPIC}/upbit"]["end_offset"] == 0


def test_the_sensor_observes_all_that_is_external_at_the_interval_of_the_settings() -> None:
    settings = Settings(exchanges=("upbit", "okx"), observe_interval="10m")
    defs = definitions(settings)
    sensor = defs.resolve_sensor_def("observe")
    assert sensor.minimum_interval_seconds == 600
    assert sensor.asset_selection is not None
    selected = sensor.asset_selection.resolve(defs.resolve_asset_graph())
    assert selected == {dg.AssetKey(key) for key in external_keys([UPBIT, EXCHANGES["okx"]], settings)}
    assert not {key.path[0] for key in selected} - {"exchange", "topic"}


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give a Dagster that keeps all in files."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_only_the_newest_observations_are_kept(stored: dg.DagsterInstance, tmp_path: Path) -> None:
    ours, other = dg.AssetKey(["exchange", "upbit"]), dg.AssetKey("other")
    for number in range(KEEP_OBSERVATIONS + 3):
        stored.report_runless_asset_event(dg.AssetObservation(ours, metadata={"number": number}))
    stored.report_runless_asset_event(dg.AssetMaterialization(ours))
    for _ in range(KEEP_OBSERVATIONS + 2):
        stored.report_runless_asset_event(dg.AssetObservation(other))
    assert forget_observations(stored, [["exchange", "upbit"], ["exchange", "okx"]]) == 3
    assert forget_observations(stored, [["exchange", "upbit"]]) == 0
    kept = stored.fetch_observations(ours, limit=1000).records
    numbers = [record.asset_observation.metadata["number"].value for record in kept if record.asset_observation]
    assert numbers == list(range(KEEP_OBSERVATIONS + 2, 2, -1))
    assert len(stored.fetch_observations(other, limit=1000).records) == KEEP_OBSERVATIONS + 2, "they are not ours"
    assert stored.get_latest_materialization_event(ours) is not None
    of_no_run = stored.event_log_storage.get_logs_for_run("")
    assert len(of_no_run) == 1 + KEEP_OBSERVATIONS + KEEP_OBSERVATIONS + 2, "the second copy is kept as small"
