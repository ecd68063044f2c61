"""All exchanges, found by importing this folder: an exchange is registered nowhere."""

import importlib
import pkgutil

from coin_platform.exchanges.base import Exchange
from coin_platform.model import Region


def _find() -> dict[str, Exchange]:
    """Return all exchanges by their names, in the order of regions and partitions."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    regions = list(Region)
    classes = sorted(Exchange.__subclasses__(), key=lambda cls: (regions.index(cls.region), cls.partition))
    return {cls.name: cls() for cls in classes}


EXCHANGES: dict[str, Exchange] = _find()
