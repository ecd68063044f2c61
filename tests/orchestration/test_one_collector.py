"""Exactly one collector, whatever happens to it, to its code server, to `dagster dev` or to the whole machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import httpx
import psutil
import pytest

from coin_platform.broker import LocalBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel
from coin_platform.orchestration.lease import TAKES_OVER_TAG, VERSION_TAG
from coin_platform.records import Header, unpack
from coin_platform.runtime.ports import free_ports
from coin_platform.simulator.server import digest
from coin_platform.tables.gap_table import Gaps
from tests.kit.waiting import until

ROOT = Path(__file__).resolve().parents[2]
TOPIC, JOB = "koreaSocketDataIn-ticker", "collect_korea"
PATIENCE = 180.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Deployment:
    """`dagster dev` with a copy of our code, and a simulated Upbit, each in a session of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.ui = home, free_ports(1)[0]
        (home / "dagster_home").mkdir(parents=True)
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home / "dagster_home")
        self.code = home / "code"
        shutil.copytree(ROOT / "coin_platform", self.code / "coin_platform")
        shutil.copy(ROOT / "workspace.yaml", self.code)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.code),
            "COIN_HOME": str(home),
            "COIN_EXCHANGES_MODE": "simulated",
            "COIN_EXCHANGES": "upbit",
            "COIN_CHANNELS": "ticker",
            "COIN_SIMULATOR_PORT": str(free_ports(1)[0]),
            "DAGSTER_HOME": str(home / "dagster_home"),
        }
        self.broker = LocalBroker(home / "data" / "journal")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.start("simulator", "-m", "coin_platform", "simulate", "--seed", "7")
        self.start_dagster()

    def start(self, name: str, *arguments: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.code,  # it comes before PYTHONPATH
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_dagster(self) -> None:
        workspace = str(self.code / "workspace.yaml")
        self.start("dagster", "-m", "dagster", "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(self.ui))

    def deploy(self) -> None:
        """Change the code and load it, as the button "Reload" does."""
        with (self.code / "coin_platform" / "__init__.py").open("a") as file:
            file.write("\n# another version\n")
        reload = 'mutation { reloadRepositoryLocation(repositoryLocationName: "coin_platform") { __typename } }'
        answer = httpx.post(f"http://127.0.0.1:{self.ui}/graphql", json={"query": reload}, timeout=60)
        assert answer.json()["data"]["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry", answer.text

    def headers(self) -> list[Header]:
        end = self.broker.end_offset(TOPIC, 0)
        return [unpack(record.header) for record in self.broker.read(TOPIC, 0, 0, end)]

    def frames(self) -> list[Header]:
        return [header for header in self.headers() if header.kind.is_frame]

    def until_frames_of_a_new_producer(self, known: set[int]) -> None:
        until(lambda: {header.epoch for header in self.frames()} - known, PATIENCE, name="frames of a new producer")

    def producers(self) -> set[int]:
        return {header.epoch for header in self.frames()}

    def runs(self) -> list[dg.DagsterRun]:
        with dg.DagsterInstance.from_config(str(self.home / "dagster_home")) as instance:
            return list(instance.get_runs(dg.RunsFilter(job_name=JOB)))

    def lease(self) -> dict[str, object]:
        key = f"coin/lease/{JOB}"
        with dg.DagsterInstance.from_config(str(self.home / "dagster_home")) as instance:
            row: dict[str, object] = json.loads(instance.daemon_cursor_storage.get_cursor_values({key})[key])
            return row

    def pid(self) -> int:
        pid = self.lease()["pid"]
        assert isinstance(pid, int)
        return pid

    def descendants(self) -> list[psutil.Process]:
        """Every process that runs with this deployment's home."""
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("COIN_HOME") == str(self.home) and process.pid != os.getpid():
                    processes.append(process)
        return [process for process in processes if process.pid != self.processes["simulator"].pid]

    def kill_all(self) -> None:
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.processes["dagster"].wait()

    def settle(self) -> None:
        """End the feed from the exchange's side, so that all that was sent has arrived, and compare."""
        before = len(self.frames())
        until(lambda: len(self.frames()) > before + 50, PATIENCE, name="steady frames")
        newest = self.frames()[-40:]
        assert len({(header.epoch, header.connection) for header in newest}) == 1, "two producers"
        self.processes["simulator"].send_signal(signal.SIGTERM)
        self.processes["simulator"].wait(20)
        until(lambda: not self.lost(), PATIENCE, name="the last frame")
        end = self.broker.end_offset(TOPIC, 0)
        stored = Counter(
            digest(record.value) for record in self.broker.read(TOPIC, 0, 0, end) if unpack(record.header).kind.is_frame
        )
        assert not stored - self.sent(), "stored twice, or never sent"

    def sent(self, lost_on_the_way: bool = True) -> Counter[str]:
        """What was sent; without what connections that broke off may have lost on the way, if so wanted."""
        folder = self.home / "data" / "simulator"
        closed = [json.loads(line) for line in (folder / "closed.jsonl").read_text().splitlines()]
        broken = {line["connection"] for line in closed if line["code"] == 1006}
        lines = [json.loads(line) for line in (folder / "sent.jsonl").read_text().splitlines()]
        return Counter(line["hash"] for line in lines if lost_on_the_way or line["connection"] not in broken)

    def lost(self) -> Counter[str]:
        end = self.broker.end_offset(TOPIC, 0)
        stored = Counter(digest(record.value) for record in self.broker.read(TOPIC, 0, 0, end))
        return self.sent(lost_on_the_way=False) - stored

    def end(self) -> None:
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self.processes.values():
            child.kill()
            child.wait()
        self.broker.close()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "home")
    try:
        until(lambda: len(deployment.frames()) > 50, PATIENCE, name="the first frames")
        yield deployment
    finally:
        deployment.end()


def test_A3_a_frozen_worker_is_replaced_and_ended(deployment: Deployment) -> None:
    frozen, known = deployment.pid(), deployment.producers()
    os.kill(frozen, signal.SIGSTOP)
    deployment.until_frames_of_a_new_producer(known)
    assert not psutil.pid_exists(frozen) or psutil.Process(frozen).status() == psutil.STATUS_ZOMBIE
    assert [run.status.value for run in deployment.runs()] == ["STARTED", "FAILURE"]
    deployment.settle()


def test_a_run_outlives_its_code_server_and_still_obeys(deployment: Deployment) -> None:
    worker = psutil.Process(deployment.pid())
    for process in deployment.descendants():
        with suppress(psutil.NoSuchProcess):
            if "grpc" in process.cmdline():
                process.kill()
    before = len(deployment.frames())
    until(lambda: len(deployment.frames()) > before + 100, PATIENCE, name="frames without a code server")
    with dg.DagsterInstance.from_config(str(deployment.home / "dagster_home")) as instance:
        instance.report_run_canceling(deployment.runs()[0])  # what Terminate does first; its call to the server fails
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 30, name="the run obeys")
    assert [run.status.value for run in deployment.runs()] == ["CANCELED"]
    known = deployment.producers()
    deployment.kill_all()
    deployment.start_dagster()
    deployment.until_frames_of_a_new_producer(known)
    deployment.settle()


def test_a_second_launch_by_hand_never_produces(deployment: Deployment) -> None:
    known = deployment.producers()
    module = "coin_platform.orchestration.definitions"
    command = [sys.executable, "-m", "dagster", "job", "launch", "-m", module, "-j", JOB]
    subprocess.run(command, env=deployment.environment, check=True, capture_output=True)
    until(
        lambda: [r.status.value for r in deployment.runs()] == ["CANCELED", "STARTED"],
        PATIENCE,
        name="the second run is called off",
    )
    assert deployment.producers() == known
    deployment.settle()


def test_F5_a_deploy_leaves_no_gap_and_no_double(deployment: Deployment) -> None:
    known = deployment.producers()
    deployment.deploy()
    until(
        lambda: [run.status.value for run in deployment.runs()] == ["STARTED", "SUCCESS"],
        PATIENCE,
        name="one has taken over",
    )
    newest, oldest = deployment.runs()
    assert newest.tags[TAKES_OVER_TAG] == oldest.run_id
    assert newest.tags[VERSION_TAG] != oldest.tags[VERSION_TAG]
    assert len(deployment.producers()) == len(known) + 1
    before = len(deployment.frames())
    until(lambda: len(deployment.frames()) > before + 200, PATIENCE, name="frames of the new one alone")
    source = Source(EXCHANGES["upbit"], Channel.TICKER, TOPIC, 0)
    gaps = Gaps(source, None)
    gaps.read(deployment.broker.read(TOPIC, 0, 0, deployment.broker.end_offset(TOPIC, 0)))
    assert gaps.table().is_empty()
    deployment.settle()


def test_ctrl_c_of_dagster_dev_drains_the_run(deployment: Deployment) -> None:
    known = deployment.producers()
    os.killpg(deployment.processes["dagster"].pid, signal.SIGINT)
    until(lambda: not deployment.descendants(), 60, name="everything has ended")
    deployment.processes["dagster"].wait()
    *later, drained = [run.status.value for run in deployment.runs()]
    assert (drained, later) in [("SUCCESS", []), ("SUCCESS", ["QUEUED"])]  # the sensor may have asked for the next one
    assert not deployment.lost()
    deployment.start_dagster()
    deployment.until_frames_of_a_new_producer(known)
    deployment.settle()


def test_after_everything_was_killed_the_next_start_takes_over(deployment: Deployment) -> None:
    known = deployment.producers()
    deployment.kill_all()
    assert [run.status.value for run in deployment.runs()] == ["STARTED"]  # nobody was left to say otherwise
    deployment.start_dagster()
    deployment.until_frames_of_a_new_producer(known)
    assert [run.status.value for run in deployment.runs()] == ["STARTED", "FAILURE"]
    deployment.settle()
