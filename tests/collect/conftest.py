"""Keep the trusted certificates of one test from the next."""

from collections.abc import Iterator

import pytest

from coin_platform import tls


@pytest.fixture(autouse=True)
def _trust_as_it_was() -> Iterator[None]:
    """Forget the TLS contexts: each keeps the SSL_CERT_FILE of the moment when it was made."""
    tls.trusting.cache_clear()
    yield
    tls.trusting.cache_clear()
