"""Memory that is free goes back to the system, also from between what is still in use."""

import subprocess
import sys

import pytest

HOLDING = """
import gc
from coin_platform.memory import give_back_memory, trim_memory

def held():
    [line] = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
    return int(line.split()[1]) >> 10
"""
TRIM = """
blocks = [bytes(1_000) for _ in range(100_000)]
kept = blocks[::16]  # of every four pages something
full = held()
del blocks
before = held()
{}
print(full, before, held())
"""
GIVE_BACK = """
{}
b"x" * (16 << 20)  # freed at once: from now on the C library takes blocks of this size from its heap
blocks, kept = [], []
for _ in range(60):
    blocks.append(b"x" * (1 << 20))
    kept.append(bytes(2_000))
full = held()
blocks.clear()
print(full, held(), held())
"""


def run(code: str) -> tuple[int, int, int]:
    """Run code in a process of its own; return the MiB that it held at most, then, and in the end."""
    done = subprocess.run([sys.executable, "-c", HOLDING + code], capture_output=True, text=True, check=True)
    full, before, after = map(int, done.stdout.split())
    return full, before, after


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_holes_between_small_blocks_are_returned() -> None:
    full, before, after = run(TRIM.format("trim_memory()"))
    assert before > full - 20, "not of itself"
    assert after < full - 50


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_large_blocks_are_returned_as_soon_as_they_are_free() -> None:
    full, _, after = run(GIVE_BACK.format("give_back_memory()"))
    assert after < full - 50
    full, _, after = run(GIVE_BACK.format(""))
    assert after > full - 20, "not of itself"
