"""Whether the store of the deployment can be trusted, as several answers say."""

from datetime import datetime

from pydantic import BaseModel

from coin_platform.cluster import Cluster, HealthState
from coin_platform.serve.parameters import time_of


class ClusterHealth(BaseModel):
    """Whether the store of the deployment can be trusted. `degraded`: the last good values are in force."""

    state: HealthState
    since: datetime
    reason: str


def health_of(cluster: Cluster) -> ClusterHealth:
    """Return what the last calls saw. It does not block."""
    health = cluster.health
    return ClusterHealth(state=health.state, since=time_of(health.since), reason=health.reason)
