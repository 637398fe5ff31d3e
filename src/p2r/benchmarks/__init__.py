"""Benchmarks: each one yields samples and nothing else."""

from __future__ import annotations

from p2r.benchmarks.base import Benchmark, Facts, LeftOut
from p2r.benchmarks.check import CheckReport, check_benchmark
from p2r.benchmarks.load import BENCHMARKS, load_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "CheckReport", "Facts", "LeftOut", "check_benchmark", "load_benchmark"]
