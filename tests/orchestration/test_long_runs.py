"""A long run has a metrics port of its own, and ends in order at each signal."""

import asyncio
import os
import signal

import pytest

from coin_platform.model import Region
from coin_platform.orchestration.long_runs import with_own_metrics_port
from coin_platform.runtime.stop import StopFlag
from coin_platform.settings import Settings


def test_D12_each_workers_metrics_have_a_port_of_their_own() -> None:
    def ports(settings: Settings, *regions: Region) -> list[int]:
        return [with_own_metrics_port(settings, region).metrics_port for region in regions]

    assert ports(Settings(metrics_port=9100), *Region) == [9100, 9101, 9102]
    assert ports(Settings(metrics_port=9100, exchanges=("okx", "kraken")), Region.ASIA, Region.NE) == [9100, 9101]
    assert ports(Settings(metrics_port=0), *Region) == [0, 0, 0]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_D11_a_long_run_ends_in_order_also_when_its_terminal_closes(number: signal.Signals) -> None:
    async def scenario() -> str:
        stop = StopFlag()
        with stop.installed():
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stop.event.wait(), 10)
        return stop.reason

    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert asyncio.run(scenario()) == number.name
        assert signal.getsignal(number) is signal.SIG_DFL, "as it was"
    finally:
        signal.signal(number, before)
