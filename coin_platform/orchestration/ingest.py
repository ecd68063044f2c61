"""The long runs that collect, and the sensors that keep them alive."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import psutil
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from coin_platform.collect.collector import Collector, exchanges_of
from coin_platform.memory import give_back_memory
from coin_platform.model import Region
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import bury_dead, bury_vanished
from coin_platform.orchestration.stopwatch import Stopwatch, row_of
from coin_platform.orchestration.version import version
from coin_platform.preprocess.worker import preprocess
from coin_platform.processes import ending_signals
from coin_platform.settings import Settings, load
from coin_platform.telemetry import set_up

logger = logging.getLogger(__name__)

Status = dg.DagsterRunStatus
ALIVE = [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
BEAT, STALE, BOOT = 5.0, 45.0, 120.0  # seconds: between heartbeats, without one until dead, until the first one
BRIEF, LONGEST = 60.0, 300.0  # a run this short is a failure to back off from; the longest back-off
HANDOVER = 180.0  # seconds for which two runs of a job may be alive: the one, and who takes over from it

LONG_RUN, VERSION, TAKES_OVER = "coin/long_run", "coin/version", "coin/takes_over"  # tags


class StopFlag:
    """Terminate, Ctrl-C, SIGTERM and a closed terminal set one event; Dagster's own handlers are put back on exit.

    Dagster's handler raises wherever Python happens to be; inside a task that would end one connection, not the run.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        """Ask the run to end."""
        self.reason = self.reason or reason
        self.event.set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals of the main thread; elsewhere (tests) only `set` works."""
        loop, numbers = asyncio.get_running_loop(), ending_signals()
        old = {number: signal.getsignal(number) for number in numbers}
        with contextlib.suppress(ValueError, RuntimeError):
            for number in numbers:
                loop.add_signal_handler(number, self.set, number.name)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError, RuntimeError):
                for number, handler in old.items():
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)


class Lease:
    """The heartbeat of a long run, in Dagster's own key-value table: an upsert, so that the event log does not grow.

    It is a count of beats, which the watchdog compares over its own ticks: whose wall clock jumps does not matter.
    """

    def __init__(self, instance: dg.DagsterInstance, job: str, name: str | None = None) -> None:
        """`name` tells the run apart from another one of the job that is alive: its tag `LONG_RUN`."""
        self._storage = instance.daemon_cursor_storage
        # The second row is that of the run that beat last, which may be the other one. Former versions wrote only this.
        self._keys = (f"coin/lease/{job}/{name or job}", f"coin/lease/{job}")
        self._beats = 0

    def renew(self, run_id: str) -> None:
        """Say that this run is alive."""
        self._beats += 1
        process = psutil.Process()
        where = {"host": socket.gethostname(), "pid": process.pid, "started": _age_of_machine(process)}
        row = json.dumps({"run_id": run_id, "beats": self._beats, "time": time.time(), **where})
        self._storage.set_cursor_values(dict.fromkeys(self._keys, row))

    def seen(self, run_id: str) -> str:
        """Return a text that changes with each beat of a run; empty before the first one."""
        row = self._row(run_id)
        return json.dumps([row.get("beats"), row["time"]]) if row else ""

    def kill(self, run_id: str) -> None:
        """End a run's process if it is on this machine: one that is only frozen still holds the journals' locks."""
        row = self._row(run_id)
        if row.get("host") != socket.gethostname():
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(row["pid"])
            if abs(_age_of_machine(process) - row["started"]) < 1:  # or another process has that id by now
                process.kill()

    def _row(self, run_id: str) -> dict[str, Any]:
        values = self._storage.get_cursor_values(set(self._keys))
        rows = [row_of(values, key) for key in self._keys]
        return next((row for row in rows if row.get("run_id") == run_id), {})


def _age_of_machine(process: psutil.Process) -> float:
    """Return the seconds from the machine's start to the process's, which no step of the wall clock changes."""
    return process.create_time() - psutil.boot_time()


def sensor_name(job: str) -> str:
    """Return the name of the sensor whose switch says whether a long run should run."""
    return f"{job}_watchdog"


def is_switched_off(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether the user has switched the job's sensor off in the UI."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return any(s.status is InstigatorStatus.STOPPED for s in states if s.instigator_name == sensor_name(job))


async def beat(instance: dg.DagsterInstance, run_id: str, job: str, stop: StopFlag, every: float = BEAT) -> None:
    """Renew the lease, and obey: a run that was declared dead, cancelled or switched off ends itself."""
    lease: Lease | None = None
    while not stop.event.is_set():
        try:
            run = await asyncio.to_thread(instance.get_run_by_id, run_id)
            if run is None or run.status in (Status.CANCELING, Status.CANCELED, Status.FAILURE):
                return stop.set(f"fenced: {run.status.value if run else 'deleted'}")
            if await asyncio.to_thread(is_switched_off, instance, job):
                return stop.set("its sensor is switched off")
            lease = lease or Lease(instance, job, run.tags.get(LONG_RUN))
            await asyncio.to_thread(lease.renew, run_id)
        except Exception:  # whatever ails Dagster's database, frames must go on being stored
            logger.exception("%s: heartbeat failed; collecting goes on", job)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.event.wait(), every)
    return None


def hold(context: dg.OpExecutionContext, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Do long work until the run is to end, by signal, by the UI or by its sensor's switch."""
    job = context.job_name

    async def run() -> str:
        stop = StopFlag()
        with stop.installed():
            beating = asyncio.create_task(beat(context.instance, context.run_id, job, stop))
            try:
                await work(stop.event)
            finally:
                stop.set("its work ended")
                await beating
        return stop.reason

    context.log.info(f"{job} stopped: {asyncio.run(run())}")
    now = context.instance.get_run_by_id(context.run_id)
    if now is not None and now.status is not Status.STARTED:
        raise dg.DagsterExecutionInterruptedError  # the user's Terminate: the run ends CANCELED, not SUCCESS


@dg.op
def collect_region(context: dg.OpExecutionContext, topics: Topics) -> None:
    """Collect a region's exchanges into its raw topics until told to stop."""
    settings, region = load(), Region(context.run_tags["coin/region"])
    set_up(settings.log_level)
    give_back_memory()
    takes_over = TAKES_OVER in context.run_tags
    with contextlib.closing(topics.open(guest=True) if takes_over else topics.open()) as broker:
        hold(context, lambda stop: Collector(region, settings, broker).run(stop))


@dg.op
def preprocess_region(context: dg.OpExecutionContext, topics: Topics, lake: LakeFolder) -> None:
    """Turn a region's raw topics into processed records, dead letters and landing objects until told to stop."""
    region = Region(context.run_tags["coin/region"])
    settings = with_own_metrics_port(load(), region)
    set_up(settings.log_level)
    give_back_memory()
    with contextlib.closing(topics.open()) as broker:
        exchanges, store = exchanges_of(region, settings), lake.open()
        hold(context, lambda stop: preprocess(region, exchanges, settings, broker, store, stop))


def with_own_metrics_port(settings: Settings, region: Region) -> Settings:
    """Return the settings of one of many workers on this machine: COIN_METRICS_PORT is the first one's.

    The other regions that have exchanges follow, in the order of `Region`.
    """
    if not settings.metrics_port:
        return settings
    regions = [each for each in Region if exchanges_of(each, settings)]
    return settings.model_copy(update={"metrics_port": settings.metrics_port + regions.index(region)})


def collect_job(region: Region) -> dg.JobDefinition:
    """Return the long-running job that collects a region."""
    return _long_job(f"collect_{region}", region, collect_region, priority=10)


def preprocess_job(region: Region) -> dg.JobDefinition:
    """Return the long-running job that preprocesses a region."""
    return _long_job(f"preprocess_{region}", region, preprocess_region, priority=9)


def _long_job(name: str, region: Region, op: dg.OpDefinition, *, priority: int) -> dg.JobDefinition:
    """Return a job of one op in one process, so that one pid has one fate."""
    tags = {
        "coin/region": region.value,
        LONG_RUN: name,
        VERSION: version(),
        "dagster/priority": str(priority),
        "dagster/max_retries": "0",  # the watchdog starts the next run
        "dagster/max_runtime": "0",
    }

    @dg.job(name=name, executor_def=dg.in_process_executor, tags=tags)
    def job() -> None:
        op()

    return job


def watchdog(job: dg.JobDefinition) -> dg.SensorDefinition:
    """Return the sensor that keeps exactly one run of a job alive; its switch is the desired state.

    A run of another version is replaced: a collector once its successor has everything, others by ending it.
    """

    @dg.sensor(
        job=job,
        name=sensor_name(job.name),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"On: {job.name} runs. Off: it drains and stops.",
    )
    def keep_alive(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        found = instance.get_run_records(dg.RunsFilter(job_name=job.name), limit=20)  # newest first
        alive = [record for record in found if record.dagster_run.status in ALIVE]
        alive = [record for record in _bury_unborn(instance, job.name, alive) if not _bury(instance, job.name, record)]
        if len(alive) == 2 and _is_taking_over(instance, job.name, alive[0]):
            return dg.SkipReason("a run is taking over from another")
        for extra in alive[:-1]:
            instance.run_coordinator.cancel_run(extra.dagster_run.run_id)
        if alive:
            return _replace(instance, job, alive[-1].dagster_run)
        wait = _back_off(instance, job.name, found)
        if wait > 0:
            return dg.SkipReason(f"the last runs ended at once; the next one starts in {wait:.0f} s")
        # Named after its predecessor: a tick that is tried twice cannot start two successors.
        before = found[0].dagster_run.run_id if found else "first"
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{job.name}:after:{before}")])

    return keep_alive


def _is_taking_over(instance: dg.DagsterInstance, job: str, record: dg.RunRecord) -> bool:
    if TAKES_OVER not in record.dagster_run.tags:
        return False
    return Stopwatch(instance, f"handover/{job}").seconds(record.dagster_run.run_id) < HANDOVER


def _replace(
    instance: dg.DagsterInstance, job: dg.JobDefinition, run: dg.DagsterRun
) -> dg.SensorResult | dg.SkipReason:
    """See to it that a run has the version of the code that was loaded now; that is tried once."""
    ours = job.tags[VERSION]
    if run.status is not Status.STARTED or run.tags.get(VERSION, ours) == ours:
        return dg.SkipReason("one run is alive")
    if not job.name.startswith("collect_"):
        instance.run_coordinator.cancel_run(run.run_id)  # it loses nothing: the next one goes on where it stopped
        return dg.SkipReason("a run of another version is asked to end")
    # A name of its own for the queue, which lets only one of a name run.
    tags = {LONG_RUN: f"{job.name}@{ours}", TAKES_OVER: run.run_id}
    key = f"{job.name}:{ours}:after:{run.run_id}"
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags=tags)])


def _bury_unborn(instance: dg.DagsterInstance, job: str, alive: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Fail runs whose process is gone, or that wait for one in vain; those that have begun have a lease for that."""
    begun = [record for record in alive if record.dagster_run.status in (Status.STARTED, Status.CANCELING)]
    unborn = [record for record in alive if record not in begun]
    left = [*bury_dead(instance, unborn, job), *bury_vanished(instance, begun)]
    return [record for record in alive if record in left]


def _bury(
    instance: dg.DagsterInstance, job: str, record: dg.RunRecord, clock: Callable[[], float] = time.monotonic
) -> bool:
    """Declare a run dead that shows no heartbeat: nobody else notices a run whose process vanished or froze."""
    run = record.dagster_run
    if run.status not in (Status.STARTED, Status.CANCELING):
        return False
    name = run.tags.get(LONG_RUN, job)
    lease = Lease(instance, job, name)
    beat = lease.seen(run.run_id)
    seconds = Stopwatch(instance, f"lease/{name}", clock).seconds(f"{run.run_id} {beat}")
    if seconds <= (STALE if beat else BOOT):
        return False
    lease.kill(run.run_id)
    instance.report_run_failed(run, f"{job}: no heartbeat for {seconds:.0f} s")
    return True


def _back_off(instance: dg.DagsterInstance, job: str, found: Sequence[dg.RunRecord]) -> float:
    """Return the seconds to wait after a row of runs that failed within a minute."""
    brief = 0
    for record in found:
        lived = (record.end_time or 0) - (record.start_time or record.end_time or 0)
        if record.dagster_run.status is not Status.FAILURE or lived > BRIEF:
            break
        brief += 1
    if brief == 0:
        return 0.0
    waited = Stopwatch(instance, f"back_off/{job}").seconds(found[0].dagster_run.run_id)
    return min(LONGEST, 10.0 * 2.0 ** (brief - 1)) - waited
