"""Collects the names that users rely on: commands, topics, tables, assets, tags, metrics, files and errors.

`python -m tests.kit.public_names` writes them to `tests/data/public_names.txt`.
"""

import importlib
import inspect
import pkgutil
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

import coin_platform
from coin_platform.broker import LocalBroker
from coin_platform.cli import app
from coin_platform.errors import CoinPlatformError
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore, scan
from coin_platform.model import Channel, Region, Window
from coin_platform.orchestration.definitions import definitions
from coin_platform.settings import PREFIX, Settings
from coin_platform.tables.schema import TABLES
from coin_platform.topic_names import GAPS, dead_letter_topic, group, processed_topic, raw_topic

GOLDEN_FILE = Path(__file__).resolve().parents[1] / "data" / "public_names.txt"
SUFFIXES = (".db", ".lock", ".next")  # SQLite has files of its own
HOUR = 3_600_000_000  # µs


def public_names() -> str:
    """Return all names, one a line, in sections."""
    sections = {
        "Commands and their options": _commands("coin", typer.main.get_command(app)),
        "Settings": (f"{PREFIX}{name.upper()}" for name in Settings.model_fields),
        "Topics": _topics(),
        "Consumer groups": (group(region, channel) for region in Region for channel in Channel),
        "Tables and columns": _columns(),
        "Object keys of the lake": _object_keys(),
        "Function scan": [
            f"from coin_platform.lake import scan: scan({', '.join(inspect.signature(scan).parameters)})"
        ],
        "Exchanges": (f"{name}: {exchange.region}" for name, exchange in EXCHANGES.items()),
        **_dagster(),
        "Tags and keys in Dagster's database": _literals(r'"(coin/[a-z_]+)'),
        "Metrics": _literals(r'(?:Counter|Gauge|Histogram|MetricFamily)\(\s*"(coin_[a-z_]+)"'),
        "Files of a journal": _journal_files(),
        "Errors": _errors(),
    }
    return "\n".join(f"# {title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in sections.items())


def _commands(path: str, command: Any) -> Iterator[str]:
    options = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    yield " ".join([path, *sorted(options)])
    for name, subcommand in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{path} {name}", subcommand)


def _topics() -> Iterator[str]:
    for region in Region:
        for channel in Channel:
            raw = raw_topic(Settings().topic_prefix(region), channel)
            yield from (raw, dead_letter_topic(raw), processed_topic(region, channel))
    yield GAPS


def _columns() -> Iterator[str]:
    for table, columns in TABLES.items():
        for name, data_type in columns.items():
            yield f"{table}.{name}: {data_type}"


def _object_keys() -> Iterator[str]:
    for length in (HOUR, HOUR // 60):
        yield Lake(MemoryStore(), length).key("ticker", "upbit", Window(0, length))


def _dagster() -> dict[str, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        defs = definitions(Settings())
        graph, repository = defs.resolve_asset_graph(), defs.get_repository_def()
    jobs: list[Any] = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    checks = sorted(f"{check.asset_key.to_user_string()}: {check.name}" for check in graph.asset_check_keys)
    return {
        "Assets": sorted(asset.to_user_string() for asset in graph.get_all_asset_keys()),
        "Asset checks": checks,
        "Jobs and their tags": sorted(f"{job.name} {' '.join(sorted(job.tags))}".rstrip() for job in jobs),
        "Sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "Schedules": sorted(schedule.name for schedule in repository.schedule_defs),
        "Resources": sorted(defs.resources or {}),
    }


def _literals(pattern: str) -> list[str]:
    """Return what a pattern finds in the package's source."""
    names: set[str] = set()
    for folder in coin_platform.__path__:
        for path in Path(folder).rglob("*.py"):
            names.update(re.findall(pattern, path.read_text(encoding="utf-8")))
    return sorted(names)


def _journal_files() -> Iterable[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker, guest = LocalBroker(folder), LocalBroker(folder, guest=True)
        broker.append("topic", 0, "header", b"value")
        broker.flush()
        broker.commit("group", "topic", 0, 1)
        guest.claim("topic", 0)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in SUFFIXES)
        guest.close()
        broker.close()
    return [*files, *(f"topic/0{suffix}" for suffix in _literals(r'with_suffix\("(\.lost)"\)'))]


def _errors() -> list[str]:
    for module in pkgutil.walk_packages(coin_platform.__path__, "coin_platform."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(name for name in set(_subclasses(CoinPlatformError)) if not name.startswith("_"))


def _subclasses(error: type[Exception]) -> Iterator[str]:
    yield f"{error.__name__} ({', '.join(base.__name__ for base in error.__bases__)})"
    for subclass in error.__subclasses__():
        if subclass.__module__.startswith("coin_platform."):
            yield from _subclasses(subclass)


if __name__ == "__main__":
    GOLDEN_FILE.write_text(public_names(), encoding="utf-8")
