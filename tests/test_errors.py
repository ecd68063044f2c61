"""The tree of errors in the documentation is the tree of the code."""

import re

from coin_platform import errors
from coin_platform.errors import CoinPlatformError


def tree(error: type[CoinPlatformError], indent: int = 0) -> list[str]:
    """Return the names of an error and of all that derive from it, indented as in the documentation."""
    children = [child for child in error.__subclasses__() if child.__module__ == errors.__name__]
    return [" " * indent + error.__name__, *(line for child in children for line in tree(child, indent + 4))]


def test_the_documented_tree_is_complete_and_in_the_order_of_the_code() -> None:
    documented = re.findall(r"^ *[A-Z]\w+(?=$|  )", errors.__doc__ or "", re.MULTILINE)
    assert documented == tree(CoinPlatformError)
