"""`coin serve` as a process: two addresses, two processes, one end."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coin_platform.broker import LocalBroker
from coin_platform.runtime.ports import free_ports
from infra.stack import is_listening
from tests.kit.feed import append_processed
from tests.kit.feed_server import connect_to, records
from tests.kit.waiting import until


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
