"""The processes of `coin up` and of the demo end with it, and the numbers of the demo add up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coin_platform.runtime.ports import free_ports
from tests.kit.figures import ROOT
from tests.kit.waiting import until

_BACKGROUND = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
)


def _place(home: Path) -> dict[str, str]:
    place = {"COIN_HOME": str(home), "COIN_EXCHANGES_MODE": "simulated", "COIN_EXCHANGES": "upbit"}
    place["COIN_SIMULATOR_PORT"] = str(free_ports(1)[0])
    return {name: text for name, text in os.environ.items() if name != "DAGSTER_HOME"} | place


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGHUP,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, marks=pytest.mark.long),
    ],
)
def test_D11_up_ends_all_processes_it_started_also_in_the_background_of_a_script(
    number: signal.Signals, tmp_path: Path
) -> None:
    environment = _place(tmp_path)
    command = [sys.executable, "-c", _BACKGROUND, sys.executable, "-m", "coin_platform", "up"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and b"Dagster UI" in process.stdout.readline()
            until(lambda: len(psutil.Process(process.pid).children(recursive=True)) > 4, 60)  # also Dagster's own
            again = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert again.returncode == 2
            assert f"`coin up` uses it, process {process.pid} on ".encode() in again.stderr
            assert len(again.stderr.splitlines()) == 1
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            assert process.wait(60) == (0 if number is not signal.SIGKILL else -signal.SIGKILL)
        finally:
            process.kill()
    until(lambda: not any(_runs(child) for child in children), 60)
    assert (tmp_path / "dagster_home" / "dagster.yaml").exists()


@pytest.mark.long
@pytest.mark.s3
def test_D11_services_of_a_demo_end_with_it_also_by_kill(tmp_path: Path) -> None:
    run = (
        "import sys, time; from pathlib import Path; from coin_platform.demo.processes import stack\n"
        "with stack(Path(sys.argv[1]), Path(sys.argv[2]), ['seaweedfs']):\n"
        "    print('up', flush=True)\n    time.sleep(1000)"
    )
    command = [sys.executable, "-c", run, str(ROOT), str(tmp_path / "stack")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline() != b"up\n":
                assert process.poll() is None
            server = psutil.Process(int((tmp_path / "stack" / "seaweedfs" / "pid").read_text().split()[0]))
            assert _runs(server)
        finally:
            process.kill()
    until(lambda: not _runs(server), 60)


@pytest.mark.long
@pytest.mark.timeout(1200)  # the demo gives up after 900 s by itself
@pytest.mark.parametrize(
    "choice",
    [
        pytest.param((), id="embedded"),
        pytest.param(("BROKER=kafka", "LAKE=s3"), id="kafka and s3", marks=[pytest.mark.kafka, pytest.mark.s3]),
    ],
)
def test_the_main_job_adds_up(choice: tuple[str, ...]) -> None:
    output = subprocess.run(["make", "demo", *choice], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(output)
    assert "everything adds up: sent = stored" in output


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
