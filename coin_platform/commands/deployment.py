"""Open the deployment that `coin pairs` and `coin status` ask: the API of COIN_SERVE_URL or, without it, the store."""

from collections.abc import Iterator
from contextlib import contextmanager

from coin_platform.cluster import open_cluster
from coin_platform.commands.api_client import ApiClient
from coin_platform.commands.deployment_contract import DeploymentAccess
from coin_platform.commands.served_deployment import ServedDeployment
from coin_platform.commands.stored_deployment import StoredDeployment
from coin_platform.settings import Settings, load


@contextmanager
def open_deployment(settings: Settings | None = None) -> Iterator[DeploymentAccess]:
    """Open the deployment of the settings. Raises `SettingsError`."""
    used = settings or load()
    deployment: DeploymentAccess
    if used.serve_url is None:
        deployment = StoredDeployment(open_cluster(used), used)
    else:
        deployment = ServedDeployment(ApiClient.of(used, used.serve_url))
    try:
        yield deployment
    finally:
        deployment.close()
