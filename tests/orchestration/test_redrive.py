"""The job that redrives dead letters, with topics in memory."""

import json
from typing import Any

import dagster as dg
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.errors import DecodeError, PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Kind, Region
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.preprocess import redrive
from coin_platform.preprocess.worker import Worker
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.settings import Settings, load
from coin_platform.topic_names import processed_topic
from tests.kit.dagster import GivenTopics
from tests.kit.log import TIME
from tests.kit.recordings import frames

SETTINGS = Settings()
UPBIT, OKX = (
    next(source for source in sources(EXCHANGES[name], SETTINGS) if source.channel is Channel.TICKER)
    for name in ("upbit", "okx")
)


def append(broker: MemoryBroker, source: Source, *payloads: bytes) -> None:
    """Log the messages of one connection."""
    for number, payload in enumerate(payloads, 1):
        header = Header(Kind.SOCKET, 1, "c", number, TIME)
        broker.append(source.topic, source.partition, header.pack(), payload)


def work(broker: MemoryBroker, source: Source) -> None:
    """Process the records that wait, as a worker does."""
    Worker(source.exchange.region, [source.exchange], SETTINGS, broker).drain()


def processed(broker: MemoryBroker) -> list[dict[str, Any]]:
    """Return the processed tickers of Upbit."""
    topic = processed_topic(Region.KOREA, Channel.TICKER)
    end = broker.end_offset(topic, UPBIT.partition)
    return [json.loads(record.value) for record in broker.read(topic, UPBIT.partition, 0, end)]


def run(names: list[str] | None = None) -> dg.ExecuteInProcessResult:
    config = {"ops": {"redrive": {"config": {"exchanges": names}}}} if names is not None else None
    return redrive_dead_letters.execute_in_process(
        run_config=config, resources={"topics": GivenTopics()}, raise_on_error=False
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the metadata of the op's output."""
    [event] = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    output: Any = event.event_specific_data
    return {name: value.value for name, value in output.metadata.items()}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """Give a log with dead letters of two exchanges. Older code could not read any message of Upbit."""
    broker = MemoryBroker(clock=lambda: TIME)
    GivenTopics.broker = broker
    with monkeypatch.context() as older:
        older.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        append(broker, UPBIT, *[frames("upbit", "ticker")[0].payload] * 2, b"{half")
        work(broker, UPBIT)
    append(broker, OKX, b"{half")
    work(broker, OKX)
    return broker


def test_S7_the_job_says_what_passes_now_and_tells_it_once(broker: MemoryBroker) -> None:
    result = run()
    assert result.success
    table = "| partition | pass now | still dead |\n|---|---|---|\n| upbit ticker | 2 | 1 |\n| okx ticker | 0 | 1 |"
    assert metadata(result) == {"pass_now": 2, "still_dead": 2, "partitions": table}
    assert [(record["offset"], record["redriven"]) for record in processed(broker)] == [(0, True), (1, True)]
    again = metadata(run())
    assert (again["pass_now"], again["still_dead"]) == (0, 2)
    assert len(processed(broker)) == 2


def test_the_job_takes_only_the_exchanges_that_it_is_given(broker: MemoryBroker) -> None:
    chosen = metadata(run(["okx"]))
    assert (chosen["pass_now"], chosen["still_dead"]) == (0, 1)
    assert not processed(broker)
    assert metadata(run(["bithumb"]))["partitions"] == "no dead letters"


def test_the_job_refuses_an_exchange_that_is_none(broker: MemoryBroker) -> None:
    result = run(["nobody"])
    [failure] = result.get_step_failure_events()
    assert not result.success and "nobody: there is no such exchange" in str(failure.step_failure_data.error)


def test_a_partition_that_is_held_fails_alone(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(redrive, "_LOOK_SECONDS", 0.001)

    def claim(itself: MemoryBroker, topic: str, partition: int) -> None:
        if topic.startswith("koreaSocketDataIn-ticker"):
            raise PartitionBusy("process 7 writes it")

    monkeypatch.setattr(MemoryBroker, "claim", claim)
    result = run()
    [failure] = result.get_step_failure_events()
    assert not result.success and "1 partitions are held" in str(failure.step_failure_data)
    assert "process 7 writes it" in str(failure.step_failure_data)
    assert len(processed(broker)) == 0 and redrive.tried(OKX, broker) == 1
    assert load().exchanges == ()
