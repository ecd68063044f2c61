"""What a server says of itself, as the status of a deployment."""

import asyncio
from collections.abc import Callable, Sequence

from coin_platform.clock import elapsed, unless
from coin_platform.cluster import Cluster
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import ANNOUNCE_SECONDS, ComponentKind, Status
from coin_platform.serve.metrics import ServerMetrics


class ServerReports:
    """The status of one server of the control API."""

    def __init__(self, metrics: ServerMetrics, host: str, port: int) -> None:
        """Report a server that listens at this address."""
        self._metrics, self._name, self._address = metrics, f"server/api/{port}", f"http://{host}:{port}"
        self._rates = Rates()

    def report(self, moment: float) -> list[Status]:
        """Return the status now. `moment`: monotonic seconds."""
        answers = self._metrics.answers
        total = sum(answers.values())
        return [
            Status(
                name=self._name,
                kind=ComponentKind.SERVER,
                state="live",
                numbers={
                    "answers": total,
                    "answers_per_second": self._rates.per_second(self._name, total, moment),
                    "refused_requests": sum(count for status, count in answers.items() if 400 <= status < 500),
                    "failed_requests": sum(count for status, count in answers.items() if status >= 500),
                },
                texts={"address": self._address},
            )
        ]


async def announce(
    cluster: Cluster, process: str, report: Callable[[float], Sequence[Status]], stop: asyncio.Event
) -> None:
    """Announce a server once a second until `stop`, then take it out of the status."""
    announcer = Announcer(cluster, process)
    try:
        while not stop.is_set():
            announcer.offer(report(elapsed()))
            await unless(stop, asyncio.sleep(ANNOUNCE_SECONDS))
    finally:
        await asyncio.to_thread(announcer.close)
