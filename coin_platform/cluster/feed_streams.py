"""Processed records in Redis, for readers that cannot reach the broker: one stream for each partition of a topic.

1. The id of an entry is the offset of its record in the topic, and one more, because 0 is no id. So a reader knows
   which records it has, from wherever it got them, and sees which are missing.
2. Redis takes only ids that rise. So a record that is written twice, also by another worker, is stored once.
3. A stream keeps the newest records. Whoever comes later than that finds a hole in the offsets.
"""

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from redis.exceptions import RedisError, ResponseError

from coin_platform.cluster.connect import redis_prefix
from coin_platform.cluster.redis import connected, place_of, readable_errors
from coin_platform.errors import ClusterError
from coin_platform.model import Region
from coin_platform.records import Record
from coin_platform.settings import Settings

StreamPlace: TypeAlias = tuple[str, int]  # a topic and its partition

LOG_CHARACTERS = 8  # of a topic's id, which tell it from another one of the same name
ALIVE_SECONDS = 5  # for which a worker that has just copied counts as alive
_PROBE_SECONDS = 60  # after which the marker of a probe is removed
_HELD = "equal or smaller"  # Redis says so of an entry that the stream holds already


class StreamEnd(NamedTuple):
    """The offset after the newest record of a stream, and of which log the record is. 0: the stream is empty."""

    offset: int = 0
    log: str = ""


class FeedStreams:
    """The streams of one deployment. Every method blocks for some seconds at most, and raises `ClusterError`."""

    def __init__(self, url: str, prefix: str) -> None:
        """`url` may hold a password, which is shown nowhere. Nothing is connected before the first call."""
        self.place = place_of(url)
        self._prefix = f"{prefix}:feed"
        self._client = connected(url)

    def append(
        self, records: Mapping[StreamPlace, Sequence[Record]], logs: Mapping[StreamPlace, str], most: int
    ) -> int:
        """Add records to their streams, all or none, and return how many were new there.

        A stream keeps about the newest `most` records. `logs` has the first characters of the id of each topic.
        """
        with readable_errors(self.place, self._prefix), self._client.pipeline(transaction=True) as pipeline:
            for place, of_place in records.items():
                key, log = self._key(place), logs.get(place, "")
                for record in of_place:
                    fields = {"h": record.header, "v": record.value, "t": record.time, "l": log}
                    pipeline.xadd(key, fields, id=f"{record.offset + 1}-0", maxlen=most, approximate=True)
            answers = pipeline.execute(raise_on_error=False) if records else []
            for answer in answers:
                if isinstance(answer, RedisError) and not (isinstance(answer, ResponseError) and _HELD in str(answer)):
                    raise answer
            return sum(not isinstance(answer, RedisError) for answer in answers)

    def ends(self, places: Sequence[StreamPlace]) -> dict[StreamPlace, StreamEnd]:
        """Return the ends of streams."""
        with readable_errors(self.place, self._prefix), self._client.pipeline(transaction=False) as pipeline:
            for place in places:
                pipeline.xrevrange(self._key(place), count=1)
            newest = pipeline.execute() if places else []
        return {place: _end(entries) for place, entries in zip(places, newest, strict=True)}

    def read(self, starts: Mapping[StreamPlace, int], most: int) -> dict[StreamPlace, list[Record]]:
        """Return the records of each stream from an offset on, at most `most` of each, without what is not ours."""
        places = {self._key(place).encode(): place for place in starts}
        wanted = {self._key(place): f"{start}-0" for place, start in starts.items()}
        with readable_errors(self.place, self._prefix):
            answer = self._client.xread(wanted, count=most) if wanted else {}
        pairs = answer.items() if isinstance(answer, dict) else answer  # RESP 3 and RESP 2
        found: dict[StreamPlace, list[Record]] = {}
        for key, entries in pairs:
            # RESP 3 wraps the entries of a stream in one more list.
            flat = entries[0] if entries and isinstance(entries[0], list) else entries
            found[places[key]] = [record for entry in flat if (record := _record(*entry)) is not None]
        return found

    def clear(self, place: StreamPlace) -> None:
        """Remove a stream: its topic was made anew, and its offsets begin anew."""
        with readable_errors(self.place, self._prefix):
            self._client.delete(self._key(place))

    def say_alive(self, region: Region) -> None:
        """Note that a worker copies the records of a region now."""
        with readable_errors(self.place, self._prefix):
            self._client.set(f"{self._prefix}:alive:{region}", "1", ex=ALIVE_SECONDS)

    def probe(self) -> None:
        """Write and read a marker. Raise `ClusterError`, too, if no worker writes the streams now."""
        token = uuid.uuid4().hex
        key = f"{self._prefix}:probe:{token[:8]}"
        with readable_errors(self.place, self._prefix):
            self._client.set(key, token, ex=_PROBE_SECONDS)
            if self._client.get(key) != token.encode():
                raise ClusterError(f"{self.place}: it does not hold what was written a moment ago; look into its log")
            self._client.delete(key)
            if not any(self._client.mget([f"{self._prefix}:alive:{region}" for region in Region])):
                raise ClusterError(
                    f"{self.place}: no worker writes processed records there now; start one with COIN_REDIS_FEED=1, "
                    "or look whether it reaches its broker"
                )

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(RedisError, OSError):
            self._client.close()

    def _key(self, place: StreamPlace) -> str:
        topic, partition = place
        return f"{self._prefix}:{topic}:{partition}"


def open_feed_streams(settings: Settings) -> FeedStreams:
    """Return the streams of this deployment. COIN_REDIS_URL must be set."""
    assert settings.redis_url is not None  # `Settings` refuses COIN_REDIS_FEED without it
    return FeedStreams(settings.redis_url.get_secret_value(), redis_prefix(settings))


def _end(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> StreamEnd:
    if not entries:
        return StreamEnd()
    [(name, fields)] = entries
    return StreamEnd(_number(name), fields.get(b"l", b"").decode(errors="replace"))


def _record(name: bytes, fields: Mapping[bytes, bytes]) -> Record | None:
    """Return the record of an entry; `None` if a worker did not write it."""
    try:
        return Record(_number(name) - 1, int(fields[b"t"]), fields[b"h"].decode(), fields[b"v"])
    except (KeyError, ValueError):
        return None


def _number(name: Any) -> int:
    """Return the first number of an id, such as 8 of `8-0`."""
    return int(bytes(name).partition(b"-")[0])
