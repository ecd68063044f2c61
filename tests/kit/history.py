"""Compares what an exchange really sent with what is stored and with the ledger of gaps: nothing else is believed.

All that is wrong is in one of six lists; a platform that keeps its promises leaves all of them empty. `check` is a
pure function of values; the readers below it make those of a simulator's log, of raw topics and of tables.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import polars as pl

from coin_platform.broker import Broker
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Gap, Kind, Microseconds, Pair
from coin_platform.records import unpack
from coin_platform.simulator.sent_log import digest

Identity: TypeAlias = tuple[str, int, str, int]  # exchange, epoch, connection, number
Feed: TypeAlias = tuple[str, Channel, str]  # exchange, channel, shard: connections that follow one another


class Sent(NamedTuple):
    """A message that an exchange handed to an open socket: the `number`th of its own `connection`."""

    exchange: str
    connection: int
    number: int
    time: Microseconds
    hash: str
    kind: str = "data"  # or control, bad


class Stored(NamedTuple):
    """A record of a raw topic, in the order of the log. Only frames have a hash and a number of their own."""

    exchange: str
    channel: Channel
    epoch: int
    connection: str
    number: int
    time: Microseconds  # received
    hash: str | None
    kind: Kind = Kind.SOCKET

    @property
    def identity(self) -> Identity:
        """What makes two records of a frame the same."""
        return (self.exchange, self.epoch, self.connection, self.number)


class Row(NamedTuple):
    """A row of a curated table, or of the dead letters: the `place`th, from 0, that its frame gave."""

    identity: Identity
    place: int = 0


class Hole(NamedTuple):
    """A stretch that is not stored. It begins between `start` and `known`, and lasts if `stop` is `None`.

    It ends at `stop`, or by `until`, when all pairs are served again: whole books come after the first frames.
    """

    exchange: str
    channel: Channel
    pair: Pair | None  # None: all that the feed carries
    start: Microseconds
    known: Microseconds
    stop: Microseconds | None
    is_end: bool = False  # nothing follows, and nothing that was sent is missing: it need not be in the ledger
    until: Microseconds | None = None


class Findings(NamedTuple):
    """What is wrong; all empty is right."""

    lost: list[Sent]  # sent, but not stored or in no table, and no gap says so
    phantom: list[Stored | Row]  # stored, but never sent
    double: list[Stored | Row]  # stored again
    reordered: list[Stored]  # stored after what was sent later
    unreported: list[Hole]  # a hole that the ledger does not have
    overreported: list[Gap]  # in the ledger, but no such hole

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each."""
        return {name: len(found) for name, found in self._asdict().items()}


CLEAN = dict.fromkeys(Findings._fields, 0)


def once(stored: Iterable[Stored]) -> list[Stored]:
    """Drop repetitions of a frame, as the platform does when it makes tables: what is left is the first of each."""
    seen: set[Identity] = set()
    kept: list[Stored] = []
    for record in stored:
        if record.hash is None or record.identity not in seen:
            kept.append(record)
            seen |= {record.identity} if record.hash else set()
    return kept


def check(
    sent: Sequence[Sent],
    stored: Sequence[Stored],
    *,
    gaps: Sequence[Gap] = (),
    rows: Iterable[Row] | None = None,
    made: Sequence[Hole] = (),
    tolerance: Microseconds = SECOND,
    served: Callable[[str, Channel, Microseconds], Microseconds] = lambda exchange, channel, time: time,
) -> Findings:
    """Compare a history with what is left of it.

    `stored` is each partition in the order of its log; `rows` is what the tables account for, if they are to be looked
    at too; `made` are holes that the exchange made on purpose, of which its log of what was sent knows nothing.
    `served` says when all pairs of a feed have rows again that speaks again since some time.
    A gap and a hole are the same if their bounds differ by no more than `tolerance`; gaps that adjoin are one.
    """
    gaps = _joined(gaps)
    found = Findings([], [], [], [], [], [])
    frames = _frames(stored, found)
    by_socket: dict[tuple[str, int], list[Sent]] = defaultdict(list)
    for message in sent:
        by_socket[message.exchange, message.connection].append(message)
    ends = _ends(stored)
    feeds: dict[Feed, list[_Span]] = defaultdict(list)
    carried: dict[tuple[str, int], Channel] = {}
    where: dict[Identity, Sent] = {}
    for name, socket in _matched(by_socket, frames).items():
        told = by_socket.get(socket, []) if socket else []
        taken = _align(told, frames[name], found)
        where |= {record.identity: told[at] for record, at in taken}
        if socket is not None:
            carried[socket] = frames[name][0].channel
        if taken:
            feed = (name[0], frames[name][0].channel, name[2].rpartition("-")[0])
            feeds[feed].append(_Span(told, [(at, record.time) for record, at in taken], ends[name]))
    holes = [*made, *(hole for feed, spans in feeds.items() for hole in _holes(feed, spans, served))]
    covers = _Ledger(gaps, tolerance)
    arrived = {(message.exchange, message.connection, message.number) for message in where.values()}
    accounted = _accounted(rows, stored, found)
    if accounted is not None:
        arrived -= {
            (message.exchange, message.connection, message.number)
            for identity, message in where.items()
            if message.kind == "data" and identity not in accounted
        }
    for socket, messages in by_socket.items():
        missing = [each for each in messages if (each.exchange, each.connection, each.number) not in arrived]
        found.lost.extend(each for each in missing if not covers.time(each, carried.get(socket)))
    found.unreported.extend(hole for hole in holes if not hole.is_end and not covers.hole(hole))
    found.overreported.extend(gap for gap in gaps if not any(covers.same(gap, hole) for hole in holes))
    return found


def _joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Return gaps of which none begins where another of its pair ends: one cause may follow the other in one hole."""
    joined: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.exchange, gap.channel, str(gap.pair), gap.start)):
        last = joined[-1] if joined else None
        feed = (gap.exchange, gap.channel, gap.pair, gap.start)
        if last is not None and (last.exchange, last.channel, last.pair, last.stop) == feed:
            joined[-1] = msgspec.structs.replace(last, stop=gap.stop)
        else:
            joined.append(gap)
    return joined


class _Span(NamedTuple):
    """What is stored of one socket."""

    told: Sequence[Sent]
    taken: Sequence[tuple[int, Microseconds]]  # which of what was told, and when it was received; by time
    end: Microseconds  # of its last record, also of ours

    @property
    def first(self) -> Microseconds:
        return self.taken[0][1]

    @property
    def last(self) -> Microseconds:
        return self.taken[-1][1]

    @property
    def is_cut(self) -> bool:
        """Whether the last that was told is missing."""
        return max(at for at, _ in self.taken) < len(self.told) - 1


class _Ledger:
    """Gaps that may explain what is missing."""

    def __init__(self, gaps: Sequence[Gap], tolerance: Microseconds) -> None:
        self._gaps, self._tolerance = gaps, tolerance

    def time(self, message: Sent, channel: Channel | None) -> bool:
        """Whether a gap covers the moment at which something was sent."""
        return any(
            gap.exchange == message.exchange
            and channel in (None, gap.channel)
            and gap.start - self._tolerance <= message.time
            and (gap.stop is None or message.time <= gap.stop + self._tolerance)
            for gap in self._gaps
        )

    def hole(self, hole: Hole) -> bool:
        """Whether a gap says the same as a hole."""
        return any(self.same(gap, hole) for gap in self._gaps)

    def same(self, gap: Gap, hole: Hole) -> bool:
        """Whether they are of the same feed and have the same bounds."""
        is_here = (gap.exchange, gap.channel) == (hole.exchange, hole.channel)
        is_pair = None in (gap.pair, hole.pair) or gap.pair == hole.pair
        begins = hole.start - self._tolerance <= gap.start <= hole.known + self._tolerance
        if gap.stop is None or hole.stop is None:
            return is_here and is_pair and begins and gap.stop == hole.stop
        ends = hole.stop - self._tolerance <= gap.stop <= (hole.until or hole.stop) + self._tolerance
        return is_here and is_pair and begins and ends


def _frames(stored: Sequence[Stored], found: Findings) -> dict[tuple[str, int, str], list[Stored]]:
    """Return the socket frames of each connection, each once, by number; note repetitions, and who came too late."""
    frames: dict[tuple[str, int, str], list[Stored]] = defaultdict(list)
    seen: set[Identity] = set()
    for record in stored:
        if record.hash is None:
            continue
        if record.identity in seen:
            found.double.append(record)
            continue
        seen.add(record.identity)
        if record.kind is not Kind.SOCKET:  # what is asked over REST is not in the log of what was sent
            continue
        line = frames[record.identity[:3]]
        if line and line[-1].number > record.number:
            found.reordered.append(record)
        line.append(record)
    for line in frames.values():
        line.sort(key=lambda record: record.number)
    return frames


def _ends(stored: Sequence[Stored]) -> dict[tuple[str, int, str], Microseconds]:
    ends: dict[tuple[str, int, str], Microseconds] = defaultdict(int)
    for record in stored:
        ends[record.identity[:3]] = max(ends[record.identity[:3]], record.time)
    return ends


def _matched(
    by_socket: Mapping[tuple[str, int], Sequence[Sent]], frames: Mapping[tuple[str, int, str], Sequence[Stored]]
) -> dict[tuple[str, int, str], tuple[str, int] | None]:
    """Find the exchange's connection that each of ours was: what they share decides, rare messages above all."""
    heard: dict[tuple[str, str], set[tuple[str, int]]] = defaultdict(set)
    for socket, messages in by_socket.items():
        for message in messages:
            heard[message.exchange, message.hash].add(socket)
    matched: dict[tuple[str, int, str], tuple[str, int] | None] = {}
    for name, line in frames.items():
        votes: Counter[tuple[str, int]] = Counter()
        for record in line:
            sockets = heard.get((record.exchange, record.hash or ""), set())
            votes.update(dict.fromkeys(sockets, 1_000_000 // max(1, len(sockets))))
        matched[name] = votes.most_common(1)[0][0] if votes else None
    return matched


def _align(told: Sequence[Sent], line: Sequence[Stored], found: Findings) -> list[tuple[Stored, int]]:
    """Say which of what was told each frame is; note what was never told, or not so often, or not in this order."""
    places: dict[str, list[int]] = defaultdict(list)
    for at, message in enumerate(told):
        places[message.hash].append(at)
    taken: list[tuple[Stored, int]] = []
    reached = -1
    for record in line:
        left = places.get(record.hash or "")
        if not left:
            (found.phantom if left is None else found.double).append(record)
            continue
        at = next((place for place in left if place > reached), left[0])
        left.remove(at)
        if at < reached:
            found.reordered.append(record)
        reached = max(reached, at)
        taken.append((record, at))
    return taken


def _holes(
    feed: Feed, spans: Sequence[_Span], served: Callable[[str, Channel, Microseconds], Microseconds]
) -> Iterator[Hole]:
    """Yield what lacks within the connections of a feed, and between them."""
    exchange, channel, _ = feed
    ordered = sorted(spans, key=lambda span: span.first)
    for span in ordered:
        for (before, start), (after, stop) in zip(span.taken, span.taken[1:], strict=False):
            if after > before + 1:
                yield Hole(exchange, channel, None, start, start, stop)
    reached = ordered[0]
    for span in ordered[1:]:
        if span.first > reached.end:
            until = served(exchange, channel, span.first)
            yield Hole(exchange, channel, None, reached.last, reached.end, span.first, until=until)
        reached = max(reached, span, key=lambda each: each.end)
    yield Hole(exchange, channel, None, reached.last, reached.end, None, is_end=not reached.is_cut)


def _accounted(rows: Iterable[Row] | None, stored: Sequence[Stored], found: Findings) -> set[Identity] | None:
    """Return the frames that are in tables; note rows of frames that are not stored, and rows that are there twice."""
    if rows is None:
        return None
    frames = {record.identity for record in stored if record.hash is not None}
    seen: set[Row] = set()
    for row in rows:
        if row.identity not in frames:
            found.phantom.append(row)
        elif row in seen:
            found.double.append(row)
        seen.add(row)
    return {row.identity for row in seen}


# Where the values come from


def sent_from(folder: Path, exchange: str = "") -> list[Sent]:
    """Read a simulator's log of what it sent (of one exchange); a line that its end cut short is none."""
    found: list[Sent] = []
    with (folder / "sent.jsonl").open("rb") as lines:
        for text in lines:
            if text.endswith(b"\n") and (line := msgspec.json.decode(text))["exchange"].startswith(exchange):
                found.append(Sent(*(line[name] for name in Sent._fields)))
    return found


def stored_from(broker: Broker, sources: Iterable[Source]) -> list[Stored]:
    """Read all that raw topics hold of some sources."""
    return [
        _stored(source.exchange.name, source.channel, record.header, record.value)
        for source in sources
        for record in broker.read(
            source.topic,
            source.partition,
            broker.begin_offset(source.topic, source.partition),
            broker.end_offset(source.topic, source.partition),
        )
    ]


def _stored(exchange: str, channel: Channel, text: str, value: bytes) -> Stored:
    header = unpack(text)
    shown = digest(value) if header.kind.is_frame else None
    kind, epoch, connection, number, time = header[:5]
    return Stored(exchange, channel, epoch, connection, number, time, shown, kind)


def rows_from(exchange: str, table: pl.DataFrame) -> Iterator[Row]:
    """Read the identities of a table's rows."""
    for epoch, connection, number, index in table.select("epoch", "connection", "number", "index").iter_rows():
        yield Row((exchange, epoch, connection, number), index)


def gaps_from(exchange: str, table: pl.DataFrame) -> Iterator[Gap]:
    """Read the ledger of an exchange."""
    for row in table.iter_rows(named=True):
        start, stop = ((None if row[name] is None else int(row[name].timestamp() * 1e6)) for name in ("from", "to"))
        assert start is not None
        yield Gap(
            exchange=exchange,
            channel=Channel(row["channel"]),
            pair=Pair.read(row["pair"]) if row["pair"] else None,
            start=start,
            stop=stop,
            cause=row["cause"],
            reason=row["reason"] or "",
            filled_by=row["filled_by"],
        )
