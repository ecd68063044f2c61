"""Run Apache ZooKeeper on loopback, one node or an ensemble."""

import socket
from collections.abc import Sequence
from pathlib import Path

from coin_platform.runtime.ports import free_ports
from infra.stack.java_nodes import JavaNodes

TICK_MILLISECONDS = 500  # sessions of 2 to 20 ticks are granted: 1 s to 10 s
_ANSWER_SECONDS = 2.0  # for a node to answer a question about itself


class ZooKeeper(JavaNodes):
    """Apache ZooKeeper. With three nodes it goes on without one of them."""

    name = "zookeeper"
    java_options = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

    def __init__(self, folder: Path, ports: Sequence[int] | None = None, nodes: int = 1) -> None:
        """Use these ports for clients; the default is free ports. The nodes reach each other at free ports."""
        super().__init__(folder, ports or free_ports(nodes), nodes)
        peers = free_ports(2 * nodes) if nodes > 1 else []
        self._peers = list(zip(peers[::2], peers[1::2], strict=True))

    def prepare(self, number: int, java: Sequence[str]) -> list[str]:
        process = self.nodes[number - 1]
        data = process.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{number}")
        config = process.folder / "zoo.cfg"
        config.write_text(self._config(number))
        return ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]

    def is_healthy(self) -> bool:
        """Return whether every node serves. A node that says `imok` may serve nobody, so it is asked for its mode."""
        return all("Mode:" in answer(port, "srvr") for port in self.ports)

    def _config(self, number: int) -> str:
        lines: dict[str, object] = {
            "tickTime": TICK_MILLISECONDS,
            "dataDir": self.nodes[number - 1].folder / "data",
            "clientPort": self.ports[number - 1],
            "clientPortAddress": "127.0.0.1",  # the default is all addresses
            "admin.enableServer": "false",  # an HTTP server on all addresses
            "4lw.commands.whitelist": "srvr,ruok,mntr",
            "maxClientCnxns": 0,
        }
        if self._peers:
            lines |= {"initLimit": 20, "syncLimit": 6}  # ticks
            lines |= {f"server.{node}": f"127.0.0.1:{one}:{two}" for node, (one, two) in enumerate(self._peers, 1)}
        return "".join(f"{name}={value}\n" for name, value in lines.items())


def answer(port: int, question: str) -> str:
    """Return what the node at a port of 127.0.0.1 answers to a question of four letters; nothing if it does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS) as connection:
            connection.sendall(question.encode())
            parts = iter(lambda: connection.recv(4096), b"")
            return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
