"""What ops and assets are given: the topics and the lake. Tests give in-memory twins instead."""

import dagster as dg

from coin_platform.broker import Broker, connect
from coin_platform.lake import Lake, open_lake
from coin_platform.settings import load


class Topics(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The topics of COIN_BROKER_URL."""

    def open(self) -> Broker:
        """Connect."""
        return connect(load())


class LakeFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake of COIN_LAKE_URL."""

    def open(self) -> Lake:
        """Open the lake."""
        return open_lake(load())
