"""Benchmarks: each yields samples, and nothing but samples."""
