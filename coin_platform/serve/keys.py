"""The keys of the API: each has a scope. Of a key only its SHA-256 is kept."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from coin_platform.errors import SettingsError
from coin_platform.settings import PREFIX, Settings

LEAST_CHARACTERS = 32  # of a key
_OWN_KEY_FILE = "data/serve.key"  # under COIN_HOME


class Scope(StrEnum):
    """What a key allows. Each scope includes those before it."""

    READ = "read"
    PAIRS = "pairs"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Return whether a key of this scope allows what `other` allows."""
        scopes = list(Scope)
        return scopes.index(self) >= scopes.index(other)


class Key(NamedTuple):
    """A key: what it allows, and its SHA-256. `name` tells keys apart in logs, and tells nothing of the key itself."""

    scope: Scope
    digest: bytes

    @property
    def name(self) -> str:
        return f"{self.scope}-{hashlib.sha256(self.digest).hexdigest()[:8]}"


class Keys:
    """The keys that are valid now. Several may have one scope, so that a key can be replaced without a break."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def find(self, text: str) -> Key | None:
        """Return the key that a client sent. It takes as long for a wrong key as for a right one."""
        digest = digest_of(text)
        matches = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return matches[0] if matches else None


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens at `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_keys(settings: Settings) -> Keys:
    """Return the keys of COIN_SERVE_KEYS and COIN_SERVE_KEYS_FILE.

    Where there is none, and only this machine reaches the server, the server makes a key of scope `admin` and keeps it
    in `data/serve.key` under COIN_HOME, readable by its owner alone. `coin` on this machine finds it there.

    Raises `SettingsError`, which shows no key, for a wrong entry, and if a server that other machines reach has no key.
    """
    keys = list(_configured(settings))
    if not keys:
        if not is_loopback(settings.serve_host):
            raise SettingsError(
                f"{PREFIX}SERVE_HOST={settings.serve_host}: other machines reach this address, and no key is set; "
                f"set {PREFIX}SERVE_KEYS=admin:KEY, a key of {LEAST_CHARACTERS} characters or more, or listen at "
                "127.0.0.1"
            )
        keys.append(Key(Scope.ADMIN, digest_of(_own_key(own_key_file(settings)))))
    return Keys(keys)


def own_key_file(settings: Settings) -> Path:
    """Return the file of the key that a server without configured keys makes."""
    return settings.path(Path(_OWN_KEY_FILE))


def _configured(settings: Settings) -> Iterator[Key]:
    if settings.serve_keys is not None:
        entries = settings.serve_keys.get_secret_value().split(",")
        yield from _read(f"{PREFIX}SERVE_KEYS", "entry", entries)
    if settings.serve_keys_file is not None:
        file = settings.path(settings.serve_keys_file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"{PREFIX}SERVE_KEYS_FILE={file}: this file cannot be read: {reason}") from None
        yield from _read(f"{PREFIX}SERVE_KEYS_FILE={file}", "line", lines)


def _read(source: str, part: str, entries: Iterable[str]) -> Iterator[Key]:
    """Yield the keys of entries like `pairs:KEY`. The errors name the place of an entry, not its text."""
    for number, entry in enumerate(entries, 1):
        text = entry.strip()
        if not text or text.startswith("#"):
            continue
        scope, colon, key = text.partition(":")
        place = f"{source}, {part} {number}"
        if not colon or scope not in list(Scope):
            raise SettingsError(f"{place}: write SCOPE:KEY; a scope is one of {', '.join(Scope)}")
        if len(key) < LEAST_CHARACTERS:
            raise SettingsError(f"{place}: this key has fewer than {LEAST_CHARACTERS} characters; make a longer one")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise SettingsError(f"{place}: a key has letters, digits and signs of ASCII only, and no blanks")
        yield Key(Scope(scope), digest_of(key))


def _own_key(file: Path) -> str:
    """Return the key of a file. If there is none, make it. Of several processes that make it at once, one wins."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                opened.write(f"{secrets.token_urlsafe(32)}\n")
            try:
                os.link(temporary, file)  # fails where another process was first
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"{file}: the key of the server cannot be kept here: {reason}") from None
    if len(key) < LEAST_CHARACTERS:
        raise SettingsError(f"{file}: this is not a key of the server; delete the file, and the next start makes one")
    return key
