"""`coin settings`: list every setting with its value."""

from datetime import timedelta
from typing import Any

from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from coin_platform.settings import PREFIX, Settings, load


def settings() -> None:
    """List every setting with its value, its meaning and its default. Secrets are not shown."""
    values = load()
    table = Table(Column("setting", no_wrap=True), Column("value", overflow="fold"), Column("meaning", overflow="fold"))
    for name, field in Settings.model_fields.items():
        value = getattr(values, name)
        table.add_row(PREFIX + name.upper(), Text(_text(value)), Text(_meaning(field, value)))
    Console().print(table)


def _meaning(field: FieldInfo, value: Any) -> str:
    """Return the description of a setting and, if the setting was changed, its default."""
    default = field.get_default(call_default_factory=True)
    changed = "" if value == default or not _text(default) else f" Default: {_text(default)}."
    return f"{field.description}{changed}"


def _text(value: Any) -> str:
    """Write a value as the environment has it: names with commas between them, and nothing for a value not set."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for unit, length in (("h", 3600), ("m", 60)):
            if seconds and seconds % length == 0:
                return f"{seconds / length:g}{unit}"
        return f"{seconds:g}s"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
