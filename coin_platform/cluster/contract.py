"""What the processes of one deployment share: small values by key, replaced by compare-and-swap; the contract."""

from enum import StrEnum
from typing import NamedTuple, Protocol

from coin_platform.model import Microseconds

ANNOUNCED, CLIENTS = "status/", "clients/"
ANNOUNCED_KINDS = (ANNOUNCED, CLIENTS)  # keys that begin so are announced; all others are put
LARGEST_VALUE_BYTES = 4 << 20  # of one value; the pairs of an exchange with 5,000 pairs are 60 kB


class ClusterEntry(NamedTuple):
    """A value and its version. The first version is 1; a value that was announced has version 0."""

    version: int
    value: bytes


class HealthState(StrEnum):
    """Whether the store can be trusted now."""

    GOOD = "good"
    DEGRADED = "degraded"  # the last good values are in force


class Health(NamedTuple):
    """The state of the store as its user sees it, since when, and why it is not good."""

    state: HealthState
    since: Microseconds
    reason: str = ""


class Changes(Protocol):
    """Hints that a value was put. A hint can be lost, so its user also reads the values again by itself."""

    def wait(self, seconds: float) -> None:
        """Return once a value may have changed since the last call, at the latest after `seconds`.

        It blocks: call it in a thread. `close`, from any thread, ends the wait.
        """

    def close(self) -> None:
        """End the hints, and the wait of another thread."""


class Cluster(Protocol):
    """Small values that all processes of a deployment share. All methods block for about 2 s at most.

    A key is `<kind>/<name>`, for example `pairs/upbit`. All methods may be called from any thread.
    """

    @property
    def health(self) -> Health:
        """The state of the store as the last calls saw it. It does not block."""

    @property
    def look_seconds(self) -> float:
        """How often a user of `changes` reads the values again by itself."""

    def get(self, key: str) -> ClusterEntry | None:
        """Return the newest good value, or `None` if there never was one.

        If the store is away, has lost the value or holds nonsense, that is the last good value that this machine knows.
        """

    def put(self, key: str, value: bytes, version: int) -> int:
        """Replace the value if its version is still `version` (0: there is none), and return the new version.

        Raises `VersionConflict`, which has the newer version, if another version is stored, and `ClusterError` if the
        store cannot be written. `VersionConflict` is also the answer to a put that was stored, but whose value was
        replaced before its answer came.
        """

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value that is removed after `seconds`, unless it is announced again. 0 removes it now.

        Raises `ClusterError` if the store cannot be written.
        """

    def entries(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the entries, by key, whose keys begin with `prefix`, like `get`. `prefix` ends with a slash.

        Of announced values there is no last good copy. Raises `ClusterError` for them if the store cannot be read.
        """

    def changes(self) -> Changes:
        """Return hints of all values that are put from now on."""

    def close(self) -> None:
        """Give back what is held open."""
