"""coin_platform: the public spot markets of ten exchanges, live, into a lake that can be trusted."""

__version__ = "0.1.0"
