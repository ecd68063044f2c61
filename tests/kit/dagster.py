"""Dagster's resources with a broker and a lake that the test gives them, and what Dagster knows of a run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import dagster as dg

from coin_platform.broker import Broker, MemoryBroker
from coin_platform.lake import Lake
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.runtime.processes import identity


class GivenTopics(Topics):
    """The topics of `broker`, which stays open."""

    broker: ClassVar[MemoryBroker]

    @contextmanager
    def open(self, *, guest: bool = False, may_send: Callable[[], bool] = lambda: True) -> Iterator[Broker]:
        yield type(self).broker


class GivenLake(LakeFolder):
    """The lake `lake`."""

    lake: ClassVar[Lake]

    def open(self) -> Lake:
        return type(self).lake


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    """Return the status of a run as it is now."""
    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None
    return stored.status


def ended_process() -> str:
    """Return the identity of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return identity(process.pid)
