"""TLS to other servers: which certificates are trusted, and which certificate we show."""

import ssl
from functools import cache
from pathlib import Path

from coin_platform.errors import SettingsError


@cache
def trusting(ca: Path | None, name: str) -> ssl.SSLContext:
    """Return a context that trusts what this machine trusts, and the CA certificates of a file in PEM form.

    SSL_CERT_FILE and SSL_CERT_DIR count, as everywhere in OpenSSL. Certificate and host name are always verified.
    `name` is the setting of the file. Raises `SettingsError`, which names the setting, for a file without certificates.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # httpx sets the same, and sockets share the context
    if ca is not None:
        trust(context, ca, name)
    return context


def trust(context: ssl.SSLContext, ca: Path, name: str) -> None:
    """Make a context trust the CA certificates of a file. Raises `SettingsError`, which names the setting."""
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{name}={ca}: it holds no CA certificate in PEM form") from error
    except OSError as error:
        raise SettingsError(f"{name}={ca}: it cannot be read: {error.strerror}") from error


def check(ca: Path, name: str) -> None:
    """Raise `SettingsError`, which names the setting, for a file without CA certificates."""
    trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca, name)


@cache
def with_certificate(ca: Path | None, certificate: Path | None, key: Path | None, prefix: str) -> ssl.SSLContext:
    """Return a context that shows a certificate, if there is one. A file `ca` replaces what this machine trusts.

    `prefix` is the begin of the names of the settings. Raises `SettingsError`, which names the setting of a wrong file.
    """
    context = ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        trust(context, ca, f"{prefix}CA")
    if certificate is not None:
        name = f"{prefix}CERTIFICATE={certificate}" + (f" with {prefix}KEY={key}" if key else "")
        try:
            # Without `password`, OpenSSL would ask the terminal for the password of an encrypted key.
            context.load_cert_chain(certificate, key, password=str)
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(
                f"{name}: no certificate in PEM form with its key, not encrypted ({getattr(error, 'reason', error)})"
            ) from error
        except OSError as error:
            raise SettingsError(f"{name}: it cannot be read: {error.strerror}") from error
    return context
