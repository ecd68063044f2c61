"""Gives a message with short names, a format that some exchanges offer to save bytes, its long names."""

from collections.abc import Mapping

import msgspec

from coin_platform.exchanges.parsing import decode_rows

_LEVELS = 4  # of nested objects and lists; Coinone's books need four: message, `data`, side, order

decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def with_long_names(payload: bytes, long_names: Mapping[str, str], levels: int = _LEVELS) -> bytes:
    """Return a JSON message in which each short name of `long_names` is its long one. Numbers keep their digits."""
    first = payload.lstrip()[:1]
    if levels and first == b"{":
        values = decode_object(payload)
        return msgspec.json.encode(
            {
                long_names.get(name, name): msgspec.Raw(with_long_names(bytes(value), long_names, levels - 1))
                for name, value in values.items()
            }
        )
    if levels and first == b"[":
        rows = decode_rows(payload)
        return msgspec.json.encode([msgspec.Raw(with_long_names(bytes(row), long_names, levels - 1)) for row in rows])
    return payload
