"""`coin topics`: create and list the topics in Kafka."""

from collections import Counter

import typer
from rich.console import Console
from rich.table import Table

from coin_platform.settings import load

app = typer.Typer(no_args_is_help=True, help="Create and list the topics in Kafka.")


@app.command()
def create() -> None:
    """Create the missing topics.

    Nothing is created if an existing topic has other partitions or settings than wanted.
    """
    from coin_platform.broker import kafka_topics

    created = kafka_topics.create(load())
    console = Console()
    for name in created:
        console.print(name)
    console.print(f"{len(created)} topics created" if created else "all topics exist")


@app.command()
def describe() -> None:
    """List the topics: offsets, records that wait for Kafka on this machine or were given up here, and what is wrong.

    Records are given up while Kafka is away and the disk, or COIN_SPOOL_BYTES, is full.
    """
    from coin_platform.broker import kafka_client, kafka_topics
    from coin_platform.broker.kafka import spool_folder
    from coin_platform.broker.spool import losses, waiting

    settings = load()
    folder = spool_folder(settings)
    waiting_records, given_up = waiting(folder), Counter[str]()
    for loss in losses(folder):
        given_up[loss.topic] += loss.records
    table = Table("topic", "partitions", "offsets", "waiting", "given up", "state")
    table.columns[0].overflow = "fold"
    with kafka_client.administered(settings) as client:
        states = kafka_topics.states(client, settings)
        bounds_of_topics = kafka_topics.holdings(client, [state.topic.name for state in states if state.exists])
    for state in states:
        name, partitions = state.topic.name, range(len(state.topic.exchanges))
        bounds = bounds_of_topics.get(name, {})
        offsets = " ".join(f"{begin}-{end}" for begin, end in bounds.values())
        waits = sum(waiting_records.get((name, partition), 0) for partition in partitions)
        faults = "; ".join(state.faults) or ("ok" if state.exists else f"missing: {kafka_topics.REMEDY}")
        table.add_row(name, str(len(bounds) or ""), offsets, str(waits or ""), str(given_up[name] or ""), faults)
    Console().print(table)
