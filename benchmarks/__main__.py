"""Runs a benchmark of the toolbox: ``python -m benchmarks compile``, ``data``, ….

``--set KEY=VALUE`` changes an option of ``benchmarks/<name>.yml``; results are written to
``experiments/bench/``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.compile import CompileOptions, measure_compile, report_compile
from benchmarks.data import DataOptions, measure_data, report_data
from benchmarks.deform import DeformOptions, measure_deform, report_deform
from benchmarks.trainer import TrainerOptions, measure_trainer, report_trainer
from benchmarks.upscale import UpscaleBenchOptions, measure_upscale, report_upscale
from srtoolbox.bench.run import Benchmark, run_bench
from srtoolbox.engine.device.precision import pick_device
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import set_up_logging

BENCHMARKS = {
    "compile": Benchmark(CompileOptions, measure_compile, report_compile),
    "data": Benchmark(DataOptions, measure_data, report_data),
    "deform": Benchmark(DeformOptions, measure_deform, report_deform),
    "trainer": Benchmark(TrainerOptions, measure_trainer, report_trainer),
    "upscale": Benchmark(UpscaleBenchOptions, measure_upscale, report_upscale),
}


def main() -> int:
    """Runs one benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=list(BENCHMARKS))
    parser.add_argument("--options", type=Path, help="option file instead of the shipped one")
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    arguments = parser.parse_args()
    set_up_logging()
    path = arguments.options or Path(__file__).with_name(f"{arguments.name}.yml")
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    try:
        written = run_bench(
            path,
            arguments.overrides,
            pick_device(arguments.device),
            command,
            BENCHMARKS[arguments.name],
        )
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    Console().print(written.shown)
    print(f"written to {written.path}, and .json beside it")
    return 1 if written.failures else 0


if __name__ == "__main__":
    sys.exit(main())
