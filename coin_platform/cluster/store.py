"""A plain store of the cluster, such as Redis: what `LastGood` builds on."""

from typing import Protocol

from coin_platform.cluster.contract import Changes, ClusterEntry


class ClusterStore(Protocol):
    """Keeps entries by key. Every method raises `ClusterError`, one line with the remedy, if the store cannot be used.

    The methods may be called from any thread.
    """

    @property
    def place(self) -> str:
        """The store's address, for people, without secrets."""

    @property
    def look_seconds(self) -> float:
        """How often its values are read without a hint."""

    def read(self, key: str) -> ClusterEntry | None:
        """Return an entry as it is stored."""

    def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the entries by key, without what is not ours. `prefix` is the kind with its slash."""

    def swap(self, key: str, value: bytes, expected: int, version: int) -> None:
        """Store an entry with a new version if the stored version is `expected` (0: none). Raises `VersionConflict`.

        Of writers that swap the same version at the same time one wins, also if their values are equal.
        """

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value for so many seconds. 0 removes it."""

    def changes(self) -> Changes:
        """Return hints of all values that are swapped from now on."""

    def close(self) -> None:
        """Give back what is held open."""
