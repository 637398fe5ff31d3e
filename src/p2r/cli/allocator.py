"""Return the memory of images to the system when they are freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys

LARGE_BYTES = 1 << 20
"""Blocks from this size on are returned when freed. Pillow keeps images in blocks of 16 MB."""

NUM_ARENAS = 2
"""Heaps that threads share. With a heap each, what threads hold adds up: training nano took 6 GB instead of 2.5."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def share_heaps() -> None:
    """Let threads share a few of glibc's heaps; with another C library, do nothing.

    This is all that is done where tensors come and go: returning each of them takes a third of the time of a small
    model's forward pass.
    """
    _set(_M_ARENA_MAX, NUM_ARENAS)


def return_large_blocks() -> None:
    """Also let glibc return each large block to the system when it is freed.

    By default, after the first free, glibc takes blocks of up to 32 MB from its heaps, where small blocks between them
    keep them from being returned. Sixteen 8K images sent to a server, four at a time, peaked at 1.0 GB instead of
    1.8 GB; the fresh pages cost CPU time (13%).
    """
    share_heaps()
    _set(_M_MMAP_THRESHOLD, LARGE_BYTES)


def _set(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").mallopt(option, value)
