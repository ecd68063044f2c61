"""What tests of the collector share: whom its connections trust."""

from collections.abc import Iterator

import pytest

from coin_platform import tls


@pytest.fixture(autouse=True)
def _trust_as_it_was() -> Iterator[None]:
    """Make contexts anew, for they keep what SSL_CERT_FILE was when they were made."""
    tls.trusting.cache_clear()
    yield
    tls.trusting.cache_clear()
