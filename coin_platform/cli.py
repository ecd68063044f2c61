"""`coin`: the index of the commands."""

import sys

import typer

from coin_platform.commands import dead_letters, decode, lake, rest, run, topics
from coin_platform.commands.capture import capture
from coin_platform.commands.exchanges import exchanges
from coin_platform.commands.replay import replay
from coin_platform.commands.settings import settings
from coin_platform.errors import CoinPlatformError

HELP = "Collect market data of ten exchanges, store it, and check what is stored."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)

# processes: they run until Ctrl-C, or until they are done
app.command()(run.up)
app.command()(run.demo)
app.command()(run.collect)
app.command()(run.preprocess)
app.command()(run.simulate)
app.command()(replay)

# what is stored
app.add_typer(lake.app, name="lake")
app.add_typer(topics.app, name="topics")
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(capture)

# what exchanges say, now and in recordings
app.add_typer(rest.pairs, name="pairs")
app.command()(rest.ticker)
app.command()(decode.decode)
app.command()(decode.book)
app.command()(exchanges)

app.command()(settings)


def main() -> None:
    """Run the command line. Print an error of this package as one line on stderr, and exit with code 2."""
    try:
        app()
    except CoinPlatformError as error:
        print(f"coin: {error}", file=sys.stderr)
        sys.exit(2)
