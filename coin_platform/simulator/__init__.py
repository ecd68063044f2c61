"""A market, and servers on loopback that speak each exchange's own protocol."""

import importlib
from pathlib import Path

from coin_platform.exchanges import EXCHANGES
from coin_platform.simulator.venue import Venue


def _venues() -> dict[str, type[Venue]]:
    folder = Path(__file__).parent
    for name in EXCHANGES:
        if (folder / f"{name}.py").exists():
            importlib.import_module(f"{__name__}.{name}")
    return {venue.name: venue for venue in Venue.__subclasses__()}


VENUES: dict[str, type[Venue]] = _venues()
