"""Look at the services that the settings name: Kafka and its topics, the lake in S3 or a folder, Redis, ZooKeeper."""

import json
from contextlib import closing
from pathlib import Path

from coin_platform.broker import kafka_topics
from coin_platform.broker.connect import connect
from coin_platform.broker.kafka_client import administered, servers
from coin_platform.clock import wall
from coin_platform.doctor.checks import Diagnosis, fine, warning, wrong
from coin_platform.doctor.machine import ClockSamples
from coin_platform.errors import SettingsError
from coin_platform.lake.deployment import FILE
from coin_platform.lake.folder import FolderStore
from coin_platform.lake.lake_file import LakeFile
from coin_platform.lake.s3 import open_s3
from coin_platform.lake.store import Store
from coin_platform.settings import Settings

_NAMED = 3  # topics of a list
_ZOOKEEPER_SECONDS = 5.0  # for a session


def kafka(settings: Settings) -> list[Diagnosis]:
    """Look whether Kafka answers, lets us in, and has enough brokers. Raises `CoinPlatformError` if it does not."""
    with administered(settings) as admin:
        brokers = admin.describe_cluster()["brokers"]
    place = f"{len(brokers)} brokers of kafka at {','.join(servers(settings))}"
    if len(brokers) < settings.kafka_replication:
        text = f"{place}, fewer than COIN_KAFKA_REPLICATION={settings.kafka_replication}"
        return wrong(text, "start the missing brokers, or write a lower number")
    return fine(f"{place} answer")


def topics(settings: Settings) -> list[Diagnosis]:
    """Look whether Kafka has the topics as they must be, and whether every partition has a leader and its copies."""
    with administered(settings) as admin:
        states = kafka_topics.states(admin, settings)
        names = [state.topic.name for state in states if state.exists]
        descriptions = admin.describe_topics(names) if names else []
    findings: list[Diagnosis] = []
    if missing := [state.topic.name for state in states if not state.exists]:
        findings += wrong(f"kafka lacks {len(missing)} topics: {_listed(missing)}", kafka_topics.REMEDY)
    for state in states:
        if state.faults:
            remedy = "mend its settings in Kafka, or choose another prefix (COIN_TOPIC_…)"
            findings += wrong(f"{state.topic.name}: {'; '.join(state.faults)}", remedy)
    partitions = [(entry["name"], partition) for entry in descriptions for partition in entry["partitions"]]
    if headless := sorted({name for name, partition in partitions if partition["leader_id"] < 0}):
        findings += wrong(f"{_listed(headless)}: a partition has no leader", "start the brokers that have its copies")
    behind = {name for name, partition in partitions if len(partition["isr_nodes"]) < len(partition["replica_nodes"])}
    if short := sorted(behind - set(headless)):
        findings += warning(f"{_listed(short)}: copies are missing", "start the missing brokers, or wait for them")
    return findings or fine(f"{len(states)} topics as they must be")


def journal(settings: Settings) -> list[Diagnosis]:
    """Look at the setting of the local journal. Raises `SettingsError` if it names no broker."""
    if settings.broker_url != "local:":
        connect(settings).close()  # raises: there is no such broker
    return fine(f"no Kafka: the log is the journal in {settings.path(settings.journal_dir)}")


def lake(settings: Settings, samples: ClockSamples) -> list[Diagnosis]:
    """Look at the lake: whether it answers, honours conditional writes, has our windows, and is ours.

    S3 is asked to write a few objects under `_probe/`, which are removed at once.
    """
    scheme, _, place = settings.lake_url.partition(":")
    if scheme == "file":
        folder = settings.path(Path(place))
        return _owner(FolderStore(folder), settings) or fine(f"the lake is the folder {folder}")
    if scheme != "s3":
        raise SettingsError(f"COIN_LAKE_URL={settings.lake_url}: write file:FOLDER or s3://bucket/prefix")
    store = open_s3(settings)
    asked = wall()
    date = store.date()
    samples.note("S3", date, asked, wall())
    findings = list(_owner(store, settings))
    if store.single_writer:
        text = f"{store.uri('')}: the server ignores conditional writes, so two writers may overwrite each other"
        findings += warning(text, "let one process write the lake, or use a server that honours If-Match")
    return findings or fine(f"{store.uri('')} answers and honours conditional writes")


def redis(settings: Settings) -> list[Diagnosis]:
    """Look whether Redis answers and lets us read. Raises `ClusterError` if it does not."""
    from coin_platform.cluster.redis import RedisStore

    assert settings.redis_url is not None  # there is no such check without it
    store = RedisStore(settings.redis_url.get_secret_value(), "coin:doctor")
    try:
        store.read("pairs/none")
    finally:
        store.close()
    return fine(f"{store.place} answers")


def zookeeper(settings: Settings) -> list[Diagnosis]:
    """Look whether ZooKeeper lets us in, has a quorum, and grants the session that we ask for. Nothing is written.

    Raises `ClusterError` if it does not answer.
    """
    from coin_platform.cluster.zookeeper import ZooKeeper

    assert settings.zookeeper is not None  # there is no such check without it
    with closing(ZooKeeper(settings.zookeeper, settings.zookeeper_session)) as door:
        if not door.wait_connected(_ZOOKEEPER_SECONDS):
            text = f"zookeeper at {door.hosts} lets nobody in: it is not running, not reachable, or has no quorum"
            return wrong(text, "start it: of three nodes two must run; or check COIN_ZOOKEEPER")
        door.children("/")
        granted = door.session_seconds
    if granted != settings.zookeeper_session:
        text = (
            f"zookeeper at {settings.zookeeper} grants sessions of {granted:g} s, not {settings.zookeeper_session:g} s"
        )
        return warning(text, "write what it grants, 2 to 20 times its tickTime, as COIN_ZOOKEEPER_SESSION")
    return fine(f"zookeeper at {settings.zookeeper} answers, with a session of {granted:g} s")


def _owner(store: Store, settings: Settings) -> list[Diagnosis]:
    """Look whether the lake has other windows, or another owner."""
    file = LakeFile(store, settings.window_length, None)
    file.check()
    owner, ours = file.owner(), settings.deployment or _kept_id(settings.home / FILE)
    if owner is None or owner.id == ours:
        return []
    remedy = f"set COIN_LAKE_URL to another place, run `coin lake adopt`, or set COIN_DEPLOYMENT={owner.id} here"
    return wrong(f"{store.uri('')} belongs to deployment {owner}, and this is {ours or 'a new one'}", remedy)


def _kept_id(path: Path) -> str:
    """Return the id of this deployment if it has one. To make one is left to the first writer."""
    try:
        return str(json.loads(path.read_bytes())["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
