"""Every broker keeps the same contract: one test body, run over each of them."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kafka import KafkaAdminClient, TopicPartition

from coin_platform.broker import Broker, LocalBroker, MemoryBroker, connect
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.errors import PartitionBusy, RetentionLoss, SettingsError
from coin_platform.journal import JournalWriter
from coin_platform.records import Record
from coin_platform.settings import Settings
from infra.stack import Kafka
from tests.kit.topics import fresh_topic
from tests.kit.waiting import until

TOPIC = "Region.Korea_TickerPreprocessing"


@dataclass
class Place:
    """Where a broker's records live: `open` gives another client of the same place, `trim` drops old records."""

    open: Callable[[], Broker]
    trim: Callable[[Broker, str, int, int], None]
    fresh: Callable[[], str]  # the name of a topic that no other test uses


def _local(folder: Path, stack: ExitStack) -> Place:
    def trim(broker: Broker, topic: str, partition: int, before: int) -> None:
        assert isinstance(broker, LocalBroker)
        broker.trim(topic, partition, before)

    return Place(lambda: stack.enter_context(closing(LocalBroker(folder))), trim, _names())


def _memory(folder: Path, stack: ExitStack) -> Place:
    broker = MemoryBroker()

    def trim(client: Broker, topic: str, partition: int, before: int) -> None:
        broker.trim(topic, partition, before)

    return Place(lambda: broker, trim, _names())


def _kafka(folder: Path, stack: ExitStack, server: Kafka) -> Place:
    servers = server.address.split(",")
    admin = stack.enter_context(closing(KafkaAdminClient(bootstrap_servers=servers)))

    def trim(broker: Broker, topic: str, partition: int, before: int) -> None:
        admin.delete_records({TopicPartition(topic, partition): before})

    spool = folder / "spool"
    return Place(lambda: stack.enter_context(closing(KafkaBroker(servers, spool))), trim, lambda: fresh_topic(server))


def _names() -> Callable[[], str]:
    numbers = iter(range(10**9))
    return lambda: f"{TOPIC}-{next(numbers)}"


PLACES: dict[str, Callable[[Path, ExitStack], Place]] = {"local": _local, "memory": _memory}


@pytest.fixture(params=[*PLACES, pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "kafka":
            yield _kafka(tmp_path, stack, request.getfixturevalue("kafka"))
        else:
            yield PLACES[request.param](tmp_path, stack)


@pytest.fixture
def broker(place: Place) -> Broker:
    return place.open()


def append(broker: Broker, topic: str, *values: bytes, partition: int = 0) -> None:
    for value in values:
        broker.append(topic, partition, f"header of {value[:20]!r}", value)
    broker.flush()


def everything(broker: Broker, topic: str, partition: int = 0) -> list[Record]:
    end = broker.end_offset(topic, partition)
    return list(broker.read(topic, partition, broker.begin_offset(topic, partition), end))


# The contract


def test_a_flush_says_that_the_records_of_claimed_partitions_are_stored(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    broker.claim(topic, 0)
    assert broker.flush([(topic, 0)])
    broker.append(topic, 0, "h", b"0")
    broker.append(topic, 1, "h", b"1")
    assert broker.flush([(topic, 0)]) and broker.end_offset(topic, 0) == 1
    assert broker.flush() and broker.end_offset(topic, 1) == 1


def test_a_partition_that_nobody_wrote_is_empty(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    assert (broker.begin_offset(topic, 3), broker.end_offset(topic, 3), broker.offset_for_time(topic, 3, 1)) == (
        0,
        0,
        0,
    )
    assert list(broker.read(topic, 3, 0, 10)) == []


def test_records_come_back_as_they_were_appended(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    values = [b"", b"\x00\xff", "비트코인".encode(), b"x" * 3_000_000]
    for value in values:
        broker.append(topic, 0, "w,1,연결,1,1729678813578000", value)
    broker.flush()
    records = everything(broker, topic)
    assert [(r.offset, r.value) for r in records] == list(enumerate(values))
    assert {r.header for r in records} == {"w,1,연결,1,1729678813578000"}


def test_a_range_ends_before_its_stop_and_at_the_end(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    append(broker, topic, b"0", b"1", b"2", b"3")
    ranges = [(1, 3), (2, 99), (4, 9), (7, 9), (2, 2), (3, 1)]
    assert [[r.value for r in broker.read(topic, 0, *bounds)] for bounds in ranges] == [
        [b"1", b"2"],
        [b"2", b"3"],
        [],
        [],
        [],
        [],
    ]


def test_partitions_and_topics_are_logs_of_their_own(broker: Broker, place: Place) -> None:
    first, second = place.fresh(), place.fresh()
    append(broker, first, b"a", partition=0)
    append(broker, first, b"b", b"c", partition=1)
    append(broker, second, b"d")
    assert [r.value for r in everything(broker, first, 0)] == [b"a"]
    assert [(r.offset, r.value) for r in everything(broker, first, 1)] == [(0, b"b"), (1, b"c")]
    assert [r.value for r in everything(broker, second)] == [b"d"]


def test_what_one_client_flushed_another_reads(place: Place) -> None:
    topic = place.fresh()
    writer, reader = place.open(), place.open()
    append(writer, topic, b"first")
    assert [r.value for r in everything(reader, topic)] == [b"first"]
    append(writer, topic, b"second")
    assert [r.value for r in reader.read(topic, 0, 1, reader.end_offset(topic, 0))] == [b"second"]


def test_every_offset_before_the_end_can_be_read_while_appending(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    for n in range(2_000):
        broker.append(topic, 0, "h", b"%d" % n)
        if n % 50 == 0:
            end = broker.end_offset(topic, 0)
            assert [int(r.value) for r in broker.read(topic, 0, 0, end)] == list(range(end))
    broker.flush()
    assert broker.end_offset(topic, 0) == 2_000


def test_the_offset_for_a_time_is_the_first_record_at_or_after_it(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    for n in range(4):
        append(broker, topic, b"%d" % n, b"again")
        reached = everything(broker, topic)[-1].time + 1_000  # the next one in another ms: Kafka's clock is that coarse
        until(lambda: time.time_ns() // 1_000 > reached)  # noqa: B023
    records = everything(broker, topic)
    times = [record.time for record in records]
    assert times == sorted(times)
    for wanted in times:
        assert broker.offset_for_time(topic, 0, wanted) == times.index(wanted)
    assert broker.offset_for_time(topic, 0, 0) == 0
    assert broker.offset_for_time(topic, 0, times[-1] + 1_000) == len(records)


def test_windows_by_time_tile(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    for n in range(5):
        append(broker, topic, b"%d" % n)
        reached = everything(broker, topic)[-1].time + 1_000
        until(lambda: time.time_ns() // 1_000 > reached)  # noqa: B023
    records = everything(broker, topic)
    edges = [0, *(record.time for record in records[1::2]), records[-1].time + 1_000]
    stops = [broker.offset_for_time(topic, 0, edge) for edge in edges]
    windows = [list(broker.read(topic, 0, start, stop)) for start, stop in itertools.pairwise(stops)]
    assert [record for window in windows for record in window] == records


def test_reading_what_was_trimmed_names_topic_partition_and_both_offsets(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    append(broker, topic, *[b"x"] * 10, partition=2)
    place.trim(broker, topic, 2, 6)
    until(lambda: broker.begin_offset(topic, 2) == 6)
    with pytest.raises(RetentionLoss, match=f"topic {topic} partition 2: offset 4 .* 6"):
        list(broker.read(topic, 2, 4, 8))
    assert [r.offset for r in broker.read(topic, 2, 6, 8)] == [6, 7]
    assert broker.offset_for_time(topic, 2, 0) == 6


def test_offsets_go_on_after_everything_was_trimmed(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    append(broker, topic, b"0", b"1", b"2")
    place.trim(broker, topic, 0, 3)
    until(lambda: broker.begin_offset(topic, 0) == 3)
    assert broker.end_offset(topic, 0) == 3
    append(broker, topic, b"3")
    assert [(r.offset, r.value) for r in everything(broker, topic)] == [(3, b"3")]


@examples(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 100)), min_size=1, max_size=4), data=st.data())
def test_a_range_is_the_slice_of_what_was_appended_whatever_was_trimmed(
    steps: list[tuple[int, int]], data: st.DataObject, broker: Broker, place: Place
) -> None:
    topic = place.fresh()
    values: list[bytes] = []
    begin = 0
    for count, trim_to in steps:
        new = [b"%d" % (len(values) + n) for n in range(count)]
        append(broker, topic, *new)
        values += new
        begin = max(begin, min(trim_to, len(values)))
        place.trim(broker, topic, 0, begin)
        until(lambda: broker.begin_offset(topic, 0) == begin)  # noqa: B023
    start = data.draw(st.integers(begin, len(values)))
    stop = data.draw(st.integers(start, len(values) + 2))
    assert [(r.offset, r.value) for r in broker.read(topic, 0, start, stop)] == list(enumerate(values))[start:stop]


def test_D1_a_log_has_a_name_that_no_other_log_has_and_keeps_it(place: Place) -> None:
    topic, other = place.fresh(), place.fresh()
    writer, reader = place.open(), place.open()
    for each in (topic, other):
        append(writer, each, b"first")
    name = reader.identity(topic, 0)
    assert name and name != reader.identity(other, 0)
    append(writer, topic, b"second")
    place.trim(writer, topic, 0, 1)
    until(lambda: reader.begin_offset(topic, 0) == 1)
    writer.close()
    assert reader.identity(topic, 0) == place.open().identity(topic, 0) == name


def test_a_claim_takes_the_partition_and_appending_goes_on(broker: Broker, place: Place) -> None:
    topic = place.fresh()
    broker.claim(topic, 0)
    append(broker, topic, b"a")
    broker.claim(topic, 0)
    append(broker, topic, b"b")
    assert [(r.offset, r.value) for r in everything(broker, topic)] == [(0, b"a"), (1, b"b")]


def test_a_group_finds_its_own_position_again_and_may_go_back(place: Place) -> None:
    topic = place.fresh()
    worker = place.open()
    append(worker, topic, *[b"x"] * 5)
    assert worker.committed("Ticker_group_id_Korea", topic, 0) is None
    worker.commit("Ticker_group_id_Korea", topic, 0, 5)
    worker.commit("Orderbook_group_id_Korea", topic, 0, 1)
    successor = place.open()
    assert successor.committed("Ticker_group_id_Korea", topic, 0) == 5
    assert successor.committed("Orderbook_group_id_Korea", topic, 0) == 1
    assert successor.committed("Ticker_group_id_Korea", topic, 1) is None
    successor.commit("Ticker_group_id_Korea", topic, 0, 0)
    assert worker.committed("Ticker_group_id_Korea", topic, 0) == 0


def test_positions_of_many_partitions_are_remembered_in_one_question(place: Place) -> None:
    topic, other = place.fresh(), place.fresh()
    worker = place.open()
    append(worker, topic, *[b"x"] * 3)
    append(worker, other, *[b"x"] * 3, partition=1)
    worker.commit_all("Ticker_group_id_Korea", {})
    worker.commit_all("Ticker_group_id_Korea", {(topic, 0): 2, (other, 1): 3})
    successor = place.open()
    assert successor.committed("Ticker_group_id_Korea", topic, 0) == 2
    assert successor.committed("Ticker_group_id_Korea", other, 1) == 3


def test_what_was_prefetched_is_read_as_ever(broker: Broker, place: Place) -> None:
    topics, values = [place.fresh(), place.fresh()], [b"%d" % number for number in range(30)]
    for topic in topics:
        for partition in range(2):
            append(broker, topic, *values, partition=partition)
    position = {(topic, partition): 0 for topic in topics for partition in range(2)}
    for most in (5, 1, 12, 30, 30, 30):  # in turns that go on where the last one ended, but for one that is read apart
        wanted = {each: (start, min(30, start + most)) for each, start in position.items() if start < 30}
        stops = broker.prefetch(wanted)
        assert stops.keys() == wanted.keys()
        for each, (start, stop) in wanted.items():
            assert start < stops[each] <= stop
            (topic, partition), end = each, stops[each]
            assert [record.value for record in broker.read(topic, partition, 0, 2)] == values[:2]
            found = list(broker.read(topic, partition, start, end))
            assert [(record.offset, record.value) for record in found] == list(enumerate(values))[start:end]
            assert list(broker.read(topic, partition, start, end)) == found, "once more"
            position[each] = end
    assert set(position.values()) == {30}
    assert broker.prefetch({}) == {}


def test_what_was_trimmed_is_told_by_the_read_after_the_prefetch(broker: Broker, place: Place) -> None:
    topic, other = place.fresh(), place.fresh()
    append(broker, topic, *[b"x"] * 10)
    append(broker, other, *[b"y"] * 10)
    place.trim(broker, topic, 0, 5)
    until(lambda: broker.begin_offset(topic, 0) == 5)
    wanted = {(topic, 0): (0, 10), (other, 0): (0, 10)}
    stops = broker.prefetch(wanted)
    with pytest.raises(RetentionLoss, match="offset 0 was trimmed, the first kept one is 5"):
        list(broker.read(topic, 0, 0, stops[topic, 0]))
    assert [record.value for record in broker.read(other, 0, 0, stops[other, 0])] == [b"y"] * stops[other, 0]
    assert broker.prefetch({(topic, 0): (5, 10)}).keys() == {(topic, 0)}
    assert [record.offset for record in broker.read(topic, 0, 5, 10)] == [5, 6, 7, 8, 9]


# The local journal


def test_the_memory_twin_stamps_with_the_clock_it_is_given_and_never_goes_back() -> None:
    times = iter([10, 5, 20])
    broker = MemoryBroker(clock=lambda: next(times))
    append(broker, TOPIC, b"a", b"b", b"c")
    assert [record.time for record in everything(broker, TOPIC)] == [10, 10, 20]


def test_readers_lock_nothing_and_writers_only_the_partition_they_append_to(tmp_path: Path) -> None:
    with (
        closing(LocalBroker(tmp_path)) as writer,
        closing(LocalBroker(tmp_path)) as reader,
    ):
        assert everything(reader, TOPIC) == []
        assert list(tmp_path.iterdir()) == []
        append(writer, TOPIC, b"a", partition=0)
        append(reader, TOPIC, b"b", partition=1)
        with pytest.raises(PartitionBusy, match=r"0\.db is being written by process \d+"):
            reader.append(TOPIC, 0, "h", b"second writer")
        with pytest.raises(PartitionBusy):
            reader.claim(TOPIC, 0)
        assert [r.value for r in everything(reader, TOPIC, 0)] == [b"a"]
    with closing(LocalBroker(tmp_path)) as successor:
        append(successor, TOPIC, b"c", partition=0)
        assert [r.value for r in everything(successor, TOPIC, 0)] == [b"a", b"c"]


def test_a_flush_has_all_journals_synced_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[bool]] = []

    def flush(journal: JournalWriter) -> None:
        asked.append([each._flush_to == 1 for each in broker._journals.values()])
        real(journal)

    real = JournalWriter.flush
    monkeypatch.setattr(JournalWriter, "flush", flush)
    with closing(LocalBroker(tmp_path)) as broker:
        for partition in range(4):
            broker.append(TOPIC, partition, "h", b"x")
        broker.flush()
        assert asked[0] == [True] * 4, "all were asked before the first is waited for"
        assert [broker.end_offset(TOPIC, partition) for partition in range(4)] == [1] * 4


@pytest.mark.parametrize("topic", ["../outside", "..", ".", "", "a/b", ".positions.db", "%2E", "코인", "a b?c#d"])
def test_no_name_of_a_topic_leads_out_of_the_folder(tmp_path: Path, topic: str) -> None:
    folder = tmp_path / "journal"
    with closing(LocalBroker(folder)) as broker:
        append(broker, topic, b"x")
        broker.commit("g", topic, 0, 1)
        assert [r.value for r in everything(broker, topic)] == [b"x"]
        assert broker.committed("g", topic, 0) == 1
    assert list(tmp_path.iterdir()) == [folder]
    assert len(list(folder.glob("*/0.db"))) == 1


def test_topics_with_alike_names_do_not_share_a_folder(tmp_path: Path) -> None:
    topics = ["", "%", "%25", ".", "%2E", "..", "%2E.", "a/b", "a%2Fb"]
    with closing(LocalBroker(tmp_path)) as broker:
        for topic in topics:
            append(broker, topic, topic.encode())
        assert [[r.value for r in everything(broker, topic)] for topic in topics] == [[t.encode()] for t in topics]


def test_partitions_share_the_retention_of_the_folder(tmp_path: Path) -> None:
    def kept(broker: Broker, partition: int) -> int:
        return sum(len(record.value) for record in everything(broker, TOPIC, partition))

    with closing(LocalBroker(tmp_path)) as broker:
        append(broker, TOPIC, *[bytes(100_000)] * 120, partition=0)
        append(broker, TOPIC, *[bytes(100_000)] * 40, partition=1)
    with closing(LocalBroker(tmp_path, retention_bytes=8_000_000)) as broker:
        for partition in (0, 1):
            broker.append(TOPIC, partition, "h", b"")  # a writer trims
        until(lambda: kept(broker, 0) + kept(broker, 1) < 8_500_000)
        assert 4_500_000 < kept(broker, 0) < 7_000_000
        assert 1_300_000 < kept(broker, 1) < 3_000_000
        assert [broker.end_offset(TOPIC, partition) for partition in (0, 1)] == [121, 41]


def test_D1_a_journal_that_was_deleted_and_begun_anew_has_another_name(tmp_path: Path) -> None:
    reader, names = LocalBroker(tmp_path), []
    assert reader.identity(TOPIC, 0) is None, "nobody wrote it"
    for _ in range(2):
        with closing(LocalBroker(tmp_path)) as broker:
            append(broker, TOPIC, b"x")
        names.append(reader.identity(TOPIC, 0))
        for file in (tmp_path / TOPIC).iterdir():
            file.unlink()
    assert None not in names and names[0] != names[1]


# Connecting


def test_local_is_the_journal_in_the_folder_of_the_settings(tmp_path: Path) -> None:
    with closing(connect(Settings(home=tmp_path, broker_url="local:", journal_dir=Path("here")))) as broker:
        append(broker, TOPIC, b"x")
    assert (tmp_path / "here" / TOPIC / "0.db").exists()


@pytest.mark.parametrize("url", ["carrier-pigeon://loft", "localhost", ""])
def test_an_unknown_scheme_names_the_variable_the_value_and_what_there_is(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        connect(Settings(broker_url=url))
    assert f"COIN_BROKER_URL={url}:" in str(caught.value)
    assert "local:" in str(caught.value)


def test_an_address_after_local_is_refused_rather_than_ignored() -> None:
    with pytest.raises(SettingsError, match=r"COIN_BROKER_URL=local:/data: .*COIN_JOURNAL_DIR"):
        connect(Settings(broker_url="local:/data"))
