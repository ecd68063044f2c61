"""The sensor that tells Dagster every few minutes how the exchanges and the topics are. No run is needed for that.

An event takes about 3.4 KB of Dagster's database, and there are five topics for each exchange. So all exchanges are
observed each time, and a topic when its state has changed, or when it is its turn.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import dagster as dg
import msgspec

from coin_platform.broker import Place
from coin_platform.clock import wall
from coin_platform.cluster import open_cluster
from coin_platform.cluster.status import Status, statuses
from coin_platform.errors import ClusterError, CoinPlatformError
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.orchestration.assets import exchange_key, external_keys, topic_key
from coin_platform.orchestration.observations import Facts, exchange_facts, newest, topic_facts, topic_state
from coin_platform.orchestration.resources import Topics
from coin_platform.selection import sources
from coin_platform.settings import Settings

TURNS = 6  # a topic whose state does not change is observed every sixth time


class ObserveCursor(msgspec.Struct):
    """What a look of the sensor leaves to the next one."""

    turn: int = 0
    states: dict[str, str] = {}  # of the topics, by the name of their key


def observe(exchanges: Sequence[Exchange], settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that observes the assets before the tables of these exchanges."""
    partitions = [source for exchange in exchanges for source in sources(exchange, settings)]

    @dg.sensor(
        name="observe",
        asset_selection=dg.AssetSelection.assets(*external_keys(exchanges, settings)),
        minimum_interval_seconds=int(settings.observe_interval.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes exchanges and topics: live or not, age, pairs, gaps, end offsets, lag.",
    )
    def observing(context: dg.SensorEvaluationContext, topics: Topics) -> dg.SensorResult:
        found, failure = _found(settings)
        by_name = newest(found)
        unknown: Facts = {"state": "unknown", "reason": failure}
        facts = [
            (exchange_key(exchange), unknown if failure else exchange_facts(exchange, by_name))
            for exchange in exchanges
        ]
        cursor = _read_cursor(context.cursor)
        ends, silence = _ends(topics, partitions)
        states = {_name(source): topic_state(source, by_name, silence or failure) for source in partitions}
        for source in _due(partitions, cursor, states):
            end = ends.get((source.topic, source.partition))
            facts.append((topic_key(source), topic_facts(source, by_name, end, silence or failure)))
        return dg.SensorResult(
            asset_events=[dg.AssetObservation(key, metadata=values) for key, values in facts],
            cursor=msgspec.json.encode(ObserveCursor((cursor.turn + 1) % TURNS, states)).decode(),
        )

    return observing


def _due(partitions: Sequence[Source], cursor: ObserveCursor, states: Mapping[str, str]) -> Iterator[Source]:
    """Yield the topics whose state has changed, and those whose turn it is."""
    for number, source in enumerate(partitions):
        is_new = cursor.states.get(_name(source)) != states[_name(source)]
        if is_new or number % TURNS == cursor.turn:
            yield source


def _name(source: Source) -> str:
    return "/".join(topic_key(source))


def _read_cursor(text: str | None) -> ObserveCursor:
    """Return the cursor, or a new one where there is none that this version can read."""
    try:
        return msgspec.json.decode(text or "{}", type=ObserveCursor)
    except msgspec.MsgspecError:
        return ObserveCursor()


def _found(settings: Settings) -> tuple[list[Status], str]:
    """Return the status of all components, and why it cannot be read."""
    with closing(open_cluster(settings)) as cluster:
        try:
            return statuses(cluster, wall()), ""
        except ClusterError as error:
            return [], str(error)


def _ends(topics: Topics, partitions: Sequence[Source]) -> tuple[dict[Place, int], str]:
    """Return the end offsets of partitions, and why the broker does not tell them."""
    try:
        with topics.open() as broker:
            return broker.end_offsets([(source.topic, source.partition) for source in partitions]), ""
    except CoinPlatformError as error:
        return {}, str(error)
