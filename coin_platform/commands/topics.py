"""`coin topics`: create and list the topics in Kafka."""

from collections import Counter

import typer

from coin_platform.commands.output import Column, JsonOption, print_json, print_rows
from coin_platform.settings import load

app = typer.Typer(no_args_is_help=True, help="Create and list the topics in Kafka.")

_COLUMNS = (
    *(Column("topic"), Column("partitions", is_number=True), Column("offsets", write=" ".join)),
    *(Column("waiting", is_number=True), Column("given_up", is_number=True), Column("state")),
)


@app.command(epilog="Example: coin topics create")
def create(as_json: JsonOption = False) -> None:
    """Create the missing topics.

    Nothing is created if an existing topic has other partitions or settings than wanted.
    """
    from coin_platform.broker import kafka_topics

    created = kafka_topics.create(load())
    if as_json:
        print_json({"topic": name} for name in created)
        return
    for line in [*created, f"{len(created)} topics created" if created else "all topics exist"]:
        print(line)


@app.command(epilog="Example: coin topics describe --json")
def describe(as_json: JsonOption = False) -> None:
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
    with kafka_client.administered(settings) as client:
        states = kafka_topics.states(client, settings)
        bounds_of_topics = kafka_topics.holdings(client, [state.topic.name for state in states if state.exists])
    rows = []
    for state in states:
        name, partitions = state.topic.name, range(len(state.topic.exchanges))
        bounds = bounds_of_topics.get(name, {})
        offsets = [f"{begin}-{end}" for begin, end in bounds.values()]
        waits = sum(waiting_records.get((name, partition), 0) for partition in partitions)
        faults = "; ".join(state.faults) or ("ok" if state.exists else f"missing: {kafka_topics.REMEDY}")
        counts = {"partitions": len(bounds), "offsets": offsets, "waiting": waits, "given_up": given_up[name]}
        rows.append({"topic": name, **counts, "state": faults})
    print_rows(_COLUMNS, rows, as_json=as_json, nothing="")
