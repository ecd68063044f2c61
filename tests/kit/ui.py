"""Starts Dagster's UI on a loopback port with its sensors switched off, and finds a browser for it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from coin_platform.demo.processes import DAGSTER_DEV

ROOT = Path(__file__).resolve().parents[2]
LOCATION = "coin_platform"
START_SECONDS = 180  # in which the UI must answer, also on a busy machine


def switch_off(instance: dg.DagsterInstance, sensors: list[str]) -> None:
    """Switch sensors off before anything runs, as a user does under Automation."""
    target = LoadableTargetOrigin(module_name="coin_platform.orchestration.definitions")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=LOCATION)
    for name in sensors:
        origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin(name)
        state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData())
        instance.add_instigator_state(state)


@contextlib.contextmanager
def dagster_dev(home: Path, environment: Mapping[str, str], port: int) -> Iterator[str]:
    """Run `dagster dev` in `home` and yield its address once it answers. At the end, end it and its children."""
    command = [sys.executable, *DAGSTER_DEV, "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1"]
    address = f"http://127.0.0.1:{port}"
    with (home / "dagster.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-p", str(port)],
            env={**os.environ, **environment},
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(process, f"{address}/server_info", home / "dagster.log")
            yield address
        finally:
            _end(process)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"no UI within {START_SECONDS} s: {log.read_text()[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def chromium() -> str | None:
    """Return the path of Chromium, `None` if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
