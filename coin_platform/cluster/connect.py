"""The cluster of this deployment: Redis where `COIN_REDIS_URL` is set, else files under COIN_HOME."""

import hashlib
from pathlib import Path

from coin_platform.cluster import pairs
from coin_platform.cluster.contract import Cluster
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.last_good import LastGood
from coin_platform.cluster.store import ClusterStore
from coin_platform.settings import Settings

FOLDER = Path("data/cluster")  # below COIN_HOME
MACHINE = Path("data/cluster-machine")  # what the processes of this machine announce to each other beside Redis
COPIES = Path("data/cluster-copies")  # the last good values, a folder for each store
UNNAMED = "default"  # the deployment without a name, in the keys of Redis


def open_cluster(settings: Settings) -> Cluster:
    """Return the cluster of this deployment. Nothing is connected before the first call.

    In Redis, the keys begin with `coin:` and the name of the deployment. Each store has its own copies, so that no
    pairs of one store are put into another.
    """
    store: ClusterStore
    if settings.redis_url is None:
        store, copies = FileStore(settings.home / FOLDER), "files"
    else:
        from coin_platform.cluster.redis import RedisStore

        prefix = redis_prefix(settings)
        store = RedisStore(settings.redis_url.get_secret_value(), prefix)
        copies = hashlib.sha256(f"{store.place} {prefix}".encode()).hexdigest()[:16]
    return LastGood(store, FileStore(settings.home / COPIES / copies), pairs.check)


def redis_prefix(settings: Settings) -> str:
    """Return with what all keys of this deployment in Redis begin."""
    return f"coin:{settings.deployment or UNNAMED}"


def open_machine(settings: Settings) -> Cluster | None:
    """Return what the processes of this machine also announce to each other; `None` where the cluster is that already.

    So they know of each other while Redis is away.
    """
    if settings.redis_url is None:
        return None
    store = FileStore(settings.home / MACHINE)
    return LastGood(store, store, pairs.check)
