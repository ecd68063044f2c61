"""Fetch the jars of a service that runs on Java, and verify them against its list."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from infra.stack.service import ROOT, StackError


def jars(service: str) -> Path:
    """Return the folder of a service's jars. Maven fetches them once for each version of the pom; they are verified.

    `service` is the folder below `infra` with the pom. Raises `StackError` if the jars cannot be fetched, or are not
    those that its `jars.sha256` lists.
    """
    pom, checksums = ROOT / "infra" / service / "pom.xml", ROOT / "infra" / service / "jars.sha256"
    version = uuid.uuid5(uuid.NAMESPACE_OID, pom.read_text() + checksums.read_text())
    folder = ROOT / "data" / "jars" / f"{version}"
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(f"{service} needs Maven to fetch its jars: install maven")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"the jars of {service} cannot be fetched: {done.stdout[-500:]}{done.stderr[-500:]}")
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
