"""All exchanges, found by importing this folder: nothing is registered by hand."""

import importlib
import pkgutil

from coin_platform.exchanges.base import Exchange
from coin_platform.model import Region


def _find() -> dict[str, Exchange]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found = sorted(Exchange.__subclasses__(), key=lambda kind: (list(Region).index(kind.region), kind.partition))
    return {kind.name: kind() for kind in found}


EXCHANGES: dict[str, Exchange] = _find()
