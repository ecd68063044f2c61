"""The jobs that collect and preprocess. A run of such a job lasts until somebody ends it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import closing

import dagster as dg

from coin_platform.cluster import open_cluster
from coin_platform.cluster.leader import open_leadership
from coin_platform.collect.candidate import Candidate
from coin_platform.model import Region
from coin_platform.orchestration.lease import LONG_RUN_TAG, TAKES_OVER_TAG, VERSION_TAG, beat
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.version import version
from coin_platform.preprocess.worker import preprocess
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.memory import give_back_memory
from coin_platform.runtime.stop import StopFlag
from coin_platform.selection import exchanges_of
from coin_platform.settings import Settings, load

logger = logging.getLogger(__name__)


def run_until_stopped(context: dg.OpExecutionContext, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work` until a signal, the UI or the switch of the job's sensor ends it.

    Raises `DagsterExecutionInterruptedError` if the user terminated the run: it then ends CANCELED and not SUCCESS.
    """
    job = context.job_name

    async def run() -> str:
        stop = StopFlag()
        with stop.installed():
            heartbeat = asyncio.create_task(beat(context.instance, context.run_id, job, stop))
            try:
                await work(stop.event)
            finally:
                stop.set("its work ended")
                await heartbeat
        return stop.reason

    context.log.info(f"{job} stopped: {asyncio.run(run())}")
    stored_run = context.instance.get_run_by_id(context.run_id)
    if stored_run is not None and stored_run.status is not dg.DagsterRunStatus.STARTED:
        raise dg.DagsterExecutionInterruptedError


@dg.op
def collect_region(context: dg.OpExecutionContext, topics: Topics) -> None:
    """Collect a region's exchanges into its raw topics until told to stop."""
    settings, region = load(), Region(context.run_tags["coin/region"])
    set_up(settings, f"collect {region}", context.run_id)
    give_back_memory()
    is_guest = TAKES_OVER_TAG in context.run_tags
    with (
        closing(open_leadership(settings, region.value, guest=is_guest)) as leadership,
        topics.open(guest=is_guest, may_send=leadership.may_publish) as broker,
        closing(open_cluster(settings)) as cluster,
    ):
        run_until_stopped(context, lambda stop: Candidate(region, settings, broker, cluster, leadership).run(stop))


@dg.op
def preprocess_region(context: dg.OpExecutionContext, topics: Topics, lake: LakeFolder) -> None:
    """Turn a region's raw topics into processed records, dead letters and landing objects until told to stop."""
    region = Region(context.run_tags["coin/region"])
    settings = with_own_metrics_port(load(), region)
    set_up(settings, f"preprocess {region}", context.run_id)
    give_back_memory()
    with topics.open() as broker, closing(open_cluster(settings)) as cluster:
        exchanges, store = exchanges_of(region, settings), lake.open()
        run_until_stopped(context, lambda stop: preprocess(region, exchanges, settings, broker, store, stop, cluster))


def with_own_metrics_port(settings: Settings, region: Region) -> Settings:
    """Return the settings with the metrics port of one region's worker.

    The first region that has exchanges, in the order of `Region`, has COIN_METRICS_PORT. The next region has the next
    port.
    """
    if not settings.metrics_port:
        return settings
    regions = [region for region in Region if exchanges_of(region, settings)]
    return settings.model_copy(update={"metrics_port": settings.metrics_port + regions.index(region)})


def collect_job(region: Region) -> dg.JobDefinition:
    """Return the job that collects a region."""
    return _long_job(f"collect_{region}", region, collect_region, priority=10)


def preprocess_job(region: Region) -> dg.JobDefinition:
    """Return the job that preprocesses a region."""
    return _long_job(f"preprocess_{region}", region, preprocess_region, priority=9)


def _long_job(name: str, region: Region, op: dg.OpDefinition, *, priority: int) -> dg.JobDefinition:
    """Return a job of one op in one process, so that the run ends when its process ends."""
    tags = {
        "coin/region": region.value,
        LONG_RUN_TAG: name,
        VERSION_TAG: version(),
        "dagster/priority": str(priority),
        "dagster/max_retries": "0",  # the watchdog starts the next run
        "dagster/max_runtime": "0",  # no limit
    }

    @dg.job(name=name, executor_def=dg.in_process_executor, tags=tags, description=op.description)
    def job() -> None:
        op()

    return job
