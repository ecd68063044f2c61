"""`python -m coin_platform` is `coin`."""

from coin_platform.cli import main

main()
