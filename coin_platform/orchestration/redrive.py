"""The job that sends dead letters through the code of now: launched by hand, by nothing else."""

import contextlib

import dagster as dg
from pydantic import Field

from coin_platform.errors import PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.orchestration.resources import Topics
from coin_platform.preprocess.redrive import Redriven, request
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import load


class Letters(dg.Config):
    """Which dead letters to try again."""

    exchanges: list[str] = Field([], description="only of these exchanges; empty: of all that are enabled")


@dg.op
def redrive(context: dg.OpExecutionContext, config: Letters, topics: Topics) -> None:
    """Send dead letters through the code of now; what passes becomes processed records, what does not a letter again.

    A worker that runs does it itself for its partitions, when it looks the next time.
    """
    settings = load()
    if unknown := [name for name in config.exchanges if name not in EXCHANGES]:
        raise dg.Failure(f"{unknown[0]}: there is no such exchange; there are {', '.join(EXCHANGES)}")
    kinds = [EXCHANGES[name] for name in config.exchanges] or exchanges_of(None, settings)
    found, busy = dict[str, Redriven](), list[str]()
    with contextlib.closing(topics.open()) as broker:
        for source in (each for kind in kinds for each in sources(kind, settings)):
            name = f"{source.exchange.name} {source.channel}"
            try:
                found[name] = request(source, broker)
            except PartitionBusy as error:  # the others are none the worse
                busy.append(f"{name}: {error}")
    rows = [f"| {name} | {result.passed} | {result.failed} |" for name, result in found.items() if any(result)]
    table = ["| partition | pass now | still dead |", "|---|---|---|", *rows] if rows else ["no dead letters"]
    context.add_output_metadata(
        {
            "pass_now": sum(result.passed for result in found.values()),
            "still_dead": sum(result.failed for result in found.values()),
            "partitions": dg.MetadataValue.md("\n".join(table)),
        }
    )
    if busy:
        raise dg.Failure(
            f"{len(busy)} partitions are held by someone who did not do it", {"partitions": "\n".join(busy)}
        )


@dg.job(name="redrive_dead_letters", executor_def=dg.in_process_executor, tags={"dagster/max_retries": "0"})
def redrive_dead_letters() -> None:
    """Try all dead letters again; what has passed once is never told twice."""
    redrive()
