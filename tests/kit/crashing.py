"""Runs a window's job and kills the process with `kill -9` while it stores an object in the lake."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from coin_platform.lake import FolderStore
from coin_platform.orchestration.backfill import QUIET
from coin_platform.orchestration.definitions import definitions
from coin_platform.settings import load


class Crash(NamedTuple):
    """When the process is killed: at the object of this number, before or after it is stored."""

    number: int
    is_stored: bool


def make_window(
    environment: Mapping[str, str], job: str, partition: str, tags: Mapping[str, str], crash: Crash | None
) -> None:
    """Run a window's job as a worker of Dagster does, in the home of COIN_HOME, and kill it as `crash` says."""
    os.environ |= environment
    load.cache_clear()
    if crash is not None:
        _arrange(crash)
    home = Path(environment["COIN_HOME"]) / "dagster_home"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        definition = definitions(load()).resolve_job_def(job)
        result = definition.execute_in_process(
            instance=instance, partition_key=partition, tags=dict(tags), run_config=QUIET, raise_on_error=False
        )
    assert result.success


def _arrange(crash: Crash) -> None:
    put, stored = FolderStore.put, 0

    def dying(store: FolderStore, key: str, data: bytes, if_match: str | None) -> str:
        nonlocal stored
        stored += 1
        if stored == crash.number and not crash.is_stored:
            os.kill(os.getpid(), signal.SIGKILL)
        etag = put(store, key, data, if_match)
        if stored == crash.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return etag

    setattr(FolderStore, "put", dying)  # noqa: B010
