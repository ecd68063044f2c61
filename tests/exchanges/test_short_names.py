"""Long names for messages with short ones."""

import msgspec
import pytest

from coin_platform.exchanges.short_names import with_long_names

NAMES = {"t": "type", "d": "data", "p": "price"}


def test_every_short_name_gets_its_long_one_and_other_names_stay() -> None:
    payload = b' {"t":"t","d":{"bids":[{"p":1},{"q":[{"p":null}]}]}}'
    assert with_long_names(payload, NAMES) == (
        b'{"type":"t","data":{"bids":[{"price":1},{"q":[{"p":null}]}]}}'  # the last one lies too deep
    )


@pytest.mark.parametrize("digits", [b"1.16539E8", b"122902000.00000000", b'"0.10"', b"true"])
def test_numbers_keep_their_digits(digits: bytes) -> None:
    assert with_long_names(b'{"p":' + digits + b"}", NAMES) == b'{"price":' + digits + b"}"


def test_a_message_that_is_no_json_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        with_long_names(b'{"p":1', NAMES)
