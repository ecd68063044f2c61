"""The lake's own file, `_lake.json`: how long its windows are, and which deployment may write them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from coin_platform.errors import Conflict, LakeError, NotOwner
from coin_platform.lake.deployment import Deployment
from coin_platform.lake.layout import MINUTE
from coin_platform.lake.store import Store, Stored
from coin_platform.model import Microseconds

LAKE_FILE = "_lake.json"


class LakeFile:
    """Compare this process with what the lake's own file says. The first writer of a lake writes the file."""

    def __init__(self, store: Store, window: Microseconds, deployment: Callable[[], Deployment] | None) -> None:
        """`window` is the window length in µs. `deployment` returns this deployment, and is asked before a write."""
        self._store = store
        self._window = window
        self._deployment = deployment
        self._is_checked = False

    def check(self) -> None:
        """Compare the window lengths. Raises `LakeError` where they differ: new windows would overlap stored ones."""
        if not self._is_checked:
            self._compare(*self._read())

    def owner(self) -> Deployment | None:
        """Return the deployment that may write this lake; `None` where the next writer becomes the owner."""
        return _owner(self._read()[1])

    def claim(self) -> None:
        """Make sure that this deployment may write. The first writer owns the lake. Raises `NotOwner`."""
        while True:
            stored, facts = self._read()
            self._compare(stored, facts)
            owner, ours = _owner(facts), self._deployment() if self._deployment else None
            if owner is not None and (ours is None or owner.id != ours.id):
                raise NotOwner(
                    f"{self._store.uri('')}: this lake belongs to deployment {owner}, and we are "
                    f"{ours or 'no deployment'}: set COIN_LAKE_URL to another place; or take it over with "
                    f"`coin lake adopt`; or, if both are one, set COIN_DEPLOYMENT={owner.id} here"
                )
            if stored is not None and (owner is not None or ours is None):
                return
            try:
                self._write(facts, ours, stored)
            except Conflict:
                continue  # another process was first: look which one
            return

    def adopt(self, former: Deployment | None) -> Deployment:
        """Make this deployment the owner instead of `former`. Raises `Conflict` if the owner is another by now."""
        assert self._deployment is not None
        stored, facts = self._read()
        self._compare(stored, facts)
        owner = _owner(facts)
        if (owner and owner.id) != (former and former.id):
            raise Conflict(f"{self._store.uri(LAKE_FILE)}: the lake belongs to {owner} by now; look again and retry")
        ours = self._deployment()
        self._write(facts, ours, stored)
        return ours

    def _compare(self, stored: Stored | None, facts: Mapping[str, Any]) -> None:
        """Compare the window length with that of the file, if there is one. Raises `LakeError`."""
        if stored is None:
            return
        minutes = facts["window_minutes"]
        if minutes * MINUTE != self._window:
            raise LakeError(
                f"{self._store.uri('')}: this lake has windows of {minutes} minutes: "
                f"set COIN_WINDOW={minutes}m, or COIN_LAKE_URL to a new place"
            )
        self._is_checked = True

    def _read(self) -> tuple[Stored | None, dict[str, Any]]:
        """Return the file and its facts. Raises `LakeError` if they cannot be read."""
        stored = self._store.get(LAKE_FILE)
        if stored is None:
            return None, {}
        try:
            facts: Any = json.loads(stored.data)
            is_right = isinstance(facts["window_minutes"], int)
        except (ValueError, LookupError, TypeError):
            is_right = False
        if not is_right:
            raise LakeError(
                f"{self._store.uri(LAKE_FILE)} does not say how long the windows of this lake are: put it back from a "
                f'backup, or write {{"window_minutes": {self._window // MINUTE}}} into it, if that is their length'
            )
        return stored, facts

    def _write(self, facts: dict[str, Any], ours: Deployment | None, stored: Stored | None) -> None:
        names = {} if ours is None else {"deployment": ours.id, "host": ours.host, "home": ours.home}
        body = {"window_minutes": self._window // MINUTE, **facts, **names}
        self._store.put(LAKE_FILE, json.dumps(body).encode(), stored.etag if stored else None)


def _owner(facts: Mapping[str, Any]) -> Deployment | None:
    """Return the deployment that the file names. Files of former versions name none."""
    if not facts.get("deployment"):
        return None
    return Deployment(*(" ".join(str(facts.get(name)).split())[:200] for name in ("deployment", "host", "home")))
