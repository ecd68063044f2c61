"""Each stream tells each record once: in the snapshot with which a client begins, or in a later bundle."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coin_platform.serve.feed.filters import Filter, read_filter
from coin_platform.serve.feed.hub import Hub, Stream
from tests.kit.feed_records import feed_record

ALL = Filter()


def body(text: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text)
    return read


def offsets(text: bytes) -> list[int]:
    return [record["offset"] for record in body(text)["records"]]


def bundles(hub: Hub) -> dict[Stream, bytes]:
    return {bundle.stream: bundle.text for bundle in hub.bundles()}


def test_W5_seq_rises_by_one_with_each_bundle_and_the_snapshot_has_the_seq_of_the_last_one() -> None:
    hub = Hub("run")
    stream = hub.join(ALL)
    assert body(hub.snapshot(stream).part(0)) == {"stream": "run-1", "seq": 0, "snapshot": True, "records": []}
    for number in (1, 2):
        hub.take([feed_record(offset=number)])
        bundle = body(bundles(hub)[stream])
        assert (bundle["stream"], bundle["seq"], "snapshot" in bundle) == ("run-1", number, False)
    assert bundles(hub) == {}, "nothing new is no bundle"
    snapshot = hub.snapshot(stream).part(0)
    assert (body(snapshot)["seq"], offsets(snapshot)) == (2, [2])


@given(st.lists(st.sampled_from(["take", "bundle", "join"]), max_size=30))
def test_W5_a_client_gets_every_record_once_whenever_it_comes(steps: list[str]) -> None:
    hub, offset = Hub("run"), 0
    stream = hub.join(ALL)
    clients: list[list[int]] = []
    for step in [*steps, "bundle"]:
        if step == "take":
            offset += 1
            hub.take([feed_record(kind="trade", offset=offset)])
        elif step == "join":
            clients.append([*offsets(hub.snapshot(stream).part(0))])
        else:
            for text in bundles(hub).values():
                for client in clients:
                    client += offsets(text)
    for seen in clients:
        assert seen == [*range(seen[0] if seen else 1, offset + 1)][: len(seen)]
        assert not seen or seen[-1] == offset


def test_clients_with_equal_filters_share_a_stream_and_its_encoding() -> None:
    hub = Hub("run")
    everything, tickers = hub.join(ALL), hub.join(read_filter("type=ticker"))
    assert hub.join(read_filter("type=ticker")) is tickers and tickers is not everything
    hub.take([feed_record(offset=1), feed_record(kind="trade", offset=2)])
    texts = bundles(hub)
    assert (offsets(texts[everything]), offsets(texts[tickers])) == ([1, 2], [1])
    hub.take([feed_record(kind="trade", offset=3)])
    assert set(bundles(hub)) == {everything}, "a stream that wants nothing of it keeps its seq"
    assert tickers.seq == 1
    assert hub.snapshot(tickers) is hub.snapshot(tickers)
    hub.forget(tickers)
    assert list(hub.streams.values()) == [everything]
    assert hub.join(read_filter("type=ticker")).name != tickers.name, "another stream counts anew under another name"


def test_a_snapshot_tells_the_gaps_that_last() -> None:
    hub = Hub("run")
    stream = hub.join(ALL)
    hub.take([feed_record(kind="gap", gap="ticker BTC-KRW 1", offset=1), feed_record(kind="gap", gap="x", offset=2)])
    bundles(hub)
    assert offsets(hub.snapshot(stream).part(0)) == [1, 2]
    hub.take([feed_record(kind="gap", gap="x", is_over=True, offset=3)])
    assert offsets(bundles(hub)[stream]) == [3]
    assert offsets(hub.snapshot(stream).part(0)) == [1]
