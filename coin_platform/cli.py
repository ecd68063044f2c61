"""`coin`: the command line."""

import sys

import typer

from coin_platform.commands import dead_letters, decode, lake, rest, run, topics
from coin_platform.commands.capture import capture
from coin_platform.commands.exchanges import exchanges
from coin_platform.commands.replay import replay
from coin_platform.commands.settings import settings
from coin_platform.errors import CoinPlatformError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(lake.app, name="lake")
app.add_typer(topics.app, name="topics")
app.command()(capture)
app.command()(replay)
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(exchanges)
app.add_typer(rest.pairs, name="pairs")
app.command()(rest.ticker)
app.command()(run.collect)
app.command()(run.preprocess)
app.command()(run.simulate)
app.command()(run.demo)
app.command()(run.up)
app.command()(settings)
app.command()(decode.decode)
app.command()(decode.book)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except CoinPlatformError as error:
        print(f"coin: {error}", file=sys.stderr)
        sys.exit(2)
