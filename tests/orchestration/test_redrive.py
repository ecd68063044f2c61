"""The job that redrives dead letters, with topics in memory."""

from typing import Any

import dagster as dg
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.errors import DecodeError, PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.preprocess import redrive
from coin_platform.settings import load
from tests.kit.dagster import GivenTopics
from tests.kit.recordings import frames
from tests.preprocess.test_worker import Log


def run(names: list[str] | None = None) -> dg.ExecuteInProcessResult:
    config = {"ops": {"redrive": {"config": {"exchanges": names}}}} if names is not None else None
    return redrive_dead_letters.execute_in_process(
        run_config=config, resources={"topics": GivenTopics()}, raise_on_error=False
    )


def said(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the metadata of the op's output."""
    [event] = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    output: Any = event.event_specific_data
    return {name: value.value for name, value in output.metadata.items()}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Give a log with letters of two exchanges: older code could read none of Upbit's."""
    upbit, okx = Log("upbit", Channel.TICKER), Log("okx", Channel.TICKER)
    GivenTopics.broker = okx.broker = upbit.broker
    with monkeypatch.context() as older:
        older.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        upbit.append(*[frames("upbit", "ticker")[0].payload] * 2, b"{half")
        upbit.run()
    okx.append(b"{half")
    okx.run()
    return upbit


def test_S7_the_job_says_what_passes_now_and_tells_it_once(log: Log) -> None:
    result = run()
    assert result.success
    table = "| partition | pass now | still dead |\n|---|---|---|\n| upbit ticker | 2 | 1 |\n| okx ticker | 0 | 1 |"
    assert said(result) == {"pass_now": 2, "still_dead": 2, "partitions": table}
    assert [(record["offset"], record["redriven"]) for record in log.processed] == [(0, True), (1, True)]
    again = said(run())
    assert (again["pass_now"], again["still_dead"]) == (0, 2)
    assert len(log.processed) == 2


def test_the_job_takes_only_the_exchanges_that_it_is_given(log: Log) -> None:
    chosen = said(run(["okx"]))
    assert (chosen["pass_now"], chosen["still_dead"]) == (0, 1)
    assert not log.processed
    assert said(run(["bithumb"]))["partitions"] == "no dead letters"


def test_the_job_refuses_an_exchange_that_is_none(log: Log) -> None:
    result = run(["nobody"])
    [failure] = result.get_step_failure_events()
    assert not result.success and "nobody: there is no such exchange" in str(failure.step_failure_data.error)


def test_a_partition_that_is_held_fails_alone(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(redrive, "_LOOK_SECONDS", 0.001)

    def claim(broker: MemoryBroker, topic: str, partition: int) -> None:
        if topic.startswith("koreaSocketDataIn-ticker"):
            raise PartitionBusy("process 7 writes it")

    monkeypatch.setattr(MemoryBroker, "claim", claim)
    result = run()
    [failure] = result.get_step_failure_events()
    assert not result.success and "1 partitions are held" in str(failure.step_failure_data)
    assert "process 7 writes it" in str(failure.step_failure_data)
    assert len(log.processed) == 0 and redrive.tried(Log("okx", Channel.TICKER).source, log.broker) == 1
    assert load().exchanges == ()
