"""The fixtures of the tests of Dagster."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from coin_platform.lake import FolderStore, Lake
from coin_platform.lake.s3 import S3Store
from infra.stack import SeaweedFS
from tests.kit.log_and_lake import MINUTE, KafkaLogAndLake, LocalLogAndLake, LogAndLake
from tests.kit.s3 import s3_client, scan_options


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Give an empty Dagster."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(params=["local", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.s3])])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogAndLake]:
    with ExitStack() as stack:
        if request.param == "local":
            world: LogAndLake = LocalLogAndLake(tmp_path / "journal", Lake(FolderStore(tmp_path / "lake"), MINUTE))
        else:
            server: SeaweedFS = request.getfixturevalue("seaweedfs")
            client, options = s3_client(server.address), scan_options(server.address)
            store = S3Store(client, "lake", uuid.uuid4().hex, scan_options=options, single_writer=False)
            world = KafkaLogAndLake(request.getfixturevalue("kafka"), tmp_path / "spool", Lake(store, MINUTE))
        stack.callback(lambda: world.broker.close())
        yield world


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalLogAndLake]:
    world = LocalLogAndLake(tmp_path / "journal", Lake(FolderStore(tmp_path / "lake"), MINUTE))
    yield world
    world.broker.close()
