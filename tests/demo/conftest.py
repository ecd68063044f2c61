"""Give these tests the fixture `platform`."""

from tests.kit.platform import platform

__all__ = ["platform"]
