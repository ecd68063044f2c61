"""Fetch the jars of Apache Kafka, and verify them against the list."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from infra.stack.service import ROOT, StackError


def jars() -> Path:
    """Return the folder of Kafka's jars. Maven fetches them once for each version of the pom, and they are verified.

    Raises `StackError` if the jars cannot be fetched, or are not those that `jars.sha256` lists.
    """
    pom, checksums = ROOT / "infra" / "kafka" / "pom.xml", ROOT / "infra" / "kafka" / "jars.sha256"
    version = uuid.uuid5(uuid.NAMESPACE_OID, pom.read_text() + checksums.read_text())
    folder = ROOT / "data" / "jars" / f"{version}"
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("kafka needs Maven to fetch its jars: install maven")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"kafka's jars cannot be fetched: {done.stdout[-500:]}{done.stderr[-500:]}")
    try:
        verify(fresh, checksums)
        with contextlib.suppress(OSError):  # another process was first
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def verify(folder: Path, checksums: Path) -> None:
    """Raise `StackError` if the files of a folder are not those that a file of `sha256sum` lists."""
    listed = {name: digest for digest, name in (line.split() for line in checksums.read_text().splitlines())}
    fetched = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    wrong = sorted(name for name in {**listed, **fetched} if listed.get(name) != fetched.get(name))
    if wrong:
        raise StackError(
            f"{wrong[0]} is not the file that {checksums.name} lists ({len(wrong)} differ). After a change of the pom, "
            "write the list anew. Otherwise delete ~/.m2/repository and check which server answers for Maven Central"
        )
