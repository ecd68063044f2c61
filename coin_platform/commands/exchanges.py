"""`coin exchanges`: list what is collected from each exchange, also as the table of the README."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Proof
from coin_platform.topic_names import REGION_TITLES

COLUMNS = ("exchange", "region", "channels", "depth", "proof", "candles", "limits")

_PROOFS = {
    Proof.CHECKSUM: "checksum in each message",
    Proof.SEQUENCE: "sequence: messages are numbered",
    Proof.SNAPSHOT: "snapshot: each message is the whole book",
    Proof.NONE: "none: changes have no number",
}


def exchanges(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as the table of README.md")] = False,
) -> None:
    """List the exchanges.

    Columns: the channels, the levels on each side of a book, what reveals a lost book message, where candles come
    from, and the limits that this program keeps.
    """
    if as_markdown:
        print(markdown())
        return
    table = Table(*COLUMNS)
    for exchange in EXCHANGES.values():
        table.add_row(*(cell.replace(", ", "\n") for cell in _row(exchange)))
    Console().print(table)


def markdown() -> str:
    """Return the exchanges as a table in Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(exchange) for exchange in EXCHANGES.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(exchange: Exchange) -> tuple[str, ...]:
    offered = exchange.channels | exchange.polled
    return (
        exchange.title,
        REGION_TITLES[exchange.region],
        " ".join(channel for channel in Channel if channel in offered),
        "all" if exchange.depth is None else str(exchange.depth),
        _PROOFS[exchange.proof],
        "socket" if Channel.CANDLE in exchange.channels else "REST" if Channel.CANDLE in exchange.polled else "none",
        _limits(exchange),
    )


def _limits(exchange: Exchange) -> str:
    limits = exchange.limits
    return (
        f"{limits.pairs_per_connection} pairs a connection, {limits.messages_per_second:g} messages/s, "
        f"{limits.connects_per_minute:g} connects/min, {limits.requests_per_second:g} requests/s"
    )
