"""The cluster of this deployment: Redis where `COIN_REDIS_URL` is set, else files under COIN_HOME."""

from pathlib import Path

from coin_platform.cluster import pairs
from coin_platform.cluster.contract import Cluster
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.last_good import LastGood
from coin_platform.settings import Settings

FOLDER = Path("data/cluster")  # below COIN_HOME
COPIES = Path("data/cluster-copies")  # the last good values, a folder for each store


def open_cluster(settings: Settings) -> Cluster:
    """Return the cluster of this deployment. Nothing is connected before the first call."""
    return LastGood(FileStore(settings.home / FOLDER), FileStore(settings.home / COPIES / "files"), pairs.check)
