"""The Dagster instance of this deployment, for commands that run outside Dagster."""

from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterHomeNotSetError, DagsterInvariantViolationError

from coin_platform.errors import SettingsError


def open_instance(home: Path | None = None) -> dg.DagsterInstance | None:
    """Return the instance of DAGSTER_HOME, or that of the folder `home`, or `None` if there is none.

    Raises `SettingsError` if DAGSTER_HOME is not a usable folder.
    """
    try:
        return dg.DagsterInstance.get()
    except DagsterHomeNotSetError:
        is_there = home is not None and (home / "dagster.yaml").exists()
        return dg.DagsterInstance.from_config(str(home)) if is_there else None
    except DagsterInvariantViolationError as error:
        raise SettingsError(f"DAGSTER_HOME: {' '.join(str(error).split())}") from error
