"""`coin`: the index of the commands."""

import sys
from typing import Annotated

import typer

from coin_platform import __version__
from coin_platform.commands import dead_letters, decode, lake, rest, run, serve, topics
from coin_platform.commands.capture import capture
from coin_platform.commands.doctor import doctor
from coin_platform.commands.exchanges import exchanges
from coin_platform.commands.replay import replay
from coin_platform.commands.settings import settings
from coin_platform.commands.status import status
from coin_platform.errors import CoinPlatformError

HELP = "Collect market data of ten exchanges, store it, and check what is stored."

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: coin demo. Each command has an example in its --help.",
)

# processes: they run until Ctrl-C, or until they are done
app.command(epilog="Example: COIN_EXCHANGES_MODE=simulated coin up")(run.up)
app.command(epilog="Example: coin demo --broker kafka --lake s3")(run.demo)
app.command(epilog="Example: coin collect --region korea")(run.collect)
app.command(epilog="Example: coin preprocess --region korea")(run.preprocess)
app.add_typer(serve.app, name="serve")
app.command(epilog="Example: coin simulate --seed 7 --rate 2")(run.simulate)
app.command(epilog="Example: coin replay captured --speed 10")(replay)

app.command(epilog="Example: coin status --watch")(status)

# what is stored
app.add_typer(lake.app, name="lake")
app.add_typer(topics.app, name="topics")
app.add_typer(dead_letters.app, name="dead-letters")
app.command(epilog="Example: coin capture --exchange okx --last 15m --out captured")(capture)

# what exchanges say, now and in recordings
app.add_typer(rest.pairs, name="pairs")
app.command(epilog="Example: coin ticker BTC --all")(rest.ticker)
app.command(epilog="Example: coin decode kraken tests/data/kraken/ticker.jsonl")(decode.decode)
app.command(epilog="Example: coin book okx tests/data/okx/book_sequence_1.jsonl")(decode.book)
app.command(epilog="Example: coin exchanges --json")(exchanges)

app.command(epilog="Example: coin settings --json")(settings)
app.command(epilog="Example: coin doctor --only kafka --only topics --only lake")(doctor)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"coin {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def coin(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main() -> None:
    """Run the command line. Print an error of this package as one line on stderr, and exit with code 2."""
    try:
        app()
    except CoinPlatformError as error:
        print(f"coin: {error}", file=sys.stderr)
        sys.exit(2)
