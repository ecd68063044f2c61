"""Run Apache Kafka on loopback."""

import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from coin_platform.runtime.ports import free_ports
from infra.certificates import Authority
from infra.stack.java_nodes import JavaNodes
from infra.stack.service import StackError, is_listening


class Kafka(JavaNodes):
    """Apache Kafka in KRaft mode. Each node is a broker and a controller."""

    name = "kafka"
    # A small machine: a small heap, one thread for garbage, and a quick start.
    java_options = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
    user, password = (
        "coin",
        "a pass=word; 100%",
    )  # for listeners with SASL; the password has characters that need quotes

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int] | None = None,
        nodes: int = 1,
        *,
        is_proxied: bool = False,
        is_secured: bool = False,
    ) -> None:
        """Use these ports, first those of the brokers, then those of the controllers. The default is free ports.

        1. `is_proxied`: a proxy can stand before each node. The node listens on `hidden` and tells clients `shown`.
        2. `is_secured`, for a single node: the node also listens with each security protocol, on the ports `secured`.
           Its certificates come from `authority`, which has issued `client` for users without a password.
        """
        ports = ports or free_ports(2 * nodes)
        super().__init__(folder, ports[:nodes], nodes)
        self._controllers = list(ports[nodes:])
        self.hidden, self.shown = (free_ports(nodes), free_ports(nodes)) if is_proxied else ([], [])
        names = ("SSL", "SASL_PLAINTEXT", "SASL_SSL") if is_secured else ()
        self.secured = dict(zip(names, free_ports(len(names)), strict=True))
        self.authority = Authority(folder / "certificates") if is_secured else None

    def prepare(self, number: int, java: Sequence[str]) -> list[str]:
        process = self.nodes[number - 1]
        config = process.folder / "server.properties"
        if not (process.folder / "data" / "meta.properties").exists():
            process.folder.mkdir(parents=True, exist_ok=True)
            config.write_text(self._config(number))
            tool = [*java, "kafka.tools.StorageTool", "format", "-t", self._cluster(), "-c", str(config)]
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512") if self.secured else ():
                tool += ["--add-scram", f'{mechanism}=[name="{self.user}",password="{self.password}"]']
            done = subprocess.run(tool, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StackError(f"kafka: {process.folder} cannot be formatted: {done.stdout}{done.stderr}")
        return ["kafka.Kafka", str(config)]

    def is_healthy(self) -> bool:
        if not any(map(is_listening, self.ports)):
            return False  # a KafkaAdminClient that finds no broker leaves a thread and its sockets behind
        try:
            client = KafkaAdminClient(bootstrap_servers=self.address.split(","), bootstrap_timeout_ms=2_000)
        except KafkaError:
            return False
        try:
            return len(client.describe_cluster()["brokers"]) == len(self.nodes)
        except KafkaError:
            return False
        finally:
            client.close()

    def _cluster(self) -> str:
        """Return the id of the cluster. All nodes share it, and it is kept in the folder."""
        path = self.folder / "cluster"
        if not path.exists():
            path.write_text(uuid.uuid4().hex[:22])
        return path.read_text()

    def _config(self, number: int) -> str:
        count, at = len(self.nodes), number - 1
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self._controllers, 1))
        listeners = {"PLAINTEXT": self.ports[at], "CONTROLLER": self._controllers[at]}
        advertised = {"PLAINTEXT": self.ports[at]}
        if self.hidden:
            listeners["PROXIED"], advertised["PROXIED"] = self.hidden[at], self.shown[at]
        listeners |= self.secured
        advertised |= self.secured
        lines: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in advertised.items()),
            "listener.security.protocol.map": ",".join(
                f"{name}:{name if name in self.secured else 'PLAINTEXT'}" for name in listeners
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.nodes[at].folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": count,
            "transaction.state.log.replication.factor": count,
            "transaction.state.log.min.isr": min(2, count),
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": 16 << 20,
            "replica.fetch.max.bytes": 16 << 20,
            "log.retention.check.interval.ms": 1_000,
        }
        if self.authority is not None:
            lines |= self._security(self.authority)
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _security(self, authority: Authority) -> dict[str, object]:
        """Return the lines that secure the listeners: certificates as PEM files, and a user for PLAIN and SCRAM."""
        for name in ("server", "client"):
            authority.issue(name, "DNS:localhost,IP:127.0.0.1")
        store = authority.folder / "server.both.pem"
        store.write_text("".join((authority.folder / f"server.{part}").read_text() for part in ("key", "pem")))
        modules = "org.apache.kafka.common.security"
        lines: dict[str, object] = {}
        for listener in self.secured:
            begin = f"listener.name.{listener.lower()}."
            if listener.endswith("SSL"):
                lines |= {f"{begin}ssl.keystore.type": "PEM", f"{begin}ssl.keystore.location": store}
                lines |= {f"{begin}ssl.truststore.type": "PEM", f"{begin}ssl.truststore.location": authority.ca}
            if listener == "SSL":
                lines[f"{begin}ssl.client.auth"] = "required"
            if listener.startswith("SASL"):
                lines[f"{begin}sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
                plain = f'{modules}.plain.PlainLoginModule required user_{self.user}="{self.password}";'
                lines[f"{begin}plain.sasl.jaas.config"] = plain
                for mechanism in ("scram-sha-256", "scram-sha-512"):
                    lines[f"{begin}{mechanism}.sasl.jaas.config"] = f"{modules}.scram.ScramLoginModule required;"
        return lines
