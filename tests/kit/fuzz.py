"""Recorded messages, changed in ways that no exchange should send."""

import random
from collections.abc import Iterator

import msgspec

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Frame
from coin_platform.simulator.recordings import read
from tests.kit.recordings import files

JUNK = [
    *(b"", b"\xff", b"null", b"-1", b'""', b"[]", b"{}", b'"NaN"', b"1E+400", b"9" * 40, b"\x00", "é".encode(), b","),
    *(b"true", b'"', b"\\", b"\\ud800", b"1e999999999", b'"1E+999999"', b"[" * 50, b"-0", b"18446744073709551616"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809"),
]


def mutations(chance: random.Random, originals: list[Frame]) -> Iterator[Frame]:
    """Yield recorded frames without end, each changed in one or several ways."""
    ways = (_digit, _digit, _flip, _splice, _retype, _cut, _join)
    while True:
        frame, other = chance.choice(originals), chance.choice(originals)
        body = frame.payload
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            body = chance.choice(ways)(chance, body, other.payload)
        yield msgspec.structs.replace(frame, payload=body)


def _flip(chance: random.Random, body: bytes, other: bytes) -> bytes:
    if not body:
        return b"\x00"
    changed, at = bytearray(body), chance.randrange(len(body))
    changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _digit(chance: random.Random, body: bytes, other: bytes) -> bytes:
    changed, digits = bytearray(body), [at for at, byte in enumerate(body) if byte in b"0123456789"]
    for at in chance.sample(digits, min(len(digits), chance.randrange(1, 20))):
        changed[at] = chance.choice(b"0123456789")
    return bytes(changed)


def _cut(chance: random.Random, body: bytes, other: bytes) -> bytes:
    first, second = sorted(chance.randrange(len(body) + 1) for _ in range(2))
    return chance.choice((body[:first], body[first:], body[:first] + body[second:], body[:second] + body[first:]))


def _splice(chance: random.Random, body: bytes, other: bytes) -> bytes:
    at, length = chance.randrange(len(body) + 1), chance.randrange(12)
    return body[:at] + chance.choice(JUNK) + body[at + length :]


def _retype(chance: random.Random, body: bytes, other: bytes) -> bytes:
    """Quote a number, or take the quotes of a text away."""
    ends = [at for at, byte in enumerate(body) if byte in b'":,[]{}']
    if len(ends) < 2:
        return body
    at = chance.randrange(len(ends) - 1)
    first, second = ends[at], ends[at + 1]
    if body[first : first + 1] == body[second : second + 1] == b'"':
        return body[:first] + body[first + 1 : second] + body[second + 1 :]
    return body[: first + 1] + b'"' + body[first + 1 : second] + b'"' + body[second:]


def _join(chance: random.Random, body: bytes, other: bytes) -> bytes:
    return chance.choice((body + other, body * 2, body + b"\n" + body, other))


def recorded(exchange: str) -> list[Frame]:
    """Return all recorded frames of an exchange."""
    adapter = EXCHANGES[exchange]
    return [frame for name, path in files() if name == exchange for _, frame in read(adapter, path)]
