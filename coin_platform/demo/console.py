"""The console of `coin up` and `coin demo`: plain lines, as wide as their tables."""

from rich.console import Console

console = Console(force_terminal=False, width=140, highlight=False)
