"""The names that users rely on stay as they are."""

from difflib import unified_diff

from tests.kit.public_names import GOLDEN_FILE, public_names


def test_public_names_stay_as_they_are() -> None:
    """A change of a name breaks programs, dashboards and stored data of users. It belongs into CHANGELOG.md."""
    stored, current = GOLDEN_FILE.read_text(encoding="utf-8"), public_names()
    changes = "\n".join(unified_diff(stored.splitlines(), current.splitlines(), "stored", "current", lineterm="", n=0))
    assert not changes, f"{changes}\nif that is meant: python -m tests.kit.public_names, and an entry in CHANGELOG.md"
