"""How requests and sockets leave this machine for the exchanges."""

import ssl
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from coin_platform import tls
from coin_platform.settings import PREFIX, Mode, Settings


class Outbound(NamedTuple):
    """A proxy, if any, and a file of CA certificates that are trusted beside the machine's."""

    proxy: str | None = None  # http:// or https://, by HTTP CONNECT; it may hold a password
    ca: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Outbound":
        """Return how the settings say it. Simulated exchanges are on this machine: no proxy leads there."""
        proxy = None if settings.exchanges_mode is Mode.SIMULATED else settings.proxy
        ca = settings.path(settings.ca) if settings.ca else None
        return cls(proxy.get_secret_value() if proxy else None, ca)

    def __repr__(self) -> str:
        return f"Outbound(proxy={'***' if self.proxy else None}, ca={self.ca})"

    @property
    def tls(self) -> ssl.SSLContext:
        """Whose certificates are trusted. Raises `SettingsError` for a wrong file."""
        return tls.trusting(self.ca, f"{PREFIX}CA")

    def socket_options(self, url: str) -> dict[str, Any]:
        """Return what `websockets.connect` wants to know for an address."""
        options: dict[str, Any] = {"proxy": self.proxy}
        if url.startswith("wss:"):
            options["ssl"] = self.tls
        if self._has_secured_proxy:
            options["proxy_ssl"] = self.tls
        return options

    def http_options(self) -> dict[str, Any]:
        """Return what `httpx.AsyncClient` wants to know."""
        secured = self.tls if self._has_secured_proxy else None
        return {"verify": self.tls, "proxy": httpx.Proxy(self.proxy, ssl_context=secured) if self.proxy else None}

    @property
    def _has_secured_proxy(self) -> bool:
        return self.proxy is not None and self.proxy.startswith("https:")
