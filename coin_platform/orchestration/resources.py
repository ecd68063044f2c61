"""What ops and assets are given: the topics and the lake. Tests give in-memory twins instead."""

from functools import cache
from typing import Any

import dagster as dg

from coin_platform.broker import Broker, connect
from coin_platform.collect.gap_reports import loss_reporter
from coin_platform.lake import Lake, open_lake
from coin_platform.orchestration.run_process import note_process
from coin_platform.settings import load


class _Resource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Something outside; a run that is given it is known by its process from then on."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        note_process(context.instance, context.run)


class Topics(_Resource):
    """The topics of COIN_BROKER_URL."""

    def open(self, *, guest: bool = False) -> Broker:
        """Connect; as a guest to take over from the process that appends now."""
        settings = load()
        return connect(settings, guest=guest, on_loss=loss_reporter(settings))


class LakeFolder(_Resource):
    """The lake of COIN_LAKE_URL; in S3 it is reached through dagster-aws.

    With `replace_smaller`, which the config of a run may say, it may replace a stored raw window by
    fewer records: what the topic has now.
    """

    replace_smaller: bool = False

    def open(self) -> Lake:
        """Open the lake."""
        settings, client = load(), None
        if settings.lake_url.startswith("s3:"):
            from coin_platform.lake.s3_access import access

            client = _s3_client(tuple(access(settings).items()))
        return open_lake(settings, client, replaces_smaller=self.replace_smaller)


@cache  # to make one takes a tenth of a second, and every table of a run opens the lake
def _s3_client(options: tuple[tuple[str, Any], ...]) -> Any:
    # What `S3Resource.get_client` calls, whose own `verify` takes no file. With boto3 it doubles the time that
    # definitions take to load.
    from dagster_aws.s3.utils import construct_s3_client

    # no attempts but the first: a repeat inside boto3 would hide a lost answer from the lake
    return construct_s3_client(**dict(options), max_attempts=0)
