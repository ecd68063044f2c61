"""Collectors on two machines with one Kafka and one ZooKeeper, as real processes: stopped, killed, cut off, frozen."""

import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from coin_platform.cluster import tickets
from coin_platform.cluster.zookeeper import ZooKeeper as Door
from coin_platform.model import SECOND, Microseconds
from infra.stack import Service, ZooKeeper
from tests.kit.asia import Asia, events, running
from tests.kit.figures import figure
from tests.kit.history import CLEAN, Stored, check
from tests.kit.proxy import Proxy, Toxics
from tests.kit.waiting import slowness_of_this_machine, until

pytestmark = [pytest.mark.kafka, pytest.mark.zookeeper]
SESSION = 3.0  # seconds
CHANNELS = "ticker,trade"


class Machines:
    """Two machines that may collect the same exchanges: `one`, on which the exchanges run, too, and `two`."""

    def __init__(self, one: Asia, two: Asia, address: str) -> None:
        self.one, self.two, self._address = one, two, address

    def start(self, machine: Asia, *, leads: bool, options: tuple[str, ...] = ()) -> None:
        """Start the collector of a machine, and wait until it leads and has data, or stands by."""
        machine.start("collect", "--region", "asia", *options)
        until(lambda: len(self.line()) == sum("collect" in each.processes for each in (self.one, self.two)), 40)
        if leads:
            until(lambda: self.leader() == machine.processes["collect"].pid, 40)
            machine.until_more()

    def line(self) -> list[tuple[int, int]]:
        """Return process and epoch of the candidates, the leader first."""
        folder = f"/coin/{self.one.settings.deployment}/leader/asia"
        with closing(Door(self._address, SESSION)) as door:
            assert door.wait_connected(10)
            names = [ticket.name for ticket in tickets.queue(door.children(folder))]
            found = [tickets.decode(door.read(f"{folder}/{name}")[0]) for name in names]
        return [(info.process, info.epoch) for info in found if info is not None]

    def leader(self) -> int:
        """Return the process that leads and has told its epoch; 0 if none does."""
        line = self.line()
        return line[0][0] if line and line[0][1] else 0

    def until_epochs(self, count: int) -> list[Stored]:
        """Wait until every source has frames of so many epochs; return all records."""

        feeds = {(source.exchange.name, source.channel) for source in self.one.sources}

        def have() -> bool:
            found = Counter(feed[:2] for feed in {(each.exchange, each.channel, each.epoch) for each in self.frames()})
            return all(found[feed] >= count for feed in feeds)

        until(have, 60)
        return self.one.stored()

    def frames(self) -> list[Stored]:
        return [record for record in self.one.stored() if record.hash is not None]

    def hand_over_seconds(self) -> float:
        """Return the time from the last frame of the first epoch to the first one of the second."""
        epochs = sorted({record.epoch for record in self.frames()})
        last = max(record.time for record in self.frames() if record.epoch == epochs[-2])
        first = min(record.time for record in self.frames() if record.epoch == epochs[-1])
        return (first - last) / SECOND


@pytest.fixture
def machines(kafka: Service, zookeeper: ZooKeeper, tmp_path: Path) -> Iterator[Machines]:
    """Give two machines on which no collector runs yet."""
    with ExitStack() as stack:
        values: dict[str, Any] = {
            "deployment": uuid.uuid4().hex,
            "zookeeper": zookeeper.address,
            "zookeeper_session": SESSION,
        }
        one = stack.enter_context(running(tmp_path / "one", f"kafka://{kafka.address}", CHANNELS, **values))
        (tmp_path / "two").mkdir()
        two = Asia(tmp_path / "two", {}, **{name: value for name, value in one.values.items() if name != "home"})
        stack.enter_context(closing(two.broker))
        stack.callback(_kill_all, two)
        yield Machines(one, two, zookeeper.address)


def assert_nothing_unreported(machines: Machines, *uncounted: str) -> None:
    """Compare what the exchanges sent with what is stored: a loss is a gap, and nothing is there twice.

    `uncounted` are findings that are meant. Gaps may be longer than their holes: the records of a former leader that
    come late end none.
    """
    machines.one.end("simulate")
    for machine in (machines.one, machines.two):
        if "collect" in machine.processes:
            machine.end("collect")
    findings = check(machines.one.sent(), machines.one.stored(), gaps=machines.one.gaps(), served=machines.one.served())
    assert {**findings.counts, **dict.fromkeys(("overreported", *uncounted), 0)} == CLEAN, findings
    for source in machines.one.sources:
        _, rows = events(machines.one, source)
        assert rows and max(rows.values()) == 1, source


@pytest.mark.alone
def test_L1_a_clean_stop_and_a_crash_move_collection_to_the_other_machine(machines: Machines) -> None:
    machines.start(machines.one, leads=True)
    machines.start(machines.two, leads=False)
    machines.one.end("collect")
    machines.until_epochs(2)
    clean = machines.hand_over_seconds()
    machines.start(machines.one, leads=False)
    machines.two.until_more()
    machines.two.kill("collect")
    machines.until_epochs(3)
    crash, slowness = machines.hand_over_seconds(), slowness_of_this_machine()
    figure("L1", "from the last frame to the first one of the other machine, after a clean stop", round(clean, 2), "s")
    figure("L1", f"the same after `kill -9`, with a session of {SESSION:g} s", round(crash, 1), "s")
    assert clean < 2 * slowness and crash < (SESSION + 2) * slowness
    machines.one.until_more()
    assert_nothing_unreported(machines)


@pytest.mark.alone
def test_L2_a_leader_that_is_cut_off_from_zookeeper_has_closed_everything_before_the_other_leads(
    machines: Machines, zookeeper: ZooKeeper
) -> None:
    with Proxy(zookeeper.address) as proxy:
        machines.one.values["zookeeper"] = proxy.address
        machines.start(machines.one, leads=True)
        machines.start(machines.two, leads=False)
        machines.one.until_more()
        proxy.up = proxy.down = Toxics(timeout=0)
        cut = _now()
        machines.until_epochs(2)
        until(lambda: "no longer the leader" in (machines.one.home / "collect.log").read_text())
        proxy.up = proxy.down = Toxics()
        until(lambda: len(machines.line()) == 2, 40)
        stored = machines.one.stored()
        old, new = sorted({record.epoch for record in stored})
        last = max(record.time for record in stored if record.epoch == old)
        first = min(record.time for record in stored if record.epoch == new)
        figure("L2", f"from the cut to the last frame, with a session of {SESSION:g} s", (last - cut) / SECOND, "s")
        assert last < first and last - cut < SESSION * SECOND
        machines.two.until_more()
        assert_nothing_unreported(machines)


@pytest.mark.alone
def test_L3_A3_a_leader_frozen_for_three_sessions_stores_nothing_of_what_it_reads_then(machines: Machines) -> None:
    machines.start(machines.one, leads=True)
    machines.start(machines.two, leads=False)
    frozen = machines.one.processes["collect"]
    frozen.send_signal(signal.SIGSTOP)
    stopped = _now()
    machines.until_epochs(2)
    _sleep_until(stopped + int(3 * SESSION * SECOND))
    frozen.send_signal(signal.SIGCONT)
    until(lambda: "stands by" in (machines.one.home / "collect.log").read_text(), 40)
    machines.two.until_more()
    stored = machines.frames()
    old = min(record.epoch for record in stored)
    last = max(record.time for record in stored if record.epoch == old)
    late = [record for record in stored if record.epoch == old and record.time > stopped + SECOND]
    figure("L3", "frames that a thawed leader stored", len(late), "")
    assert late == [], f"the last one came {(last - stopped) / SECOND:.1f} s after the freeze"
    assert_nothing_unreported(machines, "lost")  # the exchange went on sending to the socket of the frozen leader


def test_F5_L1_a_collector_that_takes_over_on_the_machine_of_the_leader_leaves_no_gap(machines: Machines) -> None:
    machines.start(machines.one, leads=True)
    machines.start(machines.two, leads=False)
    old = machines.one.processes.pop("collect")
    try:
        machines.one.start("collect", "--region", "asia", "--take-over")
        assert old.wait(60) == 0, (machines.one.home / "collect.log").read_text()[-2000:]
    finally:
        old.kill()
    until(lambda: machines.leader() == machines.one.processes["collect"].pid)
    machines.one.until_more()
    assert "leads, with epoch" not in (machines.two.home / "collect.log").read_text()
    assert machines.one.gaps() == []
    assert machines.hand_over_seconds() < 0, "both brought frames for a moment"
    assert_nothing_unreported(machines)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_L4_A20_two_leaders_forced_for_a_minute_give_the_tables_of_one(machines: Machines) -> None:
    for machine in (machines.one, machines.two):
        machine.values |= {"zookeeper": ""}  # each of them always leads
        machine.start("collect", "--region", "asia")
    machines.until_epochs(2)
    for machine in (machines.one, machines.two):
        machine.until_more()
    time.sleep(60)
    machines.one.end("simulate")
    for machine in (machines.one, machines.two):
        machine.end("collect")
    sent, stored = machines.one.sent(), machines.one.stored()
    later = max(record.epoch for record in stored)
    alone = [record for record in stored if record.epoch == later]
    assert check(sent, stored).counts["phantom"] == 0
    for source in machines.one.sources:
        told, rows = events(machines.one, source)
        assert rows and max(rows.values()) == 1, source
        assert told - rows.keys() == set(), f"{source}: stored by one of them, and no row"
    assert len(alone) < len(stored)


def _kill_all(machine: Asia) -> None:
    for process in machine.processes.values():
        process.kill()
        process.wait()


def _now() -> Microseconds:
    return time.time_ns() // 1_000


def _sleep_until(moment: Microseconds) -> None:
    time.sleep(max(0.0, (moment - _now()) / SECOND))
