"""What a worker and its partitions say of themselves, as the status of a deployment."""

from collections.abc import Collection, Sequence

from coin_platform.cluster.status import ComponentKind, Status
from coin_platform.model import Region
from coin_platform.preprocess.partition import Partition


def worker_reports(
    region: Region, partitions: Sequence[Partition], vanished: Collection[str], failure: str
) -> list[Status]:
    """Return the status of a worker and of its partitions. `failure`: why the broker cannot be read or written now."""
    reports = [_partition_report(partition, vanished, failure) for partition in partitions]
    waiting = sum(partition.lag for partition in partitions)
    gone = f"vanished: {', '.join(sorted(vanished))}" if vanished else ""
    return [
        Status(
            name=f"worker/{region}",
            kind=ComponentKind.WORKER,
            state="waiting" if failure else "degraded" if gone else "live",
            reason=failure or gone,
            numbers={"partitions": len(partitions), "lag_records": waiting},
        ),
        *reports,
    ]


def _partition_report(partition: Partition, vanished: Collection[str], failure: str) -> Status:
    source = partition.source
    is_gone = source.topic in vanished
    return Status(
        name=f"partition/{source.exchange.name}/{source.channel}",
        kind=ComponentKind.PARTITION,
        state="vanished" if is_gone else "waiting" if failure else "live",
        reason=f"topic {source.topic} does not exist any more" if is_gone else failure,
        numbers={"lag_records": partition.lag, "position": partition.position, "committed": partition.committed},
    )
