"""Run the nodes of a service that runs on Java."""

import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from infra.stack.maven_jars import jars
from infra.stack.service import ROOT, Process, Service, StackError


class JavaNodes(Service):
    """A service of one or more nodes. Each node is a Java process with a folder and a port of its own."""

    java_options: Sequence[str]

    def __init__(self, folder: Path, ports: Sequence[int], nodes: int) -> None:
        """`ports` are those for clients, one for each node."""
        super().__init__(folder)
        self.ports = list(ports)
        self.nodes = [Process(folder / f"node-{number}") for number in range(1, nodes + 1)]

    @property
    def processes(self) -> list[Process]:
        return self.nodes

    @property
    def address(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def launch(self) -> None:
        for number in range(1, len(self.nodes) + 1):
            self.start_node(number)

    def start_node(self, number: int) -> None:
        """Start one node, without waiting for it, if it does not run. The first node is 1."""
        process = self.nodes[number - 1]
        if process.pid is not None:
            return
        java = shutil.which("java")
        if java is None:
            raise StackError(f"{self.name} needs Java 17 or later: install openjdk-17-jre-headless")
        log4j = ROOT / "infra" / self.name / "log4j2.properties"
        base = [java, *self.java_options, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars(self.name)}/*"]
        process.start([*base, *self.prepare(number, base)])

    @abstractmethod
    def prepare(self, number: int, java: Sequence[str]) -> list[str]:
        """Make the folder of a node ready, and return its class and arguments. `java` runs other classes, too."""
