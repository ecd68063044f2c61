"""Metrics of the live worker for Prometheus."""

import math
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from coin_platform.preprocess.latency import Ages, Stage

LABELS = ("exchange", "channel")
PROCESSED = Counter("coin_processed_records", "processed records written", LABELS)
DEAD = Counter("coin_dead_letters", "dead letters written", LABELS)
BATCH = Histogram("coin_batch_records", "raw records of a batch", LABELS, buckets=(1, 5, 20, 50, 100, 250, 500, 1000))
LAG = Gauge("coin_lag_records", "raw records that wait", LABELS)
BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, math.inf)
_BUCKET_NAMES = tuple("+Inf" if bound == math.inf else str(float(bound)) for bound in BUCKET_SECONDS)


class Latencies(Collector):
    """Gives the ages of records as a histogram. They are counted once a round, which saves 1 µs a record and stage."""

    def __init__(self) -> None:
        self.ages: defaultdict[tuple[str, str, Stage], Ages] = defaultdict(Ages)

    def collect(self) -> Iterator[Metric]:
        text = "age of a record: received (since the exchange's time), logged, processed (each since the last), total"
        family = HistogramMetricFamily("coin_latency_seconds", text, labels=(*LABELS, "stage"))
        for labels, ages in sorted(self.ages.items()):
            buckets = list(zip(_BUCKET_NAMES, ages.below(BUCKET_SECONDS), strict=True))
            family.add_metric(labels, buckets, ages.seconds)
        yield family


LATENCIES = Latencies()
