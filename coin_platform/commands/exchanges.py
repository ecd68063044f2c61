"""`coin exchanges`: list what is collected from each exchange, also as the table of the README."""

from typing import Annotated, Any

import typer

from coin_platform.commands.output import Column, JsonOption, print_rows
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
    as_json: JsonOption = False,
) -> None:
    """List the exchanges.

    Columns: the channels, the levels on each side of a book, what reveals a lost book message, where candles come
    from, and the limits that this program keeps.
    """
    if as_markdown:
        print(markdown())
        return
    columns = [Column(name, write=_cell) for name in COLUMNS]
    print_rows(columns, map(_row, EXCHANGES.values()), as_json=as_json, nothing="")


def markdown() -> str:
    """Return the exchanges as a table in Markdown."""
    texts = ([_text(value) for value in _row(exchange).values()] for exchange in EXCHANGES.values())
    return "\n".join(f"| {' | '.join(row)} |" for row in [COLUMNS, ("---",) * len(COLUMNS), *texts])


def _row(exchange: Exchange) -> dict[str, Any]:
    offered = exchange.channels | exchange.polled
    values = (
        exchange.title,
        REGION_TITLES[exchange.region],
        [channel for channel in Channel if channel in offered],
        exchange.depth,
        _PROOFS[exchange.proof],
        "socket" if Channel.CANDLE in exchange.channels else "REST" if Channel.CANDLE in exchange.polled else "none",
        _limits(exchange),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _text(value: Any) -> str:
    """Write a value in one line: names with spaces between them, and limits with commas."""
    if value is None:
        return "all"  # levels of a book
    if isinstance(value, dict):
        return ", ".join(f"{number:g} {name}" for name, number in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)


def _cell(value: Any) -> str:
    return _text(value).replace(", ", "\n")


def _limits(exchange: Exchange) -> dict[str, float]:
    limits = exchange.limits
    return {
        "pairs a connection": limits.pairs_per_connection,
        "messages/s": limits.messages_per_second,
        "connects/min": limits.connects_per_minute,
        "requests/s": limits.requests_per_second,
    }
