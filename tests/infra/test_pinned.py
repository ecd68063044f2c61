"""Fetched files are those that are listed, and a new secret restarts the long runs."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from coin_platform.orchestration.version import version
from coin_platform.settings import SECRETS, Settings
from infra.stack import ROOT, StackError, jars, verify


def listed(service: str) -> Path:
    """Return the list of a service's jars."""
    return ROOT / "infra" / service / "jars.sha256"


def changed(folder: Path, checksums: Path) -> str:
    """Return the line with which a folder is refused."""
    with pytest.raises(StackError) as error:
        verify(folder, checksums)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_D27_jars_are_those_that_are_listed_and_no_others(tmp_path: Path) -> None:
    folder, checksums = tmp_path / "jars", tmp_path / "jars.sha256"
    folder.mkdir()
    (folder / "a.jar").write_bytes(b"a")
    (folder / "b.jar").write_bytes(b"b")
    checksums.write_text(
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.jar\n"
        "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b.jar\n"
    )
    verify(folder, checksums)
    (folder / "b.jar").write_bytes(b"B")
    assert changed(folder, checksums).startswith("b.jar is not the file that jars.sha256 lists (1 differ)")
    (folder / "b.jar").unlink()
    assert changed(folder, checksums).startswith("b.jar")
    (folder / "b.jar").write_bytes(b"b")
    (folder / "c.jar").write_bytes(b"c")
    assert changed(folder, checksums).startswith("c.jar")


@pytest.mark.kafka
def test_D27_the_jars_that_the_tests_use_are_verified(kafka: object) -> None:
    verify(jars("kafka"), listed("kafka"))
    assert "kafka_2.13-4.4.0.jar" in listed("kafka").read_text()


@pytest.mark.zookeeper
def test_D27_the_jars_of_zookeeper_are_verified(zookeeper: object) -> None:
    verify(jars("zookeeper"), listed("zookeeper"))
    assert "zookeeper-3.9.5.jar" in listed("zookeeper").read_text()


def test_D27_nothing_is_installed_without_a_hash() -> None:
    recipes = (ROOT / "Makefile").read_text()
    installs = re.findall(r"^\t.*pip install.*$", recipes, re.MULTILINE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation -e ." in line for line in installs)
    assert re.search(r"^uv==\S+ \\\n    --hash=sha256:", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_D27_a_new_secret_is_a_new_version_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def of(secret: str | None) -> str:
        settings = Settings().model_copy(update={name: secret and SecretStr(secret)})
        monkeypatch.setattr("coin_platform.orchestration.version.load", lambda: settings)
        return version()

    versions = [of(None), of("before"), of("after"), of("before")]
    assert versions[1] == versions[3] and len(set(versions)) == 3
    assert all(re.fullmatch("[0-9a-f]{12}", text) for text in versions)


def test_D27_a_certificate_renewed_in_its_file_is_a_new_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, ca=Path("ca.pem"))
    monkeypatch.setattr("coin_platform.orchestration.version.load", lambda: settings)
    versions = [version()]
    for text in ("old", "new"):
        (tmp_path / "ca.pem").write_text(text)
        versions.append(version())
    assert len(set(versions)) == 3
