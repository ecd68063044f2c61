"""Where a partition begins: after a crash, in a trimmed topic, in a topic made anew, and when it is stuck."""

import pytest

from coin_platform.errors import BrokerUnreachable, DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.preprocess.lookback import TAIL_RECORDS
from coin_platform.preprocess.partition import MOST_RECORDS, STUCK_SECONDS
from coin_platform.preprocess.redrive import request
from coin_platform.tables import processed
from coin_platform.tables.dead_letters import LetterReader
from coin_platform.topic_names import dead_letter_topic, processed_topic
from tests.kit.raw_log import ConnectionLog
from tests.kit.recordings import frames
from tests.kit.working import GOOD, faulty_log


def test_a_worker_killed_between_storing_and_committing_writes_nothing_twice() -> None:
    log = ConnectionLog("kraken", Channel.ORDERBOOK)
    log.append(b"{half")
    log.recorded("book_sequence_2")
    partition = log.partition()
    log.work(partition)
    before = (log.processed, log.letters)
    assert before[0] and before[1]
    log.run()  # the first one did not commit
    places = [(record["offset"], record["index"]) for record in log.processed]
    assert len(set(places)) == len(places)
    assert log.processed[: len(before[0])] == before[0] and len(log.letters) == 1


def test_a_first_worker_begins_where_the_topic_does(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(*[frames("upbit", "ticker")[0].payload] * 3)
    log.broker.trim(log.source.topic, log.source.partition, 2)
    log.run()
    assert [record["offset"] for record in log.processed] == [2] and not caplog.text


def test_records_trimmed_before_they_were_processed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD)
    log.run()
    log.append(GOOD, GOOD, GOOD)
    log.broker.trim(log.source.topic, log.source.partition, 3)
    log.run()
    assert [record["offset"] for record in log.processed] == [0, 3]
    assert "offsets 1 to 3 were trimmed before they were processed" in caplog.text


def test_K4_records_trimmed_while_the_worker_was_behind_are_named(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD)
    partition = log.run()
    log.append(GOOD, GOOD, GOOD)
    log.broker.trim(*partition.place, 3)
    assert [log.work(partition), log.work(partition)] == [0, 1]
    assert [record["offset"] for record in log.processed] == [0, 3]
    assert "offsets 1 to 3 were trimmed before they were processed" in caplog.text


def test_S7_a_frame_that_newer_code_can_read_is_not_both_a_letter_and_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(frames("upbit", "ticker")[0].payload)
        log.work(log.partition())  # killed before it commits
    log.run()
    assert (len(log.letters), log.processed) == (1, [])
    assert request(log.source, log.broker) == (1, 0)
    assert [record["offset"] for record in log.processed] == [0]


def test_a_worker_finds_where_it_stopped_behind_any_number_of_redriven_records() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(*[frames("upbit", "ticker")[0].payload] * 2)
    log.work(log.partition())  # killed before it commits
    for _ in range(TAIL_RECORDS + 1):
        log.broker.append(processed_topic(log.region, Channel.TICKER), 0, "", b'{"offset":0,"index":0,"redriven":true}')
    log.run()
    assert [record["offset"] for record in log.processed if "redriven" not in record] == [0, 1]


FOREIGN = [
    b"?",
    b"[]",
    b'{"offset":3,"index":0}',
    b'{"offset":3,"index":"x"}',
    b'{"offset":-3,"index":0}',
    b'{"offset":1e30,"index":0}',
    b'{"offset":null}',
    b"\xff",
    b"",
]


def test_D25_foreign_records_in_the_topics_of_a_worker_mislead_it_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    out, letters = processed_topic(log.region, Channel.TICKER), dead_letter_topic(log.source.topic)

    def disturb() -> None:
        for value in FOREIGN:
            for topic in (out, letters):
                log.broker.append(topic, 0, "\\xff", value)
        stolen = log.broker.read(letters, 0, 0, 1)
        for letter in stolen:  # one of ours that somebody else has copied
            log.broker.append(letters, 0, "", letter.value)

    log.append(GOOD, b"{half", GOOD, GOOD)
    log.run()
    disturb()
    log.append(GOOD, b"{more")
    log.run()  # a new worker looks for where the last one stopped
    disturb()
    places = [origin for record in log.broker.read(out, 0, 0, 1 << 30) if (origin := processed.origin(record))]
    assert [place.offset for place in places] == [0, 2, 3, 4]
    assert request(log.source, log.broker) == (0, 2 + 18)
    assert f"{letters}[0]: offset 1: not a dead letter; records skipped: 18" in caplog.text
    log.run()
    assert [
        (letter.offset, letter.attempts) for letter in LetterReader(log.broker.read(letters, 0, 0, 1 << 30), "")
    ] == [
        *((1, 1), (1, 1), (5, 1), (1, 1), (1, 2), (5, 2)),
    ]


@pytest.mark.parametrize("count", [1, 5], ids=["shorter", "longer"])
@pytest.mark.parametrize("is_running", [True, False], ids=["while it runs", "while it does not"])
def test_K4_a_topic_that_was_made_anew_is_read_from_its_begin(
    count: int, is_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD, b"{half", GOOD)
    partition = log.run()
    assert [record["offset"] for record in log.processed] == [0, 2]
    log.broker._logs.pop(partition.place)
    log.append(*[GOOD] * count)
    if is_running and count == 1:
        partition.watch(0.0, log.end)
        assert "ends at offset 1, before our 3: begun anew" in caplog.text
    else:  # nobody sees a topic that was made anew and has grown since, until it is begun
        partition = log.partition()
    assert "made anew since offset 3, goes on at 0" in caplog.text
    assert (partition.position, log.work(partition)) == (0, count)
    assert [record["offset"] for record in log.processed] == [0, 2, *range(count)]
    assert log.work(log.partition()) == count, "killed before it committed"
    assert [record["offset"] for record in log.processed] == [0, 2, *range(count)]


def test_K4_a_topic_that_lost_its_newest_records_goes_on_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD, GOOD, GOOD)
    partition = log.run()
    lost = log.broker._logs[partition.place]
    lost.records.pop()
    lost.end -= 1
    partition.watch(0.0, log.end)
    assert "made anew since offset 3, goes on at 2" in caplog.text
    log.append(GOOD)
    log.work(partition)
    assert [record["offset"] for record in log.processed] == [0, 1, 2, 2], "what was lost, and what came instead"


def test_K4_a_topic_emptied_before_it_gave_anything_is_read_from_its_begin() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(b'{"status":"UP"}', b'{"status":"UP"}')
    partition = log.run()
    log.broker._logs.pop(partition.place)
    log.append(GOOD)
    partition.watch(0.0, log.end)
    assert (partition.position, log.work(partition), len(log.processed)) == (0, 1, 1)


def test_K4_a_partition_that_does_not_move_is_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty_log()
    broker.reads_nothing = True
    partition = log.partition()
    log.append(b"{}")
    log.work(partition)
    partition.watch(1.0, log.end)
    before = len(broker.calls["read"])
    partition.watch(1.0 + STUCK_SECONDS, log.end)
    assert len(broker.calls["read"]) == before
    partition.watch(2.0 + STUCK_SECONDS, log.end)
    assert len(broker.calls["read"]) > before
    assert "koreaSocketDataIn-ticker[0]: stuck at offset 0, begun anew" in caplog.text


def test_K4_a_partition_that_moves_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    partition = log.partition()
    log.append(*[b"{}"] * (2 * MOST_RECORDS + 1))
    for moment in (0.0, STUCK_SECONDS + 1, 2 * STUCK_SECONDS + 2):
        partition.watch(moment, log.end)
        log.work(partition)
    partition.watch(3 * STUCK_SECONDS, log.end)
    assert partition.position == log.end and not caplog.records


def test_a_partition_begins_only_when_the_results_of_an_earlier_worker_are_stored() -> None:
    log, broker = faulty_log()
    log.append(GOOD)
    broker.is_behind = True
    with pytest.raises(BrokerUnreachable, match="wait"):
        log.partition()
    broker.is_behind = False
    log.run()
    assert [record["offset"] for record in log.processed] == [0]
