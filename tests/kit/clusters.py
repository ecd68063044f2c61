"""Clusters in a folder for tests, and stores that fail on demand."""

from pathlib import Path

from coin_platform.cluster import Changes, ClusterEntry, pairs
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.last_good import LastGood
from coin_platform.cluster.store import ClusterStore
from coin_platform.errors import ClusterError


class FaultyStore:
    """A store whose reads and writes fail while `reads_fail` or `writes_fail` is set."""

    def __init__(self, store: ClusterStore) -> None:
        self.store, self.place, self.look_seconds = store, store.place, store.look_seconds
        self.reads_fail = self.writes_fail = False

    def read(self, key: str) -> ClusterEntry | None:
        """Read, or fail."""
        self._check(self.reads_fail)
        return self.store.read(key)

    def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
        """Read, or fail."""
        self._check(self.reads_fail)
        return self.store.read_all(prefix)

    def swap(self, key: str, value: bytes, expected: int, version: int) -> None:
        """Write, or fail."""
        self._check(self.writes_fail)
        self.store.swap(key, value, expected, version)

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Write, or fail."""
        self._check(self.writes_fail)
        self.store.announce(key, value, seconds)

    def changes(self) -> Changes:
        """Return the store's hints."""
        return self.store.changes()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _check(self, fails: bool) -> None:
        if fails:
            raise ClusterError(f"{self.place}: away; start it")


def cluster_of(store: ClusterStore, copies: Path) -> LastGood:
    """Return the cluster on top of a store, as a process of a machine has it. Machines have different `copies`."""
    return LastGood(store, FileStore(copies), pairs.check)
