"""The sensor that keeps one run of a long job alive, and replaces a run of another version."""

import time
from collections.abc import Callable, Sequence

import dagster as dg

from coin_platform.orchestration.lease import (
    FIRST_BEAT_SECONDS,
    LONG_RUN_TAG,
    STALE_SECONDS,
    TAKES_OVER_TAG,
    UNFINISHED_STATUSES,
    VERSION_TAG,
    Lease,
    sensor_name,
)
from coin_platform.orchestration.run_process import fail_dead, fail_vanished
from coin_platform.orchestration.stopwatch import Stopwatch

SHORT_RUN_SECONDS = 60.0  # a failed run that lasted less makes the next run wait
FIRST_BACK_OFF_SECONDS = 10.0  # after one short failed run; each further one doubles the wait
LONGEST_BACK_OFF_SECONDS = 300.0
HANDOVER_SECONDS = 180.0  # for which a run and the run that takes over from it may both be alive
_RUNS = 20  # newest runs of the job that a tick looks at

_BEGUN = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def watchdog(job: dg.JobDefinition, clock: Callable[[], float] = time.monotonic) -> dg.SensorDefinition:
    """Return the sensor that keeps exactly one run of a job alive. The sensor's switch is the desired state.

    A collector of another version is replaced once its successor receives all feeds. Other runs of another version
    are ended first.
    """

    @dg.sensor(
        job=job,
        name=sensor_name(job.name),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"On: {job.name} runs. Off: it stores what it has and stops.",
    )
    def keep_alive(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return _Look(context.instance, job, clock).act()

    return keep_alive


class _Look:
    """One tick of the watchdog."""

    def __init__(self, instance: dg.DagsterInstance, job: dg.JobDefinition, clock: Callable[[], float]) -> None:
        self._instance, self._job, self._name, self._clock = instance, job, job.name, clock

    def act(self) -> dg.SensorResult | dg.SkipReason:
        """Fail dead runs, end surplus runs, and ask for a run where none is alive."""
        newest = self._instance.get_run_records(dg.RunsFilter(job_name=self._name), limit=_RUNS)
        alive = self._alive([record for record in newest if record.dagster_run.status in UNFINISHED_STATUSES])
        if len(alive) == 2 and self._is_taking_over(alive[0].dagster_run):
            return dg.SkipReason("a run is taking over from another")
        for surplus in alive[:-1]:
            self._instance.run_coordinator.cancel_run(surplus.dagster_run.run_id)
        if alive:
            return self._replace(alive[-1].dagster_run)
        wait = self._back_off(newest)
        if wait > 0:
            return dg.SkipReason(f"the last runs failed soon after their start; the next one starts in {wait:.0f} s")
        # The key names the last run. So a tick that is tried twice cannot start two runs.
        last = newest[0].dagster_run.run_id if newest else "first"
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{self._name}:after:{last}")])

    def _alive(self, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
        """Fail the runs that are dead; return the others, newest first."""
        begun = [record for record in records if record.dagster_run.status in _BEGUN]
        starting = [record for record in records if record not in begun]
        left = [
            *fail_dead(self._instance, starting, self._name, self._clock),
            *fail_vanished(self._instance, begun),
        ]
        return [record for record in records if record in left and not self._fail_silent(record.dagster_run)]

    def _fail_silent(self, run: dg.DagsterRun) -> bool:
        """Fail a run that has begun and shows no heartbeat; return whether it was so.

        Nothing else notices a run that froze, or whose process vanished on another machine.
        """
        if run.status not in _BEGUN:
            return False
        name = run.tags.get(LONG_RUN_TAG, self._name)
        lease = Lease(self._instance, self._name, name)
        last_beat = lease.last_beat(run.run_id)
        seconds = self._stopwatch(f"lease/{name}").seconds(f"{run.run_id} {last_beat}")
        if seconds <= (STALE_SECONDS if last_beat else FIRST_BEAT_SECONDS):
            return False
        lease.kill(run.run_id)
        self._instance.report_run_failed(run, f"{self._name}: no heartbeat for {seconds:.0f} s")
        return True

    def _is_taking_over(self, run: dg.DagsterRun) -> bool:
        if TAKES_OVER_TAG not in run.tags:
            return False
        return self._stopwatch(f"handover/{self._name}").seconds(run.run_id) < HANDOVER_SECONDS

    def _replace(self, run: dg.DagsterRun) -> dg.SensorResult | dg.SkipReason:
        """Begin to replace a run of another version than the loaded code. That is tried once for each run."""
        version = self._job.tags[VERSION_TAG]
        if run.status is not dg.DagsterRunStatus.STARTED or run.tags.get(VERSION_TAG, version) == version:
            return dg.SkipReason("one run is alive")
        if not self._name.startswith("collect_"):
            # A worker loses nothing: the next one goes on at the stored offsets.
            self._instance.run_coordinator.cancel_run(run.run_id)
            return dg.SkipReason("a run of another version is asked to end")
        # The queue lets only one run of a name run, so the successor has another name.
        tags = {LONG_RUN_TAG: f"{self._name}@{version}", TAKES_OVER_TAG: run.run_id}
        key = f"{self._name}:{version}:after:{run.run_id}"
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags=tags)])

    def _back_off(self, newest: Sequence[dg.RunRecord]) -> float:
        """Return the seconds to wait after a series of runs that failed soon after their start."""
        failures = 0
        for record in newest:
            lasted = (record.end_time or 0) - (record.start_time or record.end_time or 0)
            if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE or lasted > SHORT_RUN_SECONDS:
                break
            failures += 1
        if failures == 0:
            return 0.0
        waited = self._stopwatch(f"back_off/{self._name}").seconds(newest[0].dagster_run.run_id)
        return min(LONGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** (failures - 1)) - waited

    def _stopwatch(self, name: str) -> Stopwatch:
        return Stopwatch(self._instance, name, self._clock)
