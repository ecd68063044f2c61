"""A full disk: what waits for Kafka is given up oldest first and recorded, the local log ends with a line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.spool import losses, waiting
from coin_platform.runtime.ports import free_ports
from infra.stack import Kafka
from tests.kit.delivery import stored
from tests.kit.topics import fresh_topic
from tests.kit.waiting import slowness_of_this_machine

MIB = 1 << 20

SPOOL = """
import json, logging, resource, sys, time
from pathlib import Path
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.errors import DeliveryError
from coin_platform.model import Kind
from coin_platform.records import Header

logging.basicConfig(level=logging.ERROR)
servers, spool, topic, limit, most = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
broker = KafkaBroker([servers], spool, patience=0.2)
slowest = 0.0
for number in range(most):
    header = Header(Kind.SOCKET, 1, "ticker-0-a", number + 1, time.time_ns() // 1000).pack()
    before = time.monotonic()
    broker.append(topic, 0, header, b"%d " % number + bytes(1_000))
    slowest = max(slowest, time.monotonic() - before)
    time.sleep(0.0003)
try:
    broker.close()
except DeliveryError as error:
    print(json.dumps({"slowest": slowest, "error": str(error)}), flush=True)
"""


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    """Mount a disk of 1 MB, which only root may; elsewhere a named skip."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tiny disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # readers keep their files open


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.kafka
@pytest.mark.alone
@pytest.mark.parametrize("disk", ["file size", "tmpfs"])
def test_S8_A16_a_full_disk_stops_nobody_and_what_it_costs_is_recorded(kafka: Kafka, tmp_path: Path, disk: str) -> None:
    topic, spool, most = fresh_topic(kafka), tmp_path / "spool", 20_000
    [nobody] = free_ports(1)
    with tiny_disk(spool) if disk == "tmpfs" else nullcontext():
        done = run(SPOOL, f"127.0.0.1:{nobody}", spool, topic, MIB if disk == "file size" else 0, most)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["slowest"] < 0.2 * slowness_of_this_machine(), "an append never waits"
        assert f"{topic}[0]: journal {spool}" in done.stderr
        assert "free space on that disk" in report["error"]
        lost = list(losses(spool))
        [(_, left)] = waiting(spool).items()
        assert {loss.cause for loss in lost} == {"disk_full"}
        assert sum(loss.records for loss in lost) + left == most, "nothing is gone unrecorded"
        assert left > 100
        if disk == "tmpfs":
            subprocess.run(["mount", "-o", "remount,size=64m", str(spool)], check=True)
        with closing(KafkaBroker([kafka.address], spool, patience=20)) as broker:
            broker.claim(topic, 0)
            assert broker.flush()
            numbers = stored(broker, topic)
        assert len(numbers) == left
        assert numbers == sorted(set(numbers)), "in order, once"
        assert numbers[0] > 0, "the oldest went first"
