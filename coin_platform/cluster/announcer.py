"""Announces the components of a process in a thread of its own: a store that hangs holds up nobody."""

import threading
from collections.abc import Sequence
from contextlib import suppress

from coin_platform.clock import wall
from coin_platform.cluster.contract import Cluster
from coin_platform.cluster.status import Reporter, Status
from coin_platform.errors import ClusterError

END_SECONDS = 3.0  # to take the process out of the status at its end; a store that hangs longer is left alone


class Announcer:
    """Announces what is offered. If the store is slower than the offers, only the newest one counts."""

    def __init__(self, cluster: Cluster, process: str) -> None:
        """`process` names what this process is, for example `collector-korea`."""
        self.latest: Sequence[Status] = ()
        self._reporter = Reporter(cluster, process)
        self._is_offered, self._is_closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"status of {process}", daemon=True)
        self._thread.start()

    def offer(self, components: Sequence[Status]) -> None:
        """Announce these components soon. It does not block."""
        self.latest = components
        self._is_offered.set()

    def close(self) -> None:
        """Take the process out of the status, and end."""
        self._is_closed.set()
        self._is_offered.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while True:
            self._is_offered.wait()
            self._is_offered.clear()
            with suppress(ClusterError):  # the cluster's health says and logs it
                if self._is_closed.is_set():
                    self._reporter.end()
                    return
                self._reporter.announce(self.latest, wall())
            if self._is_closed.is_set():
                return
