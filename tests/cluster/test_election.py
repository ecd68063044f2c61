"""Candidates on a real ZooKeeper that is cut off, stopped, rebuilt and tampered with: never do two lead."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from coin_platform.cluster.election import LIMIT_SHARE, Election
from coin_platform.cluster.zookeeper import ZooKeeper as Door
from coin_platform.errors import ZooKeeperUnreachable
from infra.stack import ZooKeeper
from tests.kit.figures import figure
from tests.kit.proxy import Proxy, Toxics
from tests.kit.waiting import until

pytestmark = pytest.mark.zookeeper
SESSION = 3.0  # seconds
Start = Callable[..., Election]


@pytest.fixture
def folder() -> str:
    """Give a group that no other test uses."""
    return f"/coin/{uuid.uuid4().hex}/leader/korea"


@pytest.fixture
def start(zookeeper: ZooKeeper, folder: str) -> Iterator[Start]:
    """Give what starts a candidate, at an address or at the server itself."""
    with ExitStack() as stack:

        def begin(address: str = "", **options: object) -> Election:
            election = Election(address or zookeeper.address, folder, SESSION, **options)  # type: ignore[arg-type]
            stack.callback(election.close)
            return election

        yield begin


class NeverTwo:
    """Watches candidates all the time: no two of them may lead at once. `publishing`: no two may lead and publish."""

    def __init__(self, *elections: Election, publishing: bool = False) -> None:
        self._elections, self._publishing, self.looks, self.both = elections, publishing, 0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._end.wait(0.002):
            self.looks += 1
            leaders = [election for election in self._elections if election.ticket]
            self.both += sum(election.may_publish or not self._publishing for election in leaders) > 1

    def __enter__(self) -> "NeverTwo":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        assert self.looks > 0 and self.both == 0, f"two led at once in {self.both} of {self.looks} looks"


def leads(election: Election) -> Callable[[], bool]:
    return lambda: election.ticket is not None


def waits(election: Election) -> Callable[[], bool]:
    return lambda: election.sees_another_leader


def test_L1_a_leader_that_leaves_is_followed_at_once(start: Start) -> None:
    first = start()
    until(leads(first))
    second = start()
    until(waits(second))
    assert second.may_publish, "what waits on the disk of one who stands by is sent"
    with NeverTwo(first, second):
        first.close()
        figure("L1", "from a clean stop to the next leader, the lock alone", round(until(leads(second)), 3), "s")


def test_L2_a_leader_that_is_cut_off_publishes_nothing_more_and_steps_down_before_another_leads(
    zookeeper: ZooKeeper, start: Start
) -> None:
    with Proxy(zookeeper.address) as proxy:
        cut_off = start(proxy.address)
        until(leads(cut_off))
        other = start()
        until(waits(other))
        ticket = cut_off.ticket
        with NeverTwo(cut_off, other):
            proxy.up = proxy.down = Toxics(timeout=0)
            held = until(lambda: not cut_off.may_publish)
            assert other.ticket is None, "the session lasts: the leader may come back in time"
            until(leads(other))
            assert cut_off.ticket is None
            figure("L2", "from the cut to the last moment of publishing", round(held, 1), "s")
            proxy.up = proxy.down = Toxics()
            until(waits(cut_off))
        assert cut_off.ticket is None and ticket is not None
        assert cut_off.may_publish, "it is in touch again, and its disk may be sent"


def test_L2_a_leader_that_is_in_touch_again_in_time_goes_on(zookeeper: ZooKeeper, start: Start) -> None:
    with Proxy(zookeeper.address) as proxy:
        election, other = start(proxy.address), None
        until(leads(election))
        ticket, other = election.ticket, start()
        until(waits(other))
        proxy.reset()
        until(lambda: election.may_publish and proxy.accepted > 1)
        assert election.ticket is ticket


def test_L3_a_clock_that_stood_still_proves_nothing(start: Start) -> None:
    """A process that was frozen finds that its last proof is old, before anybody else tells it."""
    passed = 0.0

    def clock() -> float:
        return passed

    election = start(clock=clock)
    until(leads(election))
    passed = SESSION * LIMIT_SHARE - 0.01
    if election.ticket is None:  # the next proof came
        passed = 0.0
    passed += 3 * SESSION
    assert election.ticket is None and not election.may_publish


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_L2_A18_while_zookeeper_is_gone_nobody_leads_and_afterwards_one_does(
    tmp_path: Path, folder: str, is_rebuilt: bool
) -> None:
    server = ZooKeeper(tmp_path / "server")
    with server, ExitStack() as stack:
        pair = [Election(server.address, folder, SESSION) for _ in range(2)]
        for election in pair:
            stack.callback(election.close)
        until(lambda: any(election.ticket for election in pair) and any(waits(election)() for election in pair))
        leader = next(election for election in pair if election.ticket)
        epoch = leader.take_epoch(100, 0)
        until(lambda: all(election.leader and election.leader.epoch == epoch for election in pair))
        with NeverTwo(*pair):
            server.stop()
            until(lambda: not any(election.may_publish for election in pair))
            until(lambda: all(election.is_silent for election in pair))
            assert not any(election.ticket for election in pair)
            assert "cannot be reached" in leader.problem
            with pytest.raises(ZooKeeperUnreachable):
                leader.take_epoch(0, 0)
            if is_rebuilt:
                server = ZooKeeper(tmp_path / "another", server.ports)
                stack.callback(server.stop)
            server.start()
            until(lambda: any(election.ticket for election in pair))
        leader = next(election for election in pair if election.ticket)
        assert leader.take_epoch(epoch + 1, 0) == epoch + 1


def test_L2_A18_a_session_that_ends_takes_the_place_with_it(zookeeper: ZooKeeper, start: Start) -> None:
    first = start()
    until(leads(first))
    second = start()
    until(waits(second))
    with NeverTwo(first, second, publishing=True):
        ended = KazooClient(zookeeper.address, client_id=first._zookeeper._client.client_id)
        ended.start()
        ended.stop()
        ended.close()
        until(leads(second))
        until(waits(first))


def test_L2_A18_a_slow_zookeeper_changes_no_leader(zookeeper: ZooKeeper, start: Start) -> None:
    with Proxy(zookeeper.address) as proxy:
        slow = start(proxy.address)
        until(leads(slow))
        ticket, other = slow.ticket, start()
        proxy.down = Toxics(latency=150)
        before = proxy.passed["down"]
        until(lambda: proxy.passed["down"] > before + 1_000)
        assert slow.ticket is ticket and other.ticket is None


def test_L1_A19_a_leader_whose_node_is_deleted_by_hand_steps_down_and_one_leads(
    zookeeper: ZooKeeper, start: Start, folder: str
) -> None:
    first = start()
    until(leads(first))
    second = start()
    until(waits(second))
    assert first.ticket is not None
    with closing(Door(zookeeper.address, SESSION)) as hand:
        assert hand.wait_connected(10)
        hand.delete(f"{folder}/{first.ticket.name}")
        until(leads(second))
        until(waits(first))
        assert second.ticket is not None
        until(lambda: len(hand.children(folder)) == 2)


def test_a_leader_that_resigns_goes_to_the_end_of_the_queue(start: Start) -> None:
    first = start()
    until(leads(first))
    second = start()
    until(waits(second))
    with NeverTwo(first, second):
        first.resign("it says so")
        until(leads(second))
        until(waits(first))


def test_a_successor_of_this_machine_inherits_the_place_of_its_predecessor(start: Start) -> None:
    leader = start(process=11)
    until(leads(leader))
    other = start(process=12)
    until(waits(other))
    successor = start(process=13, inherits_from=lambda: 11)
    until(leads(successor))
    assert leader.ticket and successor.ticket and not other.ticket
    assert successor.take_epoch(0, 0) > leader.epoch
    leader.close()
    until(lambda: other.leader is not None and other.leader.process == 13)
    assert successor.ticket and not other.ticket
    successor.close()
    until(leads(other))


def test_epochs_of_racing_candidates_are_all_different_and_rise(start: Start) -> None:
    taken: list[list[int]] = [[], []]
    elections = [start(), start()]
    until(lambda: all(election.is_in_queue for election in elections))

    def take(number: int) -> None:
        taken[number] = [elections[number].take_epoch(50, 0) for _ in range(30)]

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == list(range(50, 110))
    assert all(sorted(epochs) == epochs for epochs in taken)
    assert elections[0].announce_epoch(7, 0) == 109, "a term that began alone learns that there were later ones"
    assert elections[0].announce_epoch(200, 0) == 200
    assert elections[1].take_epoch(0, 0) == 201


def test_the_session_that_is_granted_counts_and_not_the_one_that_is_asked_for(
    zookeeper: ZooKeeper, folder: str
) -> None:
    with closing(Election(zookeeper.address, folder, 60.0)) as election:
        until(leads(election))
        assert election.limit_seconds == pytest.approx(LIMIT_SHARE * 10.0)


def test_the_log_of_kazoo_is_errors_alone(zookeeper: ZooKeeper, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(1),
        Proxy(zookeeper.address) as proxy,
        closing(Election(proxy.address, folder, SESSION)) as election,
    ):
        until(leads(election))
        proxy.is_down = True
        until(lambda: not election.may_publish)
    assert not [record for record in caplog.records if record.name.startswith("kazoo")]
    assert "passw" not in caplog.text
