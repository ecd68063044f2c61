"""Check the names of settings in the environment, and the lines of `.env`."""

from collections.abc import Collection
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from coin_platform.errors import SettingsError

PREFIX = "COIN_"


def refuse_unknown_name(name: str, place: str, known_names: Collection[str]) -> None:
    """Raise `SettingsError` if no setting has this name, such as COIN_WINDOW. `place` says where the name stands."""
    if name not in known_names:
        raise SettingsError(f"{name}{place}: there is no such setting; `coin settings` lists them")


def refuse_wrong_lines(file: Path, known_names: Collection[str]) -> None:
    """Raise `SettingsError` for the first wrong line of `.env`. The error shows no value: it may be a secret.

    1. Each line is NAME=VALUE, with or without `export`.
    2. A name that begins with COIN_ is a setting. Other names are of other programs.
    3. A setting stands there once: of two values only the last would count.
    4. COIN_HOME, if it is there, is the folder of the file itself: the file was found by it.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: this file cannot be read as UTF-8 text: {error}") from error
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        place = f"{file}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"{place}: this is not a setting; write NAME=VALUE")
        name = (binding.key or "").upper()
        if name.startswith(PREFIX):
            refuse_unknown_name(name, f" in {place}", known_names)
            if name in lines:
                raise SettingsError(f"{name} in {place}: line {lines[name]} sets it, too; remove one of the two")
            lines[name] = binding.original.line
        if name == f"{PREFIX}HOME" and Path(binding.value or "").resolve() != file.parent.resolve():
            raise SettingsError(f"{name} in {place}: this file is read from COIN_HOME; set it in the environment")
