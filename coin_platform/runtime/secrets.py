"""Hide secrets in text: the values of secret settings, and what stands where other programs write a secret."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import SecretStr

from coin_platform.settings import SECRETS, Settings

HIDDEN = "***"
_LEAST_CHARACTERS = 4  # a shorter value would hide parts of other words
_NAMES = r"(?:api|access|secret|private)[_-]?key|secret|token|passw(?:or)?d|passphrase|authorization|signature"
_NAMED = re.compile(rf"""(?i)((?:{_NAMES})["']?\s*[=:]\s*["']?(?:(?:basic|bearer)\s+)?)[^\s"',;&)}}\]]+""")
_IN_ADDRESS = re.compile(r"(\w+://)[^\s/@:]*:[^\s/@]+@")


class Redactor:
    """Replaces secrets in text by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Hide these values, also as JSON, addresses and Python write them."""
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _LEAST_CHARACTERS}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    @classmethod
    def of(cls, settings: Settings) -> "Redactor":
        """Return what hides the secrets of these settings."""
        return cls(secret for name in SECRETS for secret in _values(getattr(settings, name)))

    def __call__(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _IN_ADDRESS.sub(rf"\1{HIDDEN}@", _NAMED.sub(rf"\1{HIDDEN}", text))


def _values(value: Any) -> Iterator[str]:
    """Yield the secrets of a setting: its whole value, the parts of a list, and the password of an address."""
    if not isinstance(value, SecretStr):
        return
    text = value.get_secret_value()
    yield text
    if "://" in text:
        yield from filter(None, [urlsplit(text).password])
        return
    for part in text.split(","):
        yield part.strip().rpartition(":")[2]


def _forms(secret: str) -> set[str]:
    """Return how a secret may be written."""
    plain = unquote(secret)
    texts = {secret, plain}
    return texts | {
        write(text)
        for text in texts
        for write in (quote, quote_plus, lambda text: json.dumps(text)[1:-1], lambda text: repr(text)[1:-1])
    }
