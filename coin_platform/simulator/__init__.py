"""A market, and servers on loopback that speak each exchange's own protocol."""

import importlib
import pkgutil

from coin_platform.simulator.base import Venue


def _find() -> dict[str, type[Venue]]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {kind.name: kind for kind in Venue.__subclasses__()}


VENUES: dict[str, type[Venue]] = _find()
