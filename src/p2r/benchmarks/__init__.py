"""Benchmarks: each one yields samples and nothing else."""

from __future__ import annotations

from p2r.benchmarks.base import Benchmark, Facts, LeftOut, Origin
from p2r.benchmarks.check import CheckReport, check_benchmark
from p2r.benchmarks.load import BENCHMARKS, load_again, load_benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "CheckReport",
    "Facts",
    "LeftOut",
    "Origin",
    "check_benchmark",
    "load_again",
    "load_benchmark",
]
