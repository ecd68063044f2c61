"""The version of a long run: a digest of its code and settings. A run of another version is replaced."""

import hashlib
from functools import cache
from pathlib import Path

import coin_platform
from coin_platform.settings import SECRETS, Settings, load

_DIGEST_ROUNDS = 100_000  # a version is shown to people, and nobody should be able to guess a password from it
_FILE_SETTINGS = ("ca", "s3_ca", "kafka_ca", "kafka_certificate", "kafka_key")  # their files may change in place


def version() -> str:
    """Return a short digest of this package's code as it is on the disk, and of all settings with their secrets.

    The content of the files of certificates and keys that settings name is part of it.
    """
    settings = load()
    return _digest(settings.model_dump_json().encode() + _digest_of_secrets(_secrets(settings)))


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


def _secrets(settings: Settings) -> bytes:
    values = {name: getattr(settings, name) for name in sorted(SECRETS)}
    texts = [f"{name}={value.get_secret_value()}\0".encode() for name, value in values.items() if value is not None]
    paths = [settings.path(getattr(settings, name)) for name in _FILE_SETTINGS if getattr(settings, name)]
    return b"".join(texts) + b"\0".join(path.read_bytes() for path in paths if path.is_file())


@cache  # the digest takes some 50 ms, and sensors ask every few seconds
def _digest_of_secrets(secrets: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secrets, b"coin_platform", _DIGEST_ROUNDS) if secrets else b""
