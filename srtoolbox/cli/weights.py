"""Commands on weight files: convert."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    add_plugins,
    load_all_plugins,
)


def add_convert(commands: Commands) -> None:
    command = add_command(
        commands, "convert", convert, "write a weight file that contains its arch and options"
    )
    command.add_argument("source", metavar="IN", type=Path, help="weight file")
    command.add_argument("target", metavar="OUT", type=Path, help="OUT.safetensors or OUT.pth")
    command.add_argument("--arch", metavar="NAME", help="arch, if IN does not contain it")
    add_overrides(command, "option of the arch, e.g. num_feat=64 (may be repeated)")
    command.add_argument("--key", help="entry of IN to use (default params_ema, then params)")
    add_plugins(command)


def convert(arguments: Namespace) -> None:
    from srtoolbox.engine.weights.convert import convert

    load_all_plugins(arguments.plugin)
    print(
        convert(
            arguments.source, arguments.target, arguments.arch, arguments.overrides, arguments.key
        )
    )
