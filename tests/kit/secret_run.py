"""A Dagster run that fails on services that are not there, and everything that Dagster shows of it, on stdout.

`python -m tests.kit.secret_run` prints the run's config, tags and events, and what Dagster knows of every job.
"""

import dagster as dg

from coin_platform.orchestration.definitions import defs


def main() -> None:
    """Make one window of one exchange, and print what is stored of the attempt."""
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("tables_korea")
        assert job.partitions_def is not None
        key = job.partitions_def.get_first_partition_key()
        result = job.execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            asset_selection=sorted(job.asset_layer.executable_asset_keys)[:3],
        )
        assert not result.success, "the services are there"
        run = instance.get_run_by_id(result.run_id)
        print(dg.serialize_value(run))
        for entry in instance.all_logs(result.run_id):
            print(entry.user_message, dg.serialize_value(entry))
    for definition in defs.resolve_all_job_defs():
        print(dg.serialize_value(definition.get_job_snapshot()))
    print("the run failed, as it should")


if __name__ == "__main__":
    main()
