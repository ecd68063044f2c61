"""Who may come in to the feed, and what the others are told."""

from http import HTTPStatus

import pytest
from websockets.datastructures import Headers

from coin_platform.serve.feed.door import FEED_PROTOCOL, KEY_PROTOCOL, PATH, Admitted, Door, DoorLimits, EntryRefused
from coin_platform.serve.feed.filters import Filter
from coin_platform.serve.keys import Key, Keys, Scope, digest_of
from tests.kit.clock import StillClock

KEY = "k" * 40
HOST = ("Host", "localhost:8601")


def door(*, is_local: bool = True, limits: DoorLimits = DoorLimits(), clock: StillClock | None = None) -> Door:  # noqa: B008
    keys = Keys([Key(Scope.READ, digest_of(KEY))])
    return Door(keys, frozenset({"localhost"}), limits, is_local=is_local, clock=clock or StillClock())


def admit(door: Door, *headers: tuple[str, str], target: str = PATH, streams: int = 0) -> Admitted:
    return door.admit(target, Headers([HOST, *headers] if HOST not in headers else headers), "127.0.0.1", streams)


def refused(door: Door, *headers: tuple[str, str], target: str = PATH, streams: int = 0) -> tuple[int, str]:
    with pytest.raises(EntryRefused) as refusal:
        admit(door, *headers, target=target, streams=streams)
    assert door.refused[refusal.value.status] >= 1
    return refusal.value.status, str(refusal.value)


def test_on_this_machine_alone_no_key_is_needed_but_a_wrong_one_is_refused() -> None:
    assert admit(door()) == Admitted(Filter(), "127.0.0.1")
    assert admit(door(), target=f"{PATH}?type=trade").wanted.types == {"trade"}
    assert refused(door(), ("X-API-Key", "wrong"))[0] == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", f"Bearer {KEY}"),
        ("X-API-Key", KEY),
        ("Sec-WebSocket-Protocol", f"{FEED_PROTOCOL}, {KEY_PROTOCOL}{KEY}"),
    ],
)
def test_C1_where_other_machines_come_in_a_key_is_needed_in_one_of_three_places(header: tuple[str, str]) -> None:
    far = door(is_local=False)
    status, text = refused(far)
    assert status == HTTPStatus.UNAUTHORIZED and "Authorization: Bearer KEY" in text
    assert admit(far, header).name.startswith("read-")
    assert KEY not in admit(far, header).name
    assert refused(far, header, ("X-API-Key", "another"))[0] == HTTPStatus.BAD_REQUEST
    status, text = refused(far, target=f"{PATH}?key={KEY}")
    assert status == HTTPStatus.UNAUTHORIZED and KEY not in text, "a key in the query is no key"


def test_wrong_keys_block_their_address_for_a_while() -> None:
    clock = StillClock()
    far = door(is_local=False, clock=clock)
    for _ in range(5):
        assert refused(far, ("X-API-Key", "wrong"))[0] == HTTPStatus.UNAUTHORIZED
    assert refused(far, ("X-API-Key", KEY))[0] == HTTPStatus.TOO_MANY_REQUESTS
    clock.now += 60
    assert admit(far, ("X-API-Key", KEY))


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "https://evil.example")],
        [("Origin", "null")],
        [("Origin", "http://localhost:8600"), ("Origin", "http://localhost:8600")],
        [("Origin", "http://localhost@evil.example")],
    ],
)
def test_a_page_of_another_site_is_refused(headers: list[tuple[str, str]]) -> None:
    assert refused(door(), *headers)[0] == HTTPStatus.FORBIDDEN


def test_another_host_name_is_refused_and_our_own_page_is_not() -> None:
    for hosts in ([], [("Host", "evil.example")], [HOST, HOST]):
        with pytest.raises(EntryRefused) as refusal:
            door().admit(PATH, Headers(hosts), "127.0.0.1", 0)
        assert refusal.value.status == HTTPStatus.FORBIDDEN
    assert admit(door(), ("Origin", "http://localhost:8600"))


def test_wrong_addresses_and_queries_say_what_is_right() -> None:
    assert refused(door(), target="/ws/kafka") == (404, f"there is no such address; the feed is at {PATH}")
    both = Door(Keys([]), frozenset({"localhost"}), DoorLimits(), is_local=True, paths=[PATH, "/ws/redis"])
    assert admit(both, target="/ws/redis?type=trade").path == "/ws/redis"
    assert refused(both, target="/ws/kafka") == (404, f"there is no such address; the feed is at {PATH}, /ws/redis")
    status, text = refused(door(), target=f"{PATH}?exchange=nowhere")
    assert status == 400 and text.startswith("exchange=nowhere: there are upbit")


def test_filters_in_use_are_limited_but_everyone_may_have_the_whole_feed() -> None:
    status, text = refused(door(), target=f"{PATH}?type=trade", streams=256)
    assert status == 503 and "ask for the whole feed" in text
    assert admit(door(), streams=256)


def test_connections_are_limited_for_each_address_and_in_all() -> None:
    busy = door(limits=DoorLimits(clients=3, clients_per_address=2))
    assert [busy.arrives("a") for _ in range(3)] == [True, True, False]
    busy.leaves("a")  # the one that was cut
    assert busy.arrives("b") and not busy.arrives("c")
    busy.leaves("c")
    busy.leaves("b")
    assert busy.arrives("c")
    assert busy.refused[0] == 2


def test_connects_of_one_address_are_limited_in_a_second() -> None:
    clock = StillClock()
    busy = door(clock=clock)
    for _ in range(200):
        admit(busy)
    assert refused(busy)[0] == HTTPStatus.TOO_MANY_REQUESTS
    clock.now += 1
    assert admit(busy)
