"""Turns records into bundles: one stream for each filter, encoded once for all its clients."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coin_platform.serve.feed.filters import Filter
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.feed.records import FeedRecord

PART_BYTES = 64 << 10  # of a part of a snapshot, about


class Bundle(NamedTuple):
    """One frame for all clients of a stream: JSON, in UTF-8, and how many records it has."""

    stream: "Stream"
    text: bytes
    records: int


class Stream:
    """What the clients with one filter get. `seq` rises by one with each bundle."""

    def __init__(self, name: str, wanted: Filter) -> None:
        self.name, self.filter = name, wanted
        self.seq = 0
        self._snapshot: Snapshot | None = None  # the last one

    def bundle(self, records: list[FeedRecord]) -> Bundle | None:
        """Return the next bundle; `None` if nothing in it is wanted."""
        chosen = self.filter.conflated([record for record in records if self.filter.wants(record)])
        if not chosen:
            return None
        self.seq += 1
        return Bundle(self, self._frame(chosen, b""), len(chosen))

    def snapshot(self, latest: Latest) -> "Snapshot":
        """Return the state after the last bundle. Clients that ask before the next one share it."""
        if self._snapshot is None or self._snapshot.seq != self.seq:
            chosen = [record for record in latest.all() if self.filter.wants(record)]
            self._snapshot = Snapshot(self.name, self.seq, chosen)
        return self._snapshot

    def _frame(self, records: list[FeedRecord], words: bytes) -> bytes:
        return _frame(self.name, self.seq, words, records)


class Snapshot:
    """The state after a bundle, in parts that are made when they are sent: a client that waits costs no copy of it."""

    def __init__(self, stream: str, seq: int, records: list[FeedRecord]) -> None:
        self.seq = seq
        self._stream, self._records = stream, records
        self._begins = [0]  # of the parts, among the records
        size = 0
        for place, record in enumerate(records):
            if size > PART_BYTES:
                self._begins.append(place)
                size = 0
            size += len(record.text)
        self._made: tuple[int, bytes] | None = None  # the last part: clients that are equally far share it

    def __len__(self) -> int:
        return len(self._begins)

    def part(self, number: int) -> bytes:
        """Return a part as a frame. The first one has number 0."""
        if self._made is None or self._made[0] != number:
            end = self._begins[number + 1] if number + 1 < len(self) else len(self._records)
            words = b'"snapshot":true,' + (b'"part":%d,"parts":%d,' % (number + 1, len(self)) if len(self) > 1 else b"")
            text = _frame(self._stream, self.seq, words, self._records[self._begins[number] : end])
            self._made = number, text
        return self._made[1]


def _frame(stream: str, seq: int, words: bytes, records: list[FeedRecord]) -> bytes:
    texts = b",".join([record.text for record in records])
    return b'{"stream":"%b","seq":%d,%b"records":[%b]}' % (stream.encode(), seq, words, texts)


class Hub:
    """Records go in, and bundles for each stream come out. A snapshot tells the state after the last bundle.

    It holds one stream for each filter that a client uses. One thread owns it.
    """

    def __init__(self, instance: str) -> None:
        """`instance` names this run of the server: the streams of two runs have different names."""
        self.latest = Latest()
        self.streams: dict[Filter, Stream] = {}
        self._instance, self._count = instance, 0
        self._waiting: list[FeedRecord] = []  # for the next bundle

    def take(self, records: Iterable[FeedRecord]) -> None:
        """Take records, in the order of their partition."""
        self._waiting += records

    def bundles(self) -> Iterator[Bundle]:
        """Yield the bundle of each stream that has something new."""
        records, self._waiting = self._waiting, []
        self.latest.take(records)
        if records:
            for stream in self.streams.values():
                bundle = stream.bundle(records)
                if bundle is not None:
                    yield bundle

    def join(self, wanted: Filter) -> Stream:
        """Return the stream of a filter."""
        stream = self.streams.get(wanted)
        if stream is None:
            self._count += 1
            stream = self.streams[wanted] = Stream(f"{self._instance}-{self._count}", wanted)
        return stream

    def clear(self) -> None:
        """Forget the state: nobody listens, and whoever comes next begins anew."""
        self.latest, self._waiting = Latest(), []

    def forget(self, stream: Stream) -> None:
        """End a stream that has no clients any more."""
        self.streams.pop(stream.filter, None)

    def snapshot(self, stream: Stream) -> Snapshot:
        """Return the state with which a client begins, or goes on after it missed bundles."""
        return stream.snapshot(self.latest)
