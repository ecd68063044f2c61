"""The long runs that collect, and the sensors that keep them alive."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import dagster as dg

from coin_platform.collect.collector import Collector
from coin_platform.model import Region
from coin_platform.orchestration.lease import (
    ALIVE,
    BOOT,
    LONG_RUN,
    STALE,
    TAKES_OVER,
    VERSION,
    Lease,
    Status,
    beat,
    sensor_name,
)
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import bury_dead, bury_vanished
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.orchestration.version import version
from coin_platform.preprocess.worker import preprocess
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.memory import give_back_memory
from coin_platform.runtime.stop import StopFlag
from coin_platform.selection import exchanges_of
from coin_platform.settings import Settings, load

logger = logging.getLogger(__name__)
BRIEF, LONGEST = 60.0, 300.0  # a run this short is a failure to back off from; the longest back-off
HANDOVER = 180.0  # seconds for which two runs of a job may be alive: the one, and who takes over from it


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
