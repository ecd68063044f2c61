"""The numbers of the status as metrics for Prometheus: `coin_<kind>_<number>`, and the state."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from coin_platform.cluster.status import Status

COUNTERS = frozenset(
    {"frames", "frame_bytes", "undecodable_frames", "unasked_events", "books_lost", "reconnects", "gap_records"}
)
"""The numbers that only rise while a process lives. All others are gauges."""


class StatusMetrics(Collector):
    """Gives the newest status of the components of this process."""

    def __init__(self, latest: Callable[[], Sequence[Status]]) -> None:
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for component in self._latest():
            labels = [component.name]
            state = f"coin_{component.kind}_state"
            if state not in families:
                families[state] = GaugeMetricFamily(
                    state, f"1 for the state that a {component.kind} is in", labels=("name", "state")
                )
            families[state].add_metric([*labels, component.state], 1.0)
            for number, value in component.numbers.items():
                name = f"coin_{component.kind}_{number}"
                if name not in families:
                    make = CounterMetricFamily if number in COUNTERS else GaugeMetricFamily
                    families[name] = make(name, f"{number.replace('_', ' ')} of a {component.kind}", labels=("name",))
                families[name].add_metric(labels, float(value))
        yield from families.values()
