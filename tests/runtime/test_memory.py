"""Memory that is free goes back to the system, also from between what is still in use."""

import subprocess
import sys

import pytest

HOLDING = """
import time
from coin_platform.runtime import memory

def held():
    [line] = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
    return int(line.split()[1]) >> 10

memory.TRIM_SECONDS = 0.2
if {is_wanted}:
    memory.give_back_memory()
"""
SMALL = """
blocks = [bytes(1_000) for _ in range(100_000)]
kept = blocks[::16]  # of every four pages something
full = held()
del blocks
time.sleep(1)
print(full, held())
"""
LARGE = """
b"x" * (16 << 20)  # freed at once: from now on the C library takes blocks of this size from its heap
blocks, kept = [], []
for _ in range(60):
    blocks.append(b"x" * (1 << 20))
    kept.append(bytes(2_000))
full = held()
blocks.clear()
print(full, held())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")


def run(code: str, *, is_wanted: bool) -> tuple[int, int]:
    """Run code in a process of its own; return the MiB that it held at most, and in the end."""
    program = HOLDING.format(is_wanted=is_wanted) + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    full, after = map(int, done.stdout.split())
    return full, after


@pytest.mark.parametrize("code", [SMALL, LARGE], ids=["small", "large"])
def test_what_is_free_between_what_is_in_use_is_returned(code: str) -> None:
    full, after = run(code, is_wanted=True)
    assert after < full - 50
    full, after = run(code, is_wanted=False)
    assert after > full - 20, "not of itself"


def test_what_was_there_at_first_is_not_looked_through_for_garbage_again() -> None:
    code = """
import gc
early = [[] for _ in range(10_000)]
time.sleep(1)
print(gc.get_freeze_count(), len(gc.get_objects()))
"""
    frozen, left = run(code, is_wanted=True)
    assert frozen > 10_000 > left
    frozen, _ = run(code, is_wanted=False)
    assert frozen < 10_000
