"""What the API tells of the live feed: its servers, what they read, and their clients."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, open_machine
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.contract import CLIENTS
from coin_platform.errors import BrokerUnreachable
from coin_platform.serve.feed.ladder import Ladder, Service
from coin_platform.serve.feed.reports import FeedReports
from coin_platform.settings import Settings
from tests.kit.feed import append_processed
from tests.kit.feed_server import FeedServer, feed_server, frame, records
from tests.kit.serving import READ_KEY, Served, key
from tests.kit.waiting import eventually, until


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def told(served: Served, path: str) -> Any:
    answer = served.ask("GET", path, headers=key(READ_KEY))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def announced(
    served: Served, server: FeedServer, reports: FeedReports, moment: float, cluster: Cluster | None = None
) -> None:
    """Announce a server as it is now."""
    cluster = cluster or served.cluster
    reports.announce_clients(cluster, moment, wall())
    announcer = Announcer(cluster, f"server-feed-{server.port}")
    announcer.offer(reports.report(moment))
    name = f"server/feed/{server.port}"
    await eventually(lambda: name in str(cluster.entries("status/")), 30)


def test_C5_the_api_names_the_servers_of_the_feed_what_they_read_and_who_reads_them(served: Served) -> None:
    assert told(served, "/ws/info") == {"address": None, "servers": []}

    async def run() -> None:
        async with feed_server() as server, server.connect("?type=ticker") as client:
            await frame(client)
            append_processed(server.broker, "upbit", "BTC-KRW")
            await records(client, 1)
            reports = FeedReports(server.distributor, server.ladder, server.url, server.port)
            await announced(served, server, reports, 10.0)
            [status, source] = reports.report(12.0)
            assert (status.numbers["clients"], status.numbers["streams"], status.numbers["sends"]) == (1, 1, 2)
            assert (source.name, source.state) == (f"source/feed/{server.port}/kafka", "up")
            info = await asyncio.to_thread(told, served, "/ws/info")
            assert (info["address"], info["servers"][0]["rung"]) == (server.url, "kafka")
            clients = await asyncio.to_thread(told, served, "/api/clients")
            assert [(entry["client"], entry["missed_bundles"]) for entry in clients["clients"]] == [("127.0.0.1", 0)]

    asyncio.run(run())


def test_C5_a_server_whose_log_does_not_answer_is_degraded_and_named_last(served: Served) -> None:
    async def run() -> None:
        async with feed_server() as down, feed_server() as up:
            down.broker.refuse("end_offsets", BrokerUnreachable("kafka is away"))
            await eventually(lambda: down.distributor.failure == "kafka is away", 30)
            await eventually(lambda: up.distributor.failure == "", 30)
            for server in (down, up):
                await announced(
                    served, server, FeedReports(server.distributor, server.ladder, server.url, server.port), 1.0
                )
            info = await asyncio.to_thread(told, served, "/ws/info")
            assert [(each["state"], each["reason"]) for each in info["servers"]] == [
                ("live", ""),
                ("degraded", "kafka is away"),
            ]
            assert info["address"] == up.url
            health = await asyncio.to_thread(told, served, "/api/ws/infra-health")
            states = {service["name"]: (service["state"], service["reason"]) for service in health["services"]}
            assert states[f"source/feed/{down.port}/kafka"] == ("down", "kafka is away")
            assert states[f"source/feed/{up.port}/kafka"] == ("up", "")

    asyncio.run(run())


def test_a_list_of_clients_that_cannot_be_read_is_left_out(served: Served) -> None:
    served.cluster.announce(f"{CLIENTS}another", json.dumps([{"version": 9}]).encode(), 60)
    until(lambda: served.cluster.entries(CLIENTS), 30)
    assert told(served, "/api/clients") == {"total": 0, "clients": []}


def test_C1_the_lists_need_a_key_and_the_address_of_the_feed_does_not(served: Served) -> None:
    assert served.ask("GET", "/api/clients").status_code == 401
    assert served.ask("GET", "/api/ws/infra-health").status_code == 401
    assert served.ask("GET", "/ws/info").status_code == 200


def test_C5_the_rung_of_each_server_its_moves_and_its_services_are_told_and_the_highest_comes_first(
    served: Served,
) -> None:
    async def run() -> None:
        async with feed_server() as low, feed_server() as high:
            for server, failure in ((low, "kafka does not answer"), (high, "")):
                server.ladder = Ladder([Service.KAFKA, Service.REDIS])
                for service in (Service.KAFKA, Service.REDIS):
                    server.ladder.note(service, 1.0, 1_000_000)
                for moment in (2, 3):
                    server.ladder.note(Service.KAFKA, moment, moment * 1_000_000, failure)
                await eventually(lambda distributor=server.distributor: distributor.failure == "", 30)  # type: ignore[misc]
                await announced(
                    served, server, FeedReports(server.distributor, server.ladder, server.url, server.port), 1.0
                )
            info = await asyncio.to_thread(told, served, "/ws/info")
            assert [each["rung"] for each in info["servers"]] == ["kafka+redis", "redis"]
            assert info["address"] == high.url
            health = await asyncio.to_thread(told, served, "/api/ws/infra-health")
            [feed] = [each for each in health["feeds"] if each["name"] == f"server/feed/{low.port}"]
            assert (feed["rung"], feed["since"]) == ("redis", "1970-01-01T00:00:03Z")
            assert [(move["before"], move["after"], move["reason"]) for move in feed["moves"]] == [
                ("none", "kafka+redis", "start"),
                ("kafka+redis", "redis", "kafka: kafka does not answer"),
            ]
            services = {each["name"]: (each["state"], each["since"]) for each in health["services"]}
            assert services[f"source/feed/{low.port}/kafka"] == ("down", "1970-01-01T00:00:03Z")
            assert services[f"source/feed/{low.port}/redis"] == ("up", "1970-01-01T00:00:01Z")

    asyncio.run(run())


def test_C5_A21_while_redis_is_away_the_servers_of_this_machine_are_told(tmp_path: Path) -> None:
    served = Served(tmp_path, redis_url="redis://127.0.0.1:1")
    machine = open_machine(served.settings)
    assert machine is not None and open_machine(Settings(home=tmp_path)) is None

    async def run() -> None:
        async with feed_server() as server:
            await eventually(lambda: server.distributor.failure == "", 30)
            reports = FeedReports(server.distributor, server.ladder, server.url, server.port)
            await announced(served, server, reports, 1.0, machine)
            info = await asyncio.to_thread(told, served, "/ws/info")
            assert (info["address"], [each["rung"] for each in info["servers"]]) == (server.url, ["kafka"])
            health = await asyncio.to_thread(told, served, "/api/ws/infra-health")
            assert (health["cluster"]["state"], health["feeds"][0]["rung"]) == ("degraded", "kafka")

    asyncio.run(run())
