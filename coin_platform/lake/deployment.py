"""Which deployment this is. A lake names the deployment that may write it.

The id is random. The first process of the deployment that writes makes it and keeps it in `<COIN_HOME>/data`. Where
several machines are one deployment, `COIN_DEPLOYMENT` is the id.
"""

import json
import os
import socket
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from coin_platform.errors import SettingsError
from coin_platform.settings import PREFIX, Settings

FILE = Path("data/deployment.json")  # below COIN_HOME


class Deployment(NamedTuple):
    """A deployment. Only the id is compared; host and home tell people which deployment it is."""

    id: str
    host: str
    home: str

    def __str__(self) -> str:
        return f"{self.id} ({self.host}:{self.home})"


def deployment_of(settings: Settings) -> Deployment:
    """Return this deployment; its first process makes the id. Raises `SettingsError` if the id cannot be kept."""
    return Deployment(settings.deployment or _kept_id(settings.home / FILE), socket.gethostname(), str(settings.home))


def _kept_id(path: Path) -> str:
    try:
        if not path.exists():
            _make(path)
        body: Any = json.loads(path.read_bytes())
        if isinstance(body, dict) and isinstance(body.get("id"), str) and body["id"]:
            return str(body["id"])
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}; make it and its folder writable, or set {PREFIX}DEPLOYMENT"
        ) from error
    except ValueError:
        pass  # the error below names the remedy
    raise SettingsError(
        f"{path} does not name a deployment: put it back from a backup; or remove it and run `coin lake adopt`"
    )


def _make(path: Path) -> None:
    """Make the file whole or not at all. Of processes that make it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump({"id": uuid.uuid4().hex}, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        return
    finally:
        Path(name).unlink()
