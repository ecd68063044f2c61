"""A server is a component of the deployment, too: it announces itself."""

import asyncio
from pathlib import Path

from coin_platform.clock import wall
from coin_platform.cluster.numbers import NUMBERS
from coin_platform.cluster.status import Status, statuses
from coin_platform.serve.metrics import ServerMetrics
from coin_platform.serve.reports import ServerReports, announce
from tests.kit.serving import READ_KEY, Served, key
from tests.kit.waiting import eventually


def test_a_server_counts_what_it_answered() -> None:
    metrics = ServerMetrics()
    reports = ServerReports(metrics, "127.0.0.1", 8600)
    assert reports.report(0.0)[0].numbers["answers"] == 0
    for route, status in (("/a", 200), ("/b", 200), ("/b", 404), ("/b", 503)):
        metrics.count(route, "GET", status, 0.01)
    [report] = reports.report(2.0)
    assert (report.name, report.state, report.texts) == (
        "server/api/8600",
        "live",
        {"address": "http://127.0.0.1:8600"},
    )
    assert report.numbers == {"answers": 4, "answers_per_second": 2.0, "refused_requests": 1, "failed_requests": 1}
    assert report.numbers.keys() <= NUMBERS.keys()


def test_a_server_is_in_the_status_until_it_ends(tmp_path: Path) -> None:
    served, stop = Served(tmp_path), asyncio.Event()
    reports = ServerReports(ServerMetrics(), "127.0.0.1", 8600)

    def found() -> list[Status]:
        return statuses(served.cluster, wall())

    async def scenario() -> list[str]:
        announcing = asyncio.create_task(announce(served.cluster, "server-api-8600", reports.report, stop))
        await eventually(lambda: bool(found()))
        answer = await served.ask_in_loop("GET", "/api/status/server", headers=key(READ_KEY))
        stop.set()
        await announcing
        return [component["name"] for component in answer.json()]

    assert asyncio.run(scenario()) == ["server/api/8600"]
    assert found() == [], "it ended as it should"
