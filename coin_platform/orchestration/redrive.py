"""The job that decodes dead letters again with the code of now. Only people start it."""

import dagster as dg
from pydantic import Field

from coin_platform.errors import PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.orchestration.resources import Topics
from coin_platform.preprocess.redrive import Redriven, request
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import load


class RedriveConfig(dg.Config):
    """Which dead letters to decode again."""

    exchanges: list[str] = Field([], description="only of these exchanges; empty: of all that are enabled")


@dg.op
def redrive(context: dg.OpExecutionContext, config: RedriveConfig, topics: Topics) -> None:
    """Decode dead letters again. Those that pass become processed records; the others stay dead letters.

    A worker that runs does the work itself for its partitions, when it looks for requests the next time.
    """
    settings = load()
    if unknown := [name for name in config.exchanges if name not in EXCHANGES]:
        raise dg.Failure(f"{unknown[0]}: there is no such exchange; there are {', '.join(EXCHANGES)}")
    exchanges = [EXCHANGES[name] for name in config.exchanges] or exchanges_of(None, settings)
    results, busy = dict[str, Redriven](), list[str]()
    with topics.open() as broker:
        for source in (source for exchange in exchanges for source in sources(exchange, settings)):
            name = f"{source.exchange.name} {source.channel}"
            try:
                results[name] = request(source, broker)
            except PartitionBusy as error:  # go on with the other partitions
                busy.append(f"{name}: {error}")
    rows = [f"| {name} | {result.passed} | {result.failed} |" for name, result in results.items() if any(result)]
    table = ["| partition | pass now | still dead |", "|---|---|---|", *rows] if rows else ["no dead letters"]
    context.add_output_metadata(
        {
            "pass_now": sum(result.passed for result in results.values()),
            "still_dead": sum(result.failed for result in results.values()),
            "partitions": dg.MetadataValue.md("\n".join(table)),
        }
    )
    if busy:
        raise dg.Failure(
            f"{len(busy)} partitions are held by another process that did not do the work",
            {"partitions": "\n".join(busy)},
        )


@dg.job(name="redrive_dead_letters", executor_def=dg.in_process_executor, tags={"dagster/max_retries": "0"})
def redrive_dead_letters() -> None:
    """Decode all dead letters again. A letter that passes becomes processed records once."""
    redrive()
