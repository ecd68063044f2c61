"""Kafka away for long, at full load: memory, the backlog and the first acknowledgement keep to what is promised."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from coin_platform.broker.kafka import KafkaBroker
from infra.stack import ROOT, Kafka
from tests.kit.delivery import first_seen, stored
from tests.kit.figures import figure
from tests.kit.topics import fresh_topic
from tests.kit.waiting import slowness_of_this_machine, until

MIB = 1 << 20
RATE, SIZE = 5_000, 500


class State(NamedTuple):
    """What a writer says of itself."""

    appended: int
    waiting: int
    slowest: float  # seconds of an append


class WriterProcess:
    """A writer in a process of its own, so that its memory is its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of the process so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def state(self) -> State:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self._read()

    def end(self) -> State:
        assert self.process.stdin is not None
        self.process.stdin.close()
        state = self._read()
        assert self.process.wait(30) == 0
        return state

    def _read(self) -> State:
        assert self.process.stdout is not None
        appended, waiting, slowest = self.process.stdout.readline().split()
        return State(int(appended), int(waiting), float(slowest))


@contextmanager
def writing(kafka: Kafka, spool: Path, topic: str) -> Iterator[WriterProcess]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.kit.delivery", kafka.address, str(spool), topic]
    with subprocess.Popen(
        [*command, str(RATE), str(SIZE)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield WriterProcess(process)
        finally:
            process.kill()


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.kafka
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seconds", [60, 600])
def test_K1_A4_an_outage_at_full_load_keeps_to_its_bounds(kafka: Kafka, tmp_path: Path, seconds: int) -> None:
    topic, condition = fresh_topic(kafka), f"after {seconds} s without broker at {RATE:,} records/s of {SIZE} B"
    with (
        closing(KafkaBroker([kafka.address], tmp_path / "witness", patience=1)) as witness,
        writing(kafka, tmp_path / "spool", topic) as writer,
    ):
        until(lambda: witness.end_offset(topic, 0) > 5 * RATE)
        memory = writer.memory
        try:
            kafka.stop()
            stopped = time.monotonic()
            peak = memory
            while time.monotonic() - stopped < seconds:
                time.sleep(0.5)
                peak = max(peak, writer.memory)
            away = writer.state()
            assert away.waiting > 0.95 * RATE * seconds
            kafka.launch()
            until(lambda: accepts(kafka.ports[0]), 60)
            accepted, slowness = time.monotonic(), slowness_of_this_machine()
            taken = away.appended - away.waiting

            def is_acknowledged() -> bool:
                now = writer.state()
                return now.appended - now.waiting > taken

            until(is_acknowledged)
            acknowledged = time.monotonic() - accepted
        finally:
            kafka.start()
        backlog, began, busy = writer.state().waiting, time.monotonic(), writer.cpu_seconds
        until(lambda: writer.state().waiting < RATE, 40 * seconds)
        drained, busy = time.monotonic() - began, writer.cpu_seconds - busy
        peak = max(peak, writer.memory)
        end = writer.end()
        assert end.waiting == 0
        assert first_seen(stored(witness, topic)) == list(range(end.appended))
    figure("K1", f"memory grew by {condition}", round((peak - memory) / MIB), "MiB")
    figure("K1", f"first acknowledgement {condition}", round(acknowledged, 2), "s")
    figure("K1", f"of the live rate sent while draining {condition}", round(backlog / drained / RATE + 1, 1), "times")
    figure("K1", f"slowest append {condition}", round(1_000 * end.slowest), "ms")
    assert peak - memory <= 256 * MIB
    assert acknowledged <= 3 * slowness
    assert (backlog / drained + RATE >= 2 * RATE) or (backlog + RATE * drained) / busy >= 2 * RATE, (
        "of its own CPU time"
    )
