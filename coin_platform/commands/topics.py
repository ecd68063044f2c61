"""`coin topics`: the topics in Kafka, made and looked at."""

import typer
from rich.console import Console
from rich.table import Table

from coin_platform.settings import load

app = typer.Typer(no_args_is_help=True, help="Make and look at the topics in Kafka.")


@app.command()
def create() -> None:
    """Make the topics that are missing; refuse to if one is there with other partitions or settings."""
    from coin_platform.broker import kafka_topics

    made = kafka_topics.create(load())
    console = Console()
    for name in made:
        console.print(name)
    console.print(f"{len(made)} topics made" if made else "all topics are there")


@app.command()
def describe() -> None:
    """List the topics: what each holds, what waits on this machine's disk for it, and what is wrong with it."""
    from coin_platform.broker import kafka_client, kafka_topics
    from coin_platform.broker.kafka import spool_folder
    from coin_platform.broker.spool import waiting

    settings = load()
    left = waiting(spool_folder(settings))
    table = Table("topic", "partitions", "offsets", "waiting", "state")
    table.columns[0].overflow = "fold"
    with kafka_client.administered(settings) as client:
        found = kafka_topics.states(client, settings)
        held = kafka_topics.holdings(client, [state.topic.name for state in found if state.exists])
    for state in found:
        bounds = held.get(state.topic.name, {})
        offsets = " ".join(f"{begin}-{end}" for begin, end in bounds.values())
        here = sum(left.get((state.topic.name, partition), 0) for partition in range(len(state.topic.exchanges)))
        faults = "; ".join(state.faults) or ("ok" if state.exists else f"missing: {kafka_topics.REMEDY}")
        table.add_row(state.topic.name, str(len(bounds) or ""), offsets, str(here or ""), faults)
    Console().print(table)
