"""`coin serve` as a process: two addresses, two processes, one end."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from coin_platform.broker import LocalBroker, connect, kafka_topics
from coin_platform.clock import wall
from coin_platform.cluster import open_machine
from coin_platform.cluster.status import statuses
from coin_platform.runtime.ports import free_ports
from coin_platform.settings import Settings
from infra.stack import Kafka, Redis, is_listening
from tests.kit.feed import append_processed
from tests.kit.feed_server import connect_to, records
from tests.kit.redis_streams import empty_redis as empty_redis
from tests.kit.waiting import eventually, until


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL", "the feed's end"])
def test_D11_coin_serve_serves_both_addresses_and_leaves_no_process_behind(end: str, tmp_path: Path) -> None:
    api, feed = free_ports(2)
    settings = {"COIN_HOME": str(tmp_path), "COIN_SERVE_PORT": str(api), "COIN_FEED_PORT": str(feed)}
    command = [sys.executable, "-m", "coin_platform", "serve"]
    with subprocess.Popen(command, env={**os.environ, **settings}, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: is_listening(api) and is_listening(feed), 60)
            children = psutil.Process(process.pid).children(recursive=True)
            broker = LocalBroker(tmp_path / "data" / "journal")
            append_processed(broker, "upbit", "BTC-KRW", offset=7)
            broker.close()

            async def read() -> None:
                async with connect_to(f"ws://127.0.0.1:{feed}/ws/exchange") as client:
                    assert [record["offset"] for record in await records(client, 1)] == [7]

            asyncio.run(read())
            if end == "the feed's end":
                [server] = [child for child in children if child.cmdline()[-2:] == ["serve", "feed"]][-1:]
                server.kill()
                assert process.wait(60) == 2
                assert process.stderr is not None and b"live feed ended by itself; its log is" in process.stderr.read()
            elif end == "SIGKILL":
                process.kill()
            else:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 60)


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.xdist_group("kafka")
@pytest.mark.timeout(300)
async def test_C5_a_server_on_kafka_says_where_its_records_come_from(
    kafka: Kafka, empty_redis: Redis, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    values: dict[str, Any] = {
        "BROKER_URL": f"kafka://{kafka.address}",
        "REDIS_URL": empty_redis.address,
        "REDIS_FEED": "1",
    }
    values |= {"HOME": str(tmp_path), "FEED_PORT": str(port), "TOPIC_KOREA": f"korea{uuid.uuid4().hex}"}
    settings = Settings(**{name.lower(): value for name, value in values.items()})
    kafka_topics.create(settings)
    environment = {**os.environ, **{f"COIN_{name}": value for name, value in values.items()}}
    machine = open_machine(settings)
    assert machine is not None

    def server() -> dict[str, str]:
        found = [status for status in statuses(machine, wall()) if status.is_within("server/feed")]
        return found[0].texts if found else {}

    command = [sys.executable, "-m", "coin_platform", "serve", "feed"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            await eventually(lambda: server().get("rung") == "kafka", 90)  # no worker writes to redis
            pair = f"P{uuid.uuid4().hex[:12].upper()}-KRW"
            broker = connect(settings.model_copy(update={"journal_dir": Path("writer")}))
            append_processed(broker, "upbit", pair, offset=7, time=wall())
            broker.close()
            for path in ("exchange", "kafka"):
                async with connect_to(f"ws://127.0.0.1:{port}/ws/{path}?pair={pair}") as client:
                    assert [record["offset"] for record in await records(client, 1)] == [7]
            async with connect_to(f"ws://127.0.0.1:{port}/ws/redis") as client:
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
        finally:
            process.kill()
