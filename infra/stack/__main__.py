"""`python -m infra.stack`: run Apache Kafka, an S3 server (SeaweedFS), Redis and ZooKeeper on loopback, without Docker.

`up`, `down` and `status` work on the services under `data/stack`. Tests and the demo start their own services.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.stack.addresses import settings
from infra.stack.kafka import Kafka
from infra.stack.redis import Redis
from infra.stack.seaweedfs import SeaweedFS
from infra.stack.service import ROOT, Service, StackError
from infra.stack.zookeeper import ZooKeeper


def _up(services: list[Service], folder: Path) -> int:
    for service in services:
        started = time.monotonic()
        service.start()
        print(f"{service.name} on {service.address}, {time.monotonic() - started:.1f} s", flush=True)
    lines = [f"{name}={value}" for name, value in settings(services).items()]
    (folder / "settings.env").write_text("\n".join([*lines, ""]))
    print(f"to use the services: set -a; . {folder / 'settings.env'}; set +a")
    return 0


def _down(services: list[Service], folder: Path) -> int:
    for service in reversed(services):
        service.stop()
        print(f"{service.name} ended; its data stay in {service.folder}")
    return 0


def _hold(services: list[Service], folder: Path) -> int:
    """Start the services, and end them at Ctrl-C. The demo uses this, so that the services end with it."""
    try:
        _up(services, folder)
        signal.pause()
    except KeyboardInterrupt:
        print("ending", flush=True)
    finally:
        _down(services, folder)
    return 0


def _status(services: list[Service], folder: Path) -> int:
    states = {service: all(process.pid for process in service.processes) for service in services}
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
    """Run one command. Return the exit code."""
    parser = argparse.ArgumentParser("infra.stack", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    names = ("kafka", "seaweedfs", "redis", "zookeeper")
    parser.add_argument("services", nargs="*", choices=(*names, []), help="all by default")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "stack", help="folder of their data")
    parser.add_argument("--kafka-port", type=int, default=9092, help="the controller uses the next port")
    parser.add_argument("--s3-port", type=int, default=8333, help="the other parts use the next nine ports")
    parser.add_argument("--redis-port", type=int, default=6379)
    parser.add_argument("--zookeeper-port", type=int, default=2181)
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    known = [
        Kafka(folder / "kafka", [chosen.kafka_port, chosen.kafka_port + 1]),
        SeaweedFS(folder / "seaweedfs", chosen.s3_port),
        Redis(folder / "redis", chosen.redis_port),
        ZooKeeper(folder / "zookeeper", [chosen.zookeeper_port]),
    ]
    services = [service for service in known if not chosen.services or service.name in chosen.services]
    try:
        return COMMANDS[chosen.command](services, folder)
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
