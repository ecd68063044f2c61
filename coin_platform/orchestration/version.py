"""What long runs were started with: they are replaced when the code or the settings are others."""

import hashlib
from functools import cache
from pathlib import Path

import coin_platform
from coin_platform.settings import load


def version() -> str:
    """Return a short digest of this package's code as it is on the disk and of the settings, secrets left out."""
    return _digest(load().model_dump_json().encode())


@cache
def code_version() -> str:
    """Return a short digest of this package's code alone, as it was on the disk when this process first asked."""
    return _digest()


def _digest(settings: bytes = b"") -> str:
    digest = hashlib.blake2b(digest_size=6)
    for folder in coin_platform.__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    digest.update(settings)
    return digest.hexdigest()
