"""The command bench."""

from __future__ import annotations

import shlex
from argparse import Namespace

from srtoolbox.cli.arguments import Commands, add_command, add_option_file, check_kind
from srtoolbox.utils.console import print_rich


def add_bench(commands: Commands) -> None:
    command = add_command(commands, "bench", bench, "measure speed and memory of networks")
    add_option_file(command)


def bench(arguments: Namespace) -> None:
    from srtoolbox.bench.run import run_bench
    from srtoolbox.engine.device.precision import pick_device

    check_kind(arguments.options, arguments.overrides, "bench")
    settings = [part for override in arguments.overrides for part in ("--set", override)]
    settings += ["--device", arguments.device] if arguments.device != "auto" else []
    command = shlex.join(["srtoolbox", "bench", str(arguments.options), *settings])
    device = pick_device(arguments.device)
    written = run_bench(arguments.options, arguments.overrides, device, command)
    print_rich(written.shown)
    print(f"written to {written.path}, and .json beside it")
    written.raise_failures()
