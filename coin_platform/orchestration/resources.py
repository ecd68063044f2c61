"""The resources of ops and assets: the topics and the lake. Tests put in-memory ones in their place."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

import dagster as dg

from coin_platform.broker import Broker, connect
from coin_platform.collect.gap_reports import loss_reporter
from coin_platform.lake import Lake, open_lake
from coin_platform.orchestration.run_process import note_process
from coin_platform.settings import load


class _ProcessNotingResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A resource that writes into the tags of each run that uses it which process executes the run."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        note_process(context.instance, context.run)


class Topics(_ProcessNotingResource):
    """The topics of COIN_BROKER_URL."""

    @contextmanager
    def open(self, *, guest: bool = False, may_send: Callable[[], bool] = lambda: True) -> Iterator[Broker]:
        """Connect, and disconnect at the end. The arguments are those of `broker.connect`."""
        settings = load()
        with closing(connect(settings, guest=guest, on_loss=loss_reporter(settings), may_send=may_send)) as broker:
            yield broker


class LakeFolder(_ProcessNotingResource):
    """The lake of COIN_LAKE_URL. A lake in S3 is reached through dagster-aws.

    The config of a run may set `replace_smaller`. Then a stored raw window may be replaced by the records that the
    topic has now, even if they are fewer.
    """

    replace_smaller: bool = False

    def open(self) -> Lake:
        """Open the lake."""
        settings, client = load(), None
        if settings.lake_url.startswith("s3:"):
            from coin_platform.lake.s3_access import access

            client = _s3_client(tuple(access(settings).items()))
        return open_lake(settings, client, replaces_smaller=self.replace_smaller)


@cache  # making a client takes 0.1 s, and each table of a run opens the lake
def _s3_client(options: tuple[tuple[str, Any], ...]) -> Any:
    # `S3Resource.get_client` calls the same function, but its own option `verify` cannot be a file.
    # The import is here because boto3 doubles the time that the definitions take to load.
    from dagster_aws.s3.utils import construct_s3_client

    # max_attempts=0: a retry inside boto3 would hide from the lake that an answer was lost.
    return construct_s3_client(**dict(options), max_attempts=0)
