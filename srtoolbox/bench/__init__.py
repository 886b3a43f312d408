"""Measures speed and memory of networks, as ratios within one run."""

from srtoolbox.bench.run import run_bench

__all__ = ["run_bench"]
