"""What the processes of one deployment agree on: active pairs, and the status of each component."""

from coin_platform.cluster.connect import open_cluster, open_machine
from coin_platform.cluster.contract import Changes, Cluster, ClusterEntry, Health, HealthState

__all__ = ["Changes", "Cluster", "ClusterEntry", "Health", "HealthState", "open_cluster", "open_machine"]
