"""Turns records into bundles: one stream for each filter, encoded once for all its clients."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coin_platform.serve.feed.filters import Filter
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.feed.records import FeedRecord


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
        self._snapshot: tuple[int, bytes] | None = None  # the last one, and its seq

    def bundle(self, records: list[FeedRecord]) -> Bundle | None:
        """Return the next bundle; `None` if nothing in it is wanted."""
        chosen = self.filter.conflated([record for record in records if self.filter.wants(record)])
        if not chosen:
            return None
        self.seq += 1
        return Bundle(self, self._frame(chosen, b""), len(chosen))

    def snapshot(self, latest: Latest) -> bytes:
        """Return the state after the last bundle. Clients that ask before the next one share it."""
        if self._snapshot is None or self._snapshot[0] != self.seq:
            chosen = [record for record in latest.all() if self.filter.wants(record)]
            self._snapshot = self.seq, self._frame(chosen, b'"snapshot":true,')
        return self._snapshot[1]

    def _frame(self, records: list[FeedRecord], words: bytes) -> bytes:
        texts = b",".join([record.text for record in records])
        return b'{"stream":"%b","seq":%d,%b"records":[%b]}' % (self.name.encode(), self.seq, words, texts)


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

    def snapshot(self, stream: Stream) -> bytes:
        """Return the frame with which a client begins, or goes on after it missed bundles."""
        return stream.snapshot(self.latest)
