"""What a worker and its partitions say of themselves, as the status of a deployment."""

from collections.abc import Collection, Sequence

from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import ComponentKind, Status
from coin_platform.model import Region
from coin_platform.preprocess.partition import Partition

_SUMMED = ("lag_records", "rows", "rows_per_second", "dead_letters")  # over the partitions of a worker


def worker_reports(
    region: Region,
    partitions: Sequence[Partition],
    vanished: Collection[str],
    failure: str,
    rates: Rates,
    moment: float,
) -> list[Status]:
    """Return the status of a worker and of its partitions.

    `failure`: why the broker cannot be read or written now. `rates` are those of the worker at `moment`, in monotonic
    seconds.
    """
    reports = [_partition_report(partition, vanished, failure, rates, moment) for partition in partitions]
    sums = {name: sum(report.numbers[name] for report in reports) for name in _SUMMED}
    gone = f"vanished: {', '.join(sorted(vanished))}" if vanished else ""
    return [
        Status(
            name=f"worker/{region}",
            kind=ComponentKind.WORKER,
            state="waiting" if failure else "degraded" if gone else "live",
            reason=failure or gone,
            numbers={"partitions": len(partitions), **sums},
        ),
        *reports,
    ]


def _partition_report(
    partition: Partition, vanished: Collection[str], failure: str, rates: Rates, moment: float
) -> Status:
    source = partition.source
    name, results = f"partition/{source.exchange.name}/{source.channel}", partition.results
    is_gone = source.topic in vanished
    return Status(
        name=name,
        kind=ComponentKind.PARTITION,
        state="vanished" if is_gone else "waiting" if failure else "live",
        reason=f"topic {source.topic} does not exist any more" if is_gone else failure,
        numbers={
            "lag_records": partition.lag,
            "rows": results.rows,
            "rows_per_second": rates.per_second(name, results.rows, moment),
            "dead_letters": results.dead_letters,
            "position": partition.position,
            "committed": partition.committed,
        },
    )
