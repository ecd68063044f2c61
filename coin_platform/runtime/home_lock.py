"""Let one `coin up` or demo run at a time for each home. Two of them would cancel each other's runs."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from coin_platform.errors import SettingsError
from coin_platform.runtime.processes import identity, is_alive

_PATIENCE_SECONDS = 1.0  # a holder that was killed just now still holds the lock for a moment
_LEFTOVERS_SECONDS = 40.0  # the children of a killed holder end within this time
_LOOK_SECONDS = 0.2  # between two tries


@contextlib.contextmanager
def held(path: Path, command: str, remedy: str) -> Iterator[int]:
    """Hold the lock file of a home while `command` runs. Yield its descriptor, so that guards can hold it longer.

    Wait until the children of a killed holder have ended. Raises `SettingsError`, one line that names the holder and
    the `remedy`, while another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        _acquire(file, path, remedy)
        file.truncate(0)
        file.write(f"{identity()} {command}\n")
        file.flush()
        yield file.fileno()


def _acquire(file: TextIOWrapper, path: Path, remedy: str) -> None:
    start = time.monotonic()
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            words = file.read().split()
            is_gone = len(words) >= 4 and is_alive(" ".join(words[:4])) is False
            if time.monotonic() - start > (_LEFTOVERS_SECONDS if is_gone else _PATIENCE_SECONDS):
                raise SettingsError(f"{path.parent}: {_holder(words)}; {remedy}") from None
            time.sleep(_LOOK_SECONDS)  # the guards of a killed holder are ending its children
        except OSError as error:
            raise SettingsError(f"{path}: cannot be locked: {error.strerror}; use a folder of a local disk") from None


def _holder(words: list[str]) -> str:
    if len(words) < 5:
        return "another process uses it"
    host, _, pid, _, *command = words
    return f"`{' '.join(command)}` uses it, process {pid} on {host}"
