"""Who may collect: always on one machine; with ZooKeeper the first in the queue; with COIN_FAILSAFE also without it."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coin_platform.cluster.elected import ElectedLeader
from coin_platform.cluster.leader import SEATS, AlwaysLeader, Leadership, open_leadership
from coin_platform.cluster.term import Term
from coin_platform.errors import ClusterError, PartitionBusy
from coin_platform.journal.lock import WriterSeat
from coin_platform.runtime.ports import free_ports
from coin_platform.settings import Settings
from infra.stack import ZooKeeper
from tests.kit.proxy import Proxy
from tests.kit.waiting import until

SESSION = 3.0


class Machines:
    """Machines of one deployment, each with a COIN_HOME of its own."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address, self._deployment = folder, address, uuid.uuid4().hex
        self._stack = ExitStack()

    def leadership(self, name: str, *, guest: bool = False, **values: object) -> Leadership:
        """Return the leadership of a process of a machine."""
        known = {"zookeeper": self._address, "zookeeper_session": SESSION, **values}
        settings = Settings(home=self._folder / name, deployment=self._deployment, **known)  # type: ignore[arg-type]
        return self._stack.enter_context(closing(open_leadership(settings, "korea", guest=guest)))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def machines(zookeeper: ZooKeeper, tmp_path: Path) -> Iterator[Machines]:
    """Give machines that share a ZooKeeper."""
    with closing(Machines(tmp_path, zookeeper.address)) as made:
        yield made


def begun(leadership: Leadership, least: int = 5) -> Term:
    """Wait until a leadership begins a term."""
    terms: list[Term] = []

    def has_begun() -> bool:
        try:
            terms.extend(term for term in [leadership.begin(least)] if term is not None)
        except ClusterError:
            return False
        return bool(terms)

    until(has_begun)
    return terms[0]


def said(leadership: Leadership) -> tuple[str, str]:
    """Return state and reason of its status."""
    (status,) = leadership.reports()
    assert status.name == "leader/korea"
    return status.state, status.reason


def test_without_zookeeper_a_machine_always_collects(tmp_path: Path) -> None:
    leadership = open_leadership(Settings(home=tmp_path), "korea")
    assert isinstance(leadership, AlwaysLeader)
    term = leadership.begin(7)
    leadership.keep(term)
    assert term.epoch == 7 and term.lasts() and leadership.may_publish() and leadership.reports() == []
    leadership.end(term)
    leadership.close()


@pytest.mark.zookeeper
def test_L1_the_second_machine_stands_by_and_says_who_leads_then_leads_with_a_higher_epoch(machines: Machines) -> None:
    first = machines.leadership("one")
    term = begun(first, 1_000)
    second = machines.leadership("two")
    until(lambda: second.begin(5) is None and said(second)[1].endswith("leads with epoch 1000"))
    assert said(second) == ("standby", f"process {os.getpid()} of {os.uname().nodename} leads with epoch 1000")
    assert said(first) == ("leading", "") and first.may_publish() and second.may_publish()
    first.end(term)
    first.close()
    later = begun(second)
    assert later.epoch == 1_001 and later.lasts() and not term.lasts()


@pytest.mark.zookeeper
def test_a_term_that_was_lost_stays_over_and_its_machine_waits_behind_the_others(machines: Machines) -> None:
    first = machines.leadership("one")
    assert isinstance(first, ElectedLeader)
    term = begun(first)
    second = machines.leadership("two")
    until(lambda: second.begin(5) is None and "leads" in said(second)[1])
    first._election.resign("a test")
    assert not term.lasts()
    first.end(term)
    later = begun(second)
    until(lambda: first.begin(5) is None and said(first)[0] == "standby")
    assert later.epoch > term.epoch and not term.lasts() and later.lasts()


@pytest.mark.zookeeper
def test_L2_A18_without_zookeeper_nobody_collects_unless_the_settings_say_that_there_is_only_one(
    zookeeper: ZooKeeper, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with closing(Machines(tmp_path, address)) as machines:
        careful = machines.leadership("one")
        until(lambda: careful.begin(5) is None and said(careful)[0] == "cut off")
        assert said(careful)[1].endswith("look at it and the network; nobody may collect without it")
        assert not careful.may_publish()
        alone = machines.leadership("two", failsafe="single")
        term = begun(alone)
        assert term.epoch == 5 and term.lasts() and alone.may_publish()
        assert said(alone)[0] == "leading" and said(alone)[1].endswith("collecting on, as COIN_FAILSAFE says")


@pytest.mark.zookeeper
def test_L2_A18_a_failsafe_term_outlives_a_lost_session_and_ends_when_another_machine_leads(
    zookeeper: ZooKeeper, tmp_path: Path
) -> None:
    with Proxy(zookeeper.address) as proxy, closing(Machines(tmp_path, zookeeper.address)) as machines:
        failsafe = machines.leadership("one", zookeeper=proxy.address, failsafe="single")
        assert isinstance(failsafe, ElectedLeader)
        term = begun(failsafe)
        proxy.is_down = True
        until(lambda: said(failsafe) == ("leading", said(failsafe)[1]) and "COIN_FAILSAFE" in said(failsafe)[1])
        until(lambda: failsafe._election.silence_seconds > 2 * SESSION)  # its session has ended
        proxy.is_down = False
        until(lambda: failsafe._election.ticket is not None)
        assert term.lasts()
        failsafe.keep(term)
        assert failsafe._election.epoch == term.epoch and term.lasts()
        proxy.is_down = True
        until(lambda: failsafe._election.silence_seconds > 2 * SESSION)
        other = machines.leadership("two")
        assert begun(other).epoch > term.epoch
        proxy.is_down = False
        until(lambda: not term.lasts())


@pytest.mark.zookeeper
def test_L2_A18_a_failsafe_term_ends_if_another_machine_led_meanwhile_and_left(
    zookeeper: ZooKeeper, tmp_path: Path
) -> None:
    with Proxy(zookeeper.address) as proxy, closing(Machines(tmp_path, zookeeper.address)) as machines:
        failsafe = machines.leadership("one", zookeeper=proxy.address, failsafe="single")
        assert isinstance(failsafe, ElectedLeader)
        proxy.is_down = True
        term = begun(failsafe)
        other = machines.leadership("two")
        assert begun(other, 500).epoch == 500
        other.close()
        proxy.is_down = False
        until(lambda: failsafe._election.ticket is not None)
        failsafe.keep(term)
        assert not term.lasts()
        failsafe.end(term)
        assert begun(failsafe).epoch > 500


@pytest.mark.zookeeper
def test_a_second_process_of_one_home_is_refused_unless_it_takes_over(machines: Machines) -> None:
    machines.leadership("one")
    with pytest.raises(PartitionBusy, match="end that one first, or start this one with --take-over"):
        machines.leadership("one")


@pytest.mark.zookeeper
def test_a_successor_ends_the_process_before_it_that_stands_by(machines: Machines, tmp_path: Path) -> None:
    """Who leads ends by the take-over of its feeds. Who stands by has none."""
    seat = tmp_path / "one" / SEATS / "korea"
    code = (
        f"from coin_platform.journal.lock import WriterSeat; from pathlib import Path; import time\n"
        f"seat = WriterSeat(Path({str(seat)!r})); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as before:
        try:
            assert before.stdout is not None and before.stdout.readline() == b"ready\n"
            leader = machines.leadership("two")
            begun(leader)
            successor = machines.leadership("one", guest=True)
            until(lambda: successor.begin(5) is None and before.poll() is not None)
            assert before.returncode == -signal.SIGTERM
            leader.close()
            begun(successor)
        finally:
            before.kill()
    successor.close()
    assert WriterSeat(seat).release()
