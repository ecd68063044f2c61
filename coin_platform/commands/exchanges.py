"""`coin exchanges`: what the code offers of each exchange, also as the table of the README."""

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
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as the table that README.md holds")] = False,
) -> None:
    """List the exchanges: channels, levels a side of a book, what reveals a lost book message, and our own limits."""
    if as_markdown:
        print(markdown())
        return
    table = Table(*COLUMNS)
    for kind in EXCHANGES.values():
        table.add_row(*(cell.replace(", ", "\n") for cell in _row(kind)))
    Console().print(table)


def markdown() -> str:
    """Return the exchanges as a table in Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(kind) for kind in EXCHANGES.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(kind: Exchange) -> tuple[str, ...]:
    offered = kind.channels | kind.polled
    return (
        kind.title,
        REGION_TITLES[kind.region],
        " ".join(channel for channel in Channel if channel in offered),
        "all" if kind.depth is None else str(kind.depth),
        _PROOFS[kind.proof],
        "socket" if Channel.CANDLE in kind.channels else "REST" if Channel.CANDLE in kind.polled else "none",
        _limits(kind),
    )


def _limits(kind: Exchange) -> str:
    most = kind.limits
    return (
        f"{most.pairs_per_connection} pairs a connection, {most.messages_per_second:g} messages/s, "
        f"{most.connects_per_minute:g} connects/min, {most.requests_per_second:g} requests/s"
    )
