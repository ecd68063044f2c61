"""A run names the process that executes it."""

import dagster as dg

from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import PROCESS_TAG
from coin_platform.runtime.processes import identity


def test_D9_a_run_notes_its_process(instance: dg.DagsterInstance) -> None:
    @dg.op
    def work(context: dg.OpExecutionContext, topics: Topics, lake: LakeFolder) -> None:
        pass

    @dg.job(resource_defs={"topics": Topics(), "lake": LakeFolder()})
    def short() -> None:
        work()

    run_id = short.execute_in_process(instance=instance).run_id
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.tags[PROCESS_TAG] == identity()
