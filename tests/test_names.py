"""Names and first lines: a class name stands once in the package, and each module says in one sentence what it is."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from coin_platform.exchanges import EXCHANGES
from tests.kit.figures import ROOT

PACKAGE = ROOT / "coin_platform"
FOLDERS_OF_EXCHANGES = ("exchanges", "simulator")  # each has a file for every exchange, with payload types of its own
FIRST_LINE_CHARACTERS = 120


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def is_of_one_exchange(path: Path) -> bool:
    return path.parent.name in FOLDERS_OF_EXCHANGES and path.stem in EXCHANGES


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_each_class_name_stands_once_in_the_package() -> None:
    files = defaultdict[str, list[str]](list)
    for path in modules(PACKAGE):
        if not is_of_one_exchange(path):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    files[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in files.items() if len(paths) > 1} == {}


def test_no_test_imports_another_test() -> None:
    tests = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules(ROOT / "tests")}
    names = {name for name, path in tests.items() if path.stem.startswith("test_")}
    importers = {name: sorted(names.intersection(imported_modules(path))) for name, path in tests.items()}
    assert {name: imports for name, imports in importers.items() if imports} == {}


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_says_in_one_sentence_what_it_is(path: Path) -> None:
    first_line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    assert first_line.endswith(".")
    assert len(first_line) <= FIRST_LINE_CHARACTERS
