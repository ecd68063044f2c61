"""TLS to servers of others: whose certificates are trusted, and the certificate that we show."""

import ssl
from functools import cache
from pathlib import Path

from coin_platform.errors import SettingsError


@cache
def trusting(ca: Path | None, name: str) -> ssl.SSLContext:
    """Return a context for what this machine trusts, and the CA certificates of a file in PEM form.

    SSL_CERT_FILE and SSL_CERT_DIR count, as everywhere in OpenSSL. Certificate and host name are always verified.
    `name` is the setting of the file. Raises `SettingsError`, which names it, for a file without certificates.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # httpx would set it, and sockets share the context
    if ca is not None:
        trust(context, ca, name)
    return context


def trust(context: ssl.SSLContext, ca: Path, name: str) -> None:
    """Trust the CA certificates of a file, too. Raises `SettingsError`, which names the setting, if there is none."""
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{name}={ca}: it holds no CA certificate in PEM form") from error
    except OSError as error:
        raise SettingsError(f"{name}={ca}: it cannot be read: {error.strerror}") from error
