"""Compares what an exchange really sent with what is stored and with table `gap`.

Each fault is in one of six lists. A platform that keeps its promises leaves all of them empty. `check` is a pure
function of values, which `tests.kit.stored_history` reads.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from coin_platform.model import SECOND, Channel, Gap, Kind, Microseconds, Pair

Identity: TypeAlias = tuple[str, int, str, int]  # exchange, epoch, connection, number of the frame
Feed: TypeAlias = tuple[str, Channel, str]  # exchange, channel, shard: its connections follow one another
Socket: TypeAlias = tuple[str, int]  # exchange, and its number of the connection
Connection: TypeAlias = tuple[str, int, str]  # exchange, epoch, and our name of the connection


class Sent(NamedTuple):
    """A message that an exchange wrote to an open socket: the `number`th of its own `connection`."""

    exchange: str
    connection: int
    number: int
    time: Microseconds
    hash: str
    kind: str = "data"  # or control, bad


class Stored(NamedTuple):
    """A record of a raw topic. Only frames have a hash and a number of their own."""

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
        """The values that two records of one frame share."""
        return (self.exchange, self.epoch, self.connection, self.number)


class Row(NamedTuple):
    """A row of a curated table or of the dead letters: number `place`, from 0, of the rows of its frame."""

    identity: Identity
    place: int = 0


class Hole(NamedTuple):
    """A stretch of time of which nothing is stored.

    1. It begins between `start` and `known`.
    2. It ends between `stop` and `until`. All pairs are served again at `until`: whole books come after the first
       frames. Without `stop` it lasts.
    """

    exchange: str
    channel: Channel
    pair: Pair | None  # None: all that the feed carries
    start: Microseconds
    known: Microseconds
    stop: Microseconds | None
    is_end: bool = False  # nothing follows and nothing that was sent is missing, so table gap need not have it
    until: Microseconds | None = None


class Findings(NamedTuple):
    """The faults. If all lists are empty, the platform has kept its promises."""

    lost: list[Sent]  # sent, but not stored or in no table, and no gap covers it
    phantom: list[Stored | Row]  # stored, but never sent
    double: list[Stored | Row]  # stored again
    reordered: list[Stored]  # stored after what was sent later
    unreported: list[Hole]  # a hole without a gap
    overreported: list[Gap]  # a gap without a hole

    @property
    def counts(self) -> dict[str, int]:
        """The number of faults of each list."""
        return {name: len(faults) for name, faults in self._asdict().items()}


NEVER: Microseconds = 1 << 62  # when a pair has rows again of which none has come before the end
REST_FILLS_THE_REST = "REST reaches back"  # in the reason of a gap

CLEAN = dict.fromkeys(Findings._fields, 0)


def once(stored: Iterable[Stored]) -> list[Stored]:
    """Return the records without repetitions of a frame, which the platform drops as well when it makes tables."""
    seen: set[Identity] = set()
    first_records: list[Stored] = []
    for record in stored:
        if record.hash is None or record.identity not in seen:
            first_records.append(record)
            seen |= {record.identity} if record.hash else set()
    return first_records


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
    """Compare what was sent with what is stored.

    1. `stored` is each partition in the order of its log.
    2. `rows` are the rows of the tables. Without them only the log is compared.
    3. `made` are holes that the exchange made on purpose, which its log of sent messages does not show.
    4. `served` returns when all pairs of a feed have rows again, for the time of the feed's first new frame; `NEVER` if
       one has none.
    5. A gap and a hole are the same if their bounds differ by at most `tolerance`. Gaps that adjoin count as one, or as
       several: there may be a single frame between two holes, with which one gap ends and the next one begins.
    """
    joined = _joined(gaps)
    findings = Findings([], [], [], [], [], [])
    frames = _frames(stored, findings)
    by_socket: dict[Socket, list[Sent]] = defaultdict(list)
    for message in sent:
        by_socket[message.exchange, message.connection].append(message)
    ends = _ends(stored)
    feeds: dict[Feed, list[_Span]] = defaultdict(list)
    channels: dict[Socket, Channel] = {}
    messages_of_frames: dict[Identity, Sent] = {}
    for name, socket in _matched(by_socket, frames).items():
        messages = by_socket.get(socket, []) if socket else []
        matches = _align(messages, frames[name], findings)
        messages_of_frames |= {record.identity: messages[place] for record, place in matches}
        if socket is not None:
            channels[socket] = frames[name][0].channel
        if matches:
            feed = (name[0], frames[name][0].channel, name[2].rpartition("-")[0])
            feeds[feed].append(_Span(messages, [(place, record.time) for record, place in matches], ends[name]))
    holes = [*made, *(hole for feed, spans in feeds.items() for hole in _holes(feed, spans, served))]
    ledger = _GapTable([*joined, *gaps], tolerance)
    arrived = {(message.exchange, message.connection, message.number) for message in messages_of_frames.values()}
    in_tables = _frames_in_tables(rows, stored, findings)
    if in_tables is not None:
        arrived -= {
            (message.exchange, message.connection, message.number)
            for identity, message in messages_of_frames.items()
            if message.kind == "data" and identity not in in_tables
        }
    for socket, messages in by_socket.items():
        missing = [message for message in messages if (*socket, message.number) not in arrived]
        findings.lost.extend(message for message in missing if not ledger.covers(message, channels.get(socket)))
    findings.unreported.extend(hole for hole in holes if not hole.is_end and not ledger.has(hole))
    in_holes = {id(gap) for gap in [*joined, *gaps] if any(ledger.is_same(gap, hole) for hole in holes)}
    findings.overreported.extend(
        whole
        for whole in joined
        if id(whole) not in in_holes and not all(id(gap) in in_holes for gap in gaps if _is_part(gap, whole))
    )
    return findings


def _joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Join gaps of a pair that adjoin: in one hole, one cause may follow another."""
    joined: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.exchange, gap.channel, str(gap.pair), gap.start)):
        last = joined[-1] if joined else None
        feed = (gap.exchange, gap.channel, gap.pair, gap.start)
        if last is not None and (last.exchange, last.channel, last.pair, last.stop) == feed:
            joined[-1] = msgspec.structs.replace(last, stop=gap.stop)
        else:
            joined.append(gap)
    return joined


def _is_part(gap: Gap, whole: Gap) -> bool:
    """Return whether a gap is one of those that were joined."""
    is_same_feed = (gap.exchange, gap.channel, gap.pair) == (whole.exchange, whole.channel, whole.pair)
    ends = whole.stop is None or (gap.stop is not None and gap.stop <= whole.stop)
    return is_same_feed and whole.start <= gap.start and ends


class _Span(NamedTuple):
    """What is stored of one socket."""

    messages: Sequence[Sent]
    frames: Sequence[tuple[int, Microseconds]]  # the place among `messages`, and the time of receipt; by time
    end: Microseconds  # the time of the connection's last record, which may be a record of our own

    @property
    def first(self) -> Microseconds:
        return self.frames[0][1]

    @property
    def last(self) -> Microseconds:
        return self.frames[-1][1]

    @property
    def is_cut(self) -> bool:
        """Whether the last message is missing."""
        return max(place for place, _ in self.frames) < len(self.messages) - 1


class _GapTable:
    """The gaps, which may explain what is missing."""

    def __init__(self, gaps: Sequence[Gap], tolerance: Microseconds) -> None:
        self._gaps, self._tolerance = gaps, tolerance

    def covers(self, message: Sent, channel: Channel | None) -> bool:
        """Return whether a gap covers the moment at which a message was sent."""
        return any(
            gap.exchange == message.exchange
            and channel in (None, gap.channel)
            and gap.start - self._tolerance <= message.time
            and (gap.stop is None or message.time <= gap.stop + self._tolerance)
            for gap in self._gaps
        )

    def has(self, hole: Hole) -> bool:
        """Return whether there is a gap for a hole. It may have begun earlier.

        So does the gap of a connection that only says that it is alive: it serves nothing before it ends, too.
        """
        return any(gap.start <= hole.known + self._tolerance and self._ends_alike(gap, hole) for gap in self._gaps)

    def is_same(self, gap: Gap, hole: Hole) -> bool:
        """Return whether a gap and a hole are of the same feed and have the same bounds."""
        begins = hole.start - self._tolerance <= gap.start <= hole.known + self._tolerance
        return begins and self._ends_alike(gap, hole)

    def _ends_alike(self, gap: Gap, hole: Hole) -> bool:
        """Return whether a gap and a hole are of the same feed and have the same end.

        A gap of trades may end within the hole: answers over REST have what came later.
        """
        is_here = (gap.exchange, gap.channel) == (hole.exchange, hole.channel)
        is_pair = None in (gap.pair, hole.pair) or gap.pair == hole.pair
        if gap.stop is None or hole.stop is None:
            lasts = gap.stop == hole.stop or (gap.stop is None and hole.until == NEVER)
            return is_here and is_pair and lasts
        earliest = hole.start if REST_FILLS_THE_REST in gap.reason else hole.stop - self._tolerance
        ends = earliest <= gap.stop <= (hole.until or hole.stop) + self._tolerance
        return is_here and is_pair and ends


def _frames(stored: Sequence[Stored], findings: Findings) -> dict[Connection, list[Stored]]:
    """Return the socket frames of each connection, each once, by number. Note repetitions and wrong orders."""
    frames: dict[Connection, list[Stored]] = defaultdict(list)
    seen: set[Identity] = set()
    for record in stored:
        if record.hash is None:
            continue
        if record.identity in seen:
            findings.double.append(record)
            continue
        seen.add(record.identity)
        if record.kind is not Kind.SOCKET:  # the log of sent messages does not have answers over REST
            continue
        own_frames = frames[record.identity[:3]]
        if own_frames and own_frames[-1].number > record.number:
            findings.reordered.append(record)
        own_frames.append(record)
    for own_frames in frames.values():
        own_frames.sort(key=lambda record: record.number)
    return frames


def _ends(stored: Sequence[Stored]) -> dict[Connection, Microseconds]:
    ends: dict[Connection, Microseconds] = defaultdict(int)
    for record in stored:
        ends[record.identity[:3]] = max(ends[record.identity[:3]], record.time)
    return ends


def _matched(
    by_socket: Mapping[Socket, Sequence[Sent]], frames: Mapping[Connection, Sequence[Stored]]
) -> dict[Connection, Socket | None]:
    """Find the exchange's socket of each of our connections. The more messages they share, the better.

    A message that few sockets carried counts more.
    """
    sockets_of: dict[tuple[str, str], set[Socket]] = defaultdict(set)
    for socket, messages in by_socket.items():
        for message in messages:
            sockets_of[message.exchange, message.hash].add(socket)
    matched: dict[Connection, Socket | None] = {}
    for name, own_frames in frames.items():
        votes: Counter[Socket] = Counter()
        for record in own_frames:
            sockets = sockets_of.get((record.exchange, record.hash or ""), set())
            votes.update(dict.fromkeys(sockets, 1_000_000 // max(1, len(sockets))))
        matched[name] = votes.most_common(1)[0][0] if votes else None
    return matched


def _align(messages: Sequence[Sent], frames: Sequence[Stored], findings: Findings) -> list[tuple[Stored, int]]:
    """Return each frame with the place of its message. Note frames never sent, sent less often, or in another order."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, message in enumerate(messages):
        places[message.hash].append(place)
    matches: list[tuple[Stored, int]] = []
    reached = -1
    for record in frames:
        left = places.get(record.hash or "")
        if not left:
            (findings.phantom if left is None else findings.double).append(record)
            continue
        place = next((place for place in left if place > reached), left[0])
        left.remove(place)
        if place < reached:
            findings.reordered.append(record)
        reached = max(reached, place)
        matches.append((record, place))
    return matches


def _holes(
    feed: Feed, spans: Sequence[_Span], served: Callable[[str, Channel, Microseconds], Microseconds]
) -> Iterator[Hole]:
    """Yield the holes within the connections of a feed, between them, and after the last one."""
    exchange, channel, _ = feed
    ordered = sorted(spans, key=lambda span: span.first)
    for span in ordered:
        for (before, start), (after, stop) in zip(span.frames, span.frames[1:], strict=False):
            if after > before + 1:
                yield Hole(exchange, channel, None, start, start, stop)
    latest = ordered[0]
    for span in ordered[1:]:
        if span.first > latest.end:
            until = served(exchange, channel, span.first)
            yield Hole(exchange, channel, None, latest.last, latest.end, span.first, until=until)
        latest = max(latest, span, key=lambda either: either.end)
    yield Hole(exchange, channel, None, latest.last, latest.end, None, is_end=not latest.is_cut)


def _frames_in_tables(rows: Iterable[Row] | None, stored: Sequence[Stored], findings: Findings) -> set[Identity] | None:
    """Return the frames that have rows. Note rows of frames that are not stored, and rows that are there twice."""
    if rows is None:
        return None
    frames = {record.identity for record in stored if record.hash is not None}
    seen: set[Row] = set()
    for row in rows:
        if row.identity not in frames:
            findings.phantom.append(row)
        elif row in seen:
            findings.double.append(row)
        seen.add(row)
    return {row.identity for row in seen}
