"""`coin settings`: list every setting with its value."""

from datetime import timedelta
from typing import Any

from pydantic.fields import FieldInfo

from coin_platform.commands.output import Column, JsonOption, print_rows
from coin_platform.settings import PREFIX, Settings, load

_COLUMNS = (Column("setting"), Column("value"), Column("meaning"))


def settings(as_json: JsonOption = False) -> None:
    """List every setting with its value, its meaning and its default. Secrets are not shown."""
    values = load()
    rows = (
        {
            "setting": PREFIX + name.upper(),
            "value": _text(getattr(values, name)),
            "default": _text(field.get_default(call_default_factory=True)),
            "meaning": field.description if as_json else _meaning(field, getattr(values, name)),
        }
        for name, field in Settings.model_fields.items()
    )
    print_rows(_COLUMNS, rows, as_json=as_json, nothing="")


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
