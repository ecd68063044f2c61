"""The one door to ZooKeeper: each call is answered, or fails, within a second."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

from coin_platform.errors import NodeMissing, VersionConflict, ZooKeeperUnreachable

CALL_SECONDS = 1.0  # for ZooKeeper to answer a call
CLOSE_SECONDS = 3.0  # for the end of a session; without an answer it expires by itself
_BLATHER = 5  # kazoo's own level, at which it tells what session was granted


class _KazooLog(logging.Logger):
    """What kazoo logs. Errors alone are handed on: the other lines are many, and one has the password of the session.

    That line is also the only place where kazoo tells which session ZooKeeper granted.
    """

    def __init__(self, on_granted: Callable[[float], None]) -> None:
        super().__init__("kazoo.client", _BLATHER)
        self._on_granted = on_granted
        self._errors = logging.getLogger("kazoo.client")

    def handle(self, record: logging.LogRecord) -> None:
        """Take note of the granted session, and hand on an error."""
        if str(record.msg).startswith("Session created") and isinstance(record.args, tuple):
            self._on_granted(float(str(record.args[2])) / 1000)
        if record.levelno >= logging.ERROR:
            self._errors.handle(record)


class ZooKeeper:
    """A session with ZooKeeper, which connects again by itself for ever. Any thread may call it.

    kazoo's plain calls wait for ever while ZooKeeper has no quorum. So each answer is waited for here, with a limit.
    """

    def __init__(self, hosts: str, session_seconds: float, on_change: Callable[[bool], None] = lambda _: None) -> None:
        """Connect in the background. ZooKeeper may grant another length of session than the one that is asked for.

        `on_change` is told when the connection is there and when it breaks, on a thread that must not wait.
        """
        self.hosts = hosts
        self.session_seconds = session_seconds
        self._on_change = on_change
        self._client = KazooClient(
            hosts,
            timeout=session_seconds,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=1),
            logger=_KazooLog(self._note_granted),
        )
        self._client.add_listener(self._listen)
        self._connected = self._client.start_async()

    @property
    def is_connected(self) -> bool:
        """Whether calls can be answered now, as far as is known."""
        return bool(self._client.connected)

    def wait_connected(self, seconds: float) -> bool:
        """Return whether the first connection has been made, after at most so many seconds."""
        return bool(self._connected.wait(seconds))

    def children(self, path: str, on_change: Callable[[Any], None] | None = None) -> list[str]:
        """Return the names of the nodes in a folder; none if there is no such folder. `on_change` is called once."""
        try:
            return list(self._answer(self._client.get_children_async(path, watch=on_change)))
        except NodeMissing:
            return []

    def read(self, path: str) -> tuple[bytes, int]:
        """Return the data of a node, and its version. Raises `NodeMissing`."""
        data, stat = self._answer(self._client.get_async(path))
        return bytes(data), int(stat.version)

    def write(self, path: str, data: bytes, version: int = -1) -> None:
        """Replace the data of a node, if it has this version; -1: any.

        The answer proves that the node exists, and that a quorum of ZooKeeper works. Raises `NodeMissing`, or
        `VersionConflict` if the version is another one.
        """
        self._answer(self._client.set_async(path, data, version=version))

    def make(self, path: str) -> None:
        """Make an empty node that lasts, and the folders above it, where they do not exist."""
        names = path.strip("/").split("/")
        for end in range(1, len(names) + 1):
            with suppress(VersionConflict):
                self._answer(self._client.create_async("/" + "/".join(names[:end])))

    def enter(self, path: str, data: bytes, *, is_numbered: bool) -> str:
        """Make a node that ends with our session, and return its name. ZooKeeper appends a number if asked.

        Raises `NodeMissing` if its folder does not exist, and `VersionConflict` if the node exists.
        """
        made = self._answer(self._client.create_async(path, data, ephemeral=True, sequence=is_numbered))
        return str(made).rpartition("/")[2]

    def delete(self, path: str) -> None:
        """Delete a node if it exists."""
        with suppress(NodeMissing):
            self._answer(self._client.delete_async(path))

    def close(self) -> None:
        """End the session: if ZooKeeper answers, its nodes are gone at once. That is waited for, but not long."""
        self._client.remove_listener(self._listen)
        thread = threading.Thread(target=self._close, name="end of a session with zookeeper", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)

    def _close(self) -> None:
        with suppress(KazooException):
            self._client.stop()
            self._client.close()

    def _answer(self, result: Any) -> Any:
        try:
            return result.get(timeout=CALL_SECONDS)
        except NoNodeError as error:
            raise NodeMissing("this node of zookeeper does not exist") from error
        except (BadVersionError, NodeExistsError) as error:
            raise VersionConflict("a node of zookeeper", 0) from error
        except (KazooException, KazooTimeoutError) as error:
            reason = f"no answer for {CALL_SECONDS:g} s" if isinstance(error, KazooTimeoutError) else _text(error)
            raise ZooKeeperUnreachable(f"zookeeper at {self.hosts}: {reason}; look at it and the network") from error

    def _listen(self, state: str) -> None:
        self._on_change(state == KazooState.CONNECTED)

    def _note_granted(self, seconds: float) -> None:
        self.session_seconds = seconds


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
