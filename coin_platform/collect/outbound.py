"""Lead requests and sockets to the exchanges: through a proxy, and with more trusted certificates, if so set."""

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
        """Return what the settings say. Simulated exchanges are on this machine: no proxy leads there."""
        proxy = None if settings.exchanges_mode is Mode.SIMULATED else settings.proxy
        ca = settings.path(settings.ca) if settings.ca else None
        return cls(proxy.get_secret_value() if proxy else None, ca)

    def __repr__(self) -> str:
        return f"Outbound(proxy={'***' if self.proxy else None}, ca={self.ca})"

    @property
    def tls(self) -> ssl.SSLContext:
        """The certificates that are trusted. Raises `SettingsError` if the file is wrong."""
        return tls.trusting(self.ca, f"{PREFIX}CA")

    def socket_options(self, url: str) -> dict[str, Any]:
        """Return the keyword arguments of `websockets.connect` for an address."""
        options: dict[str, Any] = {"proxy": self.proxy}
        if url.startswith("wss:"):
            options["ssl"] = self.tls
        if self._has_secured_proxy:
            options["proxy_ssl"] = self.tls
        return options

    def http_options(self) -> dict[str, Any]:
        """Return the keyword arguments of `httpx.AsyncClient`."""
        secured = self.tls if self._has_secured_proxy else None
        return {"verify": self.tls, "proxy": httpx.Proxy(self.proxy, ssl_context=secured) if self.proxy else None}

    @property
    def _has_secured_proxy(self) -> bool:
        return self.proxy is not None and self.proxy.startswith("https:")
