"""A stored value with what is known of it, as bytes: the same in a file and in Redis."""

import re
from typing import NamedTuple

from coin_platform.cluster.contract import ANNOUNCED_KINDS, LARGEST_VALUE_BYTES, ClusterEntry
from coin_platform.errors import BadArgument, ClusterError
from coin_platform.model import Microseconds


class Packed(NamedTuple):
    """An entry, when it ends (0: never), and a word of its writer, who knows its own entry by it."""

    entry: ClusterEntry
    expires: Microseconds = 0
    token: str = "-"

    def pack(self) -> bytes:
        """Return a line `version expires token`, and the value."""
        return f"{self.entry.version} {self.expires} {self.token}\n".encode() + self.entry.value


def unpack(place: str, data: bytes) -> Packed:
    """Return what was packed. Raises `ClusterError`, which names the place and the remedy, for anything else."""
    match = _HEAD.match(data)
    if match is None:
        raise ClusterError(f"{place} is not a value of this platform; delete it")
    return Packed(ClusterEntry(int(match[1]), data[match.end() :]), int(match[2]), match[3].decode())


_HEAD = re.compile(rb"(\d{1,18}) (\d{1,18}) ([0-9a-z-]{1,40})\n")


def check_key(key: str, is_announced: bool) -> None:
    """Raise `BadArgument` if a key cannot be a name in every store, or is put where it must be announced."""
    names = key.split("/")
    if len(names) != 2 or not all(name[:1].isalnum() and name.isprintable() and len(name) <= 200 for name in names):
        raise BadArgument(f"{key!r:.80} is not a key: write <kind>/<name>, and begin both with a letter or a digit")
    if key.startswith(ANNOUNCED_KINDS) is not is_announced:
        raise BadArgument(
            f"{key}: keys that begin with {' or '.join(ANNOUNCED_KINDS)} are announced, and all others are put"
        )


def check_size(key: str, value: bytes) -> None:
    """Raise `BadArgument` if a value is too large."""
    if len(value) > LARGEST_VALUE_BYTES:
        raise BadArgument(f"{key}: {len(value)} bytes are more than {LARGEST_VALUE_BYTES}; write less")
