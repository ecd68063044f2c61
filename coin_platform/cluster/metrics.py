"""The numbers of the status as metrics for Prometheus: `coin_<kind>_<number>`, and the state."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from coin_platform.cluster.numbers import GAPS_BY_CAUSE, number_of
from coin_platform.cluster.status import Status

_PAIR_TIME = "pair_last_data_seconds"


class StatusMetrics(Collector):
    """Gives the newest status of the components of this process."""

    def __init__(self, latest: Callable[[], Sequence[Status]]) -> None:
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        families = _Families()
        for component in self._latest():
            kind, name = str(component.kind), component.name
            text = f"1 for the state that a {kind} is in"
            families.add(f"coin_{kind}_state", text, 1.0, name=name, state=component.state)
            for number, value in component.numbers.items():
                known = number_of(number)
                labels, metric = {"name": name}, f"coin_{kind}_{number}"
                if number.startswith(GAPS_BY_CAUSE):
                    labels["cause"] = number.removeprefix(GAPS_BY_CAUSE)
                    metric = f"coin_{kind}_gaps"
                families.add(metric, f"{known.text}; of a {kind}", value, is_counter=known.is_counter, **labels)
            for pair, news in component.pairs.items():
                if news.last_time is not None:
                    text = "time of the last data of a pair, in seconds since 1970"
                    families.add(f"coin_{kind}_{_PAIR_TIME}", text, news.last_time / 1e6, name=name, pair=pair)
        yield from families.values()


class _Families(dict[str, CounterMetricFamily | GaugeMetricFamily]):
    """Metrics by name."""

    def add(self, metric: str, text: str, value: float, *, is_counter: bool = False, **labels: str) -> None:
        """Add a sample. All samples of a metric have the same labels."""
        if metric not in self:
            make = CounterMetricFamily if is_counter else GaugeMetricFamily
            self[metric] = make(metric, text, labels=tuple(labels))
        self[metric].add_metric([*labels.values()], float(value))
