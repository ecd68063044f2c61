"""The ZooKeeper of the stack serves on loopback only, and says so only when it serves."""

import signal
from pathlib import Path

import psutil
import pytest

from infra.stack import ZooKeeper
from infra.stack.zookeeper import answer
from tests.kit.waiting import until

pytestmark = pytest.mark.zookeeper


def test_one_node_serves_on_loopback_only(zookeeper: ZooKeeper) -> None:
    assert zookeeper.is_healthy() and "Mode: standalone" in answer(zookeeper.ports[0], "srvr")
    assert (pid := zookeeper.nodes[0].pid) is not None
    assert {socket.laddr.ip for socket in psutil.Process(pid).net_connections()} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_three_nodes_go_on_without_one_and_two_dead_ones_are_seen(tmp_path: Path, zookeeper: ZooKeeper) -> None:
    with ZooKeeper(tmp_path, nodes=3) as ensemble:
        assert isinstance(ensemble, ZooKeeper)
        modes = ["leader" if "Mode: leader" in answer(port, "srvr") else "follower" for port in ensemble.ports]
        assert sorted(modes) == ["follower", "follower", "leader"]
        followers = [index for index, mode in enumerate(modes) if mode == "follower"]
        ensemble.nodes[followers[0]].end(signal.SIGKILL)
        assert "Mode: leader" in answer(ensemble.ports[modes.index("leader")], "srvr")
        ensemble.nodes[followers[1]].end(signal.SIGKILL)
        survivor = ensemble.ports[modes.index("leader")]
        until(lambda: "not currently serving" in answer(survivor, "srvr"), 30)
        assert answer(survivor, "ruok") == "imok" and not ensemble.is_healthy()
        for number in (1, 2, 3):
            ensemble.start_node(number)
        until(ensemble.is_healthy, 60)
