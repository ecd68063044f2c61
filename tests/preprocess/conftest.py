"""A platform in a folder."""

from tests.kit.platform import platform

__all__ = ["platform"]
