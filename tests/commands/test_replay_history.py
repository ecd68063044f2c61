"""`coin replay --serve`: what the lake holds, as the live feed."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest

from coin_platform.client import connect
from coin_platform.model import Channel
from coin_platform.runtime.ports import free_ports
from tests.kit.platform import FIRST, Platform, recorded
from tests.kit.waiting import until

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:01")


def test_a_client_gets_the_past_as_it_gets_the_present_and_the_deployment_is_not_touched(platform: Platform) -> None:
    platform.time = FIRST.start
    platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))
    done = platform.coin("lake", "backfill", *RANGE)
    assert done.exit_code == 0, done.output
    rows = platform.opened().scan("ticker", exchanges=["upbit"]).select("offset", "index").collect().rows()
    files = {path for path in platform.home.rglob("*") if path.is_file()}
    api, feed = free_ports(2)
    place = {"COIN_SERVE_PORT": str(api), "COIN_FEED_PORT": str(feed), "COIN_LAKE_URL": "file:data/lake"}
    command = [sys.executable, "-m", "coin_platform", "replay", "--serve", *RANGE, "--speed", "0.002"]

    async def read() -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []
        async with asyncio.timeout(120), connect(f"http://127.0.0.1:{api}", types=["ticker"]) as entries:
            async for entry in entries:
                if entry["type"] == "ticker":
                    told.append((entry["offset"], entry["index"]))
                if len(told) == len(rows):
                    break
        return told

    with subprocess.Popen(command, env={**os.environ, **place}, cwd=platform.home, stderr=subprocess.PIPE) as process:
        try:
            assert sorted(asyncio.run(read())) == sorted(rows)
            until(lambda: b"BTC-KRW" in answer_of(f"http://127.0.0.1:{api}/api/latest/upbit"), 60)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 60)
    new = {path.relative_to(platform.home) for path in platform.home.rglob("*") if path.is_file()} - {
        path.relative_to(platform.home) for path in files
    }
    assert {path.parts[:2] for path in new} <= {("data", "logs")}


def answer_of(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "write the folder of the recordings, or --serve and --from"),
        (["--serve"], "--serve needs --from"),
        (["folder", "--serve", "--from", "2026-11-02T03:00"], "leave out the folder"),
        (["folder", "--from", "2026-11-02T03:00"], "belong to --serve"),
        (["folder", "--speed", "0"], "--speed 0: write a number above 0"),
    ],
)
def test_what_makes_no_sense_is_one_line(platform: Platform, words: list[str], line: str) -> None:
    done = platform.coin("replay", *words)
    assert done.exit_code != 0 and line in str(done.exception or done.output)
