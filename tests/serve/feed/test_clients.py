"""A client that does not read misses bundles, is sent a snapshot once it reads, and is cut if it never does."""

import asyncio
import json
from typing import Any

import pytest
from websockets.protocol import State

from coin_platform.serve.feed import clients as clients_module
from coin_platform.serve.feed.clients import FULL_SECONDS, ROOM_BYTES, Clients
from coin_platform.serve.feed.filters import Filter
from coin_platform.serve.feed.hub import PART_BYTES, Hub
from tests.kit.feed_records import feed_record


class FakeConnection:
    """An open connection whose transport holds as many unsent bytes as the test says."""

    def __init__(self) -> None:
        self.unsent, self.is_cut, self.sent = 0, False, list[dict[str, Any]]()
        self.transport = self.protocol = self
        self.state, self.send_in_progress = State.OPEN, None

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_cut = True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.is_cut = True

    def send_text(self, text: bytes) -> None:
        self.sent.append(json.loads(text))

    def send_data(self) -> None:
        pass

    @property
    def seqs(self) -> list[tuple[int, bool]]:
        return [(frame["seq"], "snapshot" in frame) for frame in self.sent]


class World:
    def __init__(self, count: int = 2) -> None:
        self.hub, self.moment, self.offset = Hub("run"), 0.0, 0
        self.clients = Clients(self.hub)
        self.connections = [FakeConnection() for _ in range(count)]
        self.members = [
            self.clients.join(connection, self.hub.join(Filter()), f"client {number}", 0.0)
            for number, connection in enumerate(self.connections)
        ]

    def bundle(self, seconds: float = 0.1) -> None:
        self.moment, self.offset = self.moment + seconds, self.offset + 1
        self.hub.take([feed_record(offset=self.offset)])
        asyncio.run(self.clients.send(self.moment))


def test_W2_W5_a_full_client_misses_bundles_and_is_sent_a_snapshot_once_it_has_room() -> None:
    world = World()
    slow, fast = world.connections
    world.bundle()
    slow.unsent = ROOM_BYTES
    world.bundle()
    world.bundle()
    assert slow.seqs == [(0, True), (1, False)]
    slow.unsent = ROOM_BYTES - 1
    world.bundle()
    assert slow.seqs[2:] == [(4, True)], "it sees the hole in seq"
    assert [record["offset"] for record in slow.sent[-1]["records"]] == [4]
    world.bundle()
    assert slow.seqs[3:] == [(5, False)]
    assert fast.seqs == [(0, True), *((seq, False) for seq in range(1, 6))]
    assert [client.missed_bundles for client in world.clients.listed(world.moment)] == [3, 0]
    assert (world.clients.missed, world.clients.sends, world.clients.cut) == (3, 2 + 2 * 5 - 3 + 1, 0)


def test_W2_a_client_that_never_reads_is_cut_and_the_others_go_on() -> None:
    world = World()
    slow, fast = world.connections
    slow.unsent = ROOM_BYTES
    world.bundle()
    world.bundle(FULL_SECONDS)
    assert not slow.is_cut
    world.bundle(0.1)
    assert slow.is_cut and not fast.is_cut and len(world.clients) == 1
    assert (world.clients.cut, len(slow.sent), len(fast.sent)) == (1, 1, 4)
    world.clients.leave(world.members[0])  # the end of its connection comes, too
    assert len(world.clients) == 1


def test_W2_a_full_client_is_cut_also_while_nothing_new_comes() -> None:
    world = World()
    world.connections[0].unsent = ROOM_BYTES
    world.bundle()
    asyncio.run(world.clients.send(world.moment + FULL_SECONDS + 0.1))
    assert world.connections[0].is_cut


def test_many_clients_are_served_in_slices_and_the_loop_is_free_in_between() -> None:
    world = World(3 * clients_module._SLICE)
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(sum(len(connection.sent) for connection in world.connections))
            await asyncio.sleep(0)

    async def run() -> None:
        counting = asyncio.create_task(count_turns())
        world.hub.take([feed_record()])
        await world.clients.send(0.1)
        counting.cancel()

    asyncio.run(run())
    count = len(world.connections)
    assert any(count < turn < 2 * count for turn in turns), "others have a turn while some clients have it and some not"
    assert all(connection.seqs == [(0, True), (1, False)] for connection in world.connections)


def test_the_last_client_that_leaves_ends_its_stream_and_a_late_one_joins_without_a_double() -> None:
    world = World(1)
    late = FakeConnection()

    async def run() -> None:
        world.hub.take([feed_record(offset=1)])
        sending = asyncio.create_task(world.clients.send(0.1))
        await asyncio.sleep(0)  # between two slices
        world.clients.join(late, world.hub.join(Filter()), "late", 0.1)
        await sending

    asyncio.run(run())
    assert late.seqs == [(1, True)]
    assert [client.client for client in world.clients.listed(1.0)] == ["client 0", "late"]
    for client in [*world.members, *world.clients._members[world.members[0].stream]]:
        world.clients.leave(client)
    assert (len(world.clients), world.hub.streams) == (0, {})


class RealConnection(FakeConnection):
    """A connection that holds what was sent until the peer takes it."""

    largest = 0

    def send_text(self, text: bytes) -> None:
        super().send_text(text)
        self.unsent += len(text)
        self.largest = max(self.largest, self.unsent)

    @property
    def frames(self) -> list[tuple[int, int | None, list[int]]]:
        """The seq, the part and the offsets of each frame."""
        return [(each["seq"], each.get("part"), [r["offset"] for r in each["records"]]) for each in self.sent]


def large_world() -> tuple[World, RealConnection]:
    """Return a hub with 4,000 pairs, whose state has a few hundred kB, and a client that takes nothing yet."""
    world = World(1)
    world.hub.take([feed_record(f"P{number}-KRW", offset=number) for number in range(4_000)])
    asyncio.run(world.clients.send(0.1))
    connection = RealConnection()
    world.clients.join(connection, world.hub.join(Filter()), "late", 0.1)
    return world, connection


def test_W2_a_large_state_is_sent_in_parts_as_the_client_takes_them_and_no_bundle_is_missed() -> None:
    world, connection = large_world()
    rounds = 0
    while world.clients._filling or rounds < 3:
        connection.unsent = 0
        world.bundle()
        rounds += 1
    assert connection.largest < ROOM_BYTES + 2 * PART_BYTES
    parts = [frame for frame in connection.frames if frame[1] is not None]
    assert [part for _, part, _ in parts] == [*range(1, connection.sent[0]["parts"] + 1)] and len(parts) > 2
    assert {seq for seq, _, _ in parts} == {1} and all(frame["snapshot"] for frame in connection.sent[: len(parts)])
    assert sorted(offset for _, _, offsets in parts for offset in offsets) == [*range(4_000)]
    later = connection.frames[len(parts) :]
    assert [(seq, offsets) for seq, _, offsets in later] == [(1 + count, [count]) for count in range(1, rounds + 1)]
    assert world.clients.missed == 0


def test_W2_a_client_that_takes_nothing_of_a_large_state_is_cut() -> None:
    world, connection = large_world()
    world.bundle()
    assert len(connection.sent) < connection.sent[0]["parts"] and not connection.is_cut
    world.bundle(FULL_SECONDS + 0.1)
    assert connection.is_cut and len(world.clients) == 1
    assert connection.largest < ROOM_BYTES + 2 * PART_BYTES


def test_W5_a_client_that_takes_a_large_state_too_slowly_gets_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "MOST_WAITING", 2)
    world, connection = large_world()
    for _ in range(3):
        world.bundle()
    assert world.clients.missed == 3
    monkeypatch.undo()
    connection.sent.clear()
    while not connection.sent or world.clients._filling:
        connection.unsent = 0
        world.bundle()
        assert world.offset < 100
    assert connection.sent[0]["seq"] == 1 + 4 and connection.sent[0]["part"] == 1, "the state of now, from its begin"


def test_W5_when_the_source_changes_every_client_gets_the_state_with_the_seq_of_the_last_bundle() -> None:
    world = World()
    slow, fast = world.connections
    slow.unsent = ROOM_BYTES
    world.bundle()
    world.clients.renew()
    world.bundle()
    assert fast.seqs == [(0, True), (1, False), (1, True), (2, False)]
    slow.unsent = 0
    world.bundle()
    assert slow.seqs == [(0, True), (3, True)], "it had missed bundles, and gets one snapshot"
