"""Give the memory of pictures back when they are gone."""

from __future__ import annotations

import contextlib
import ctypes
import sys

LARGE_BYTES = 8 << 20
"""Pillow keeps pictures in blocks of 16 MB."""

_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """Let glibc return each large block to the system when it is freed; elsewhere nothing is done.

    By itself glibc takes blocks of up to 32 MB from its heaps after the first one was freed, where small ones left
    between them keep them. An evaluation of 8K pictures through a server peaks at 1.0 GB instead of 1.8 GB, for 13%
    more CPU time (measured with four pictures under way).
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
