"""`coin settings`: list every setting with its value."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coin_platform.settings import PREFIX, Settings, load


def settings() -> None:
    """List every setting with its value and its meaning. Secrets are not shown."""
    console, table, values = Console(), Table("setting", "value", "meaning"), load()
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), *map(Text, (str(getattr(values, name)), field.description or "")))
    console.print(table)
