"""Commands on weight files: convert, fetch."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    add_plugins,
    load_all_plugins,
)
from srtoolbox.errors import RunError, UserError, check_choice


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


def add_fetch(commands: Commands) -> None:
    command = add_command(
        commands, "fetch", fetch, "download the weights that LPIPS or a perceptual loss needs"
    )
    command.add_argument(
        "name",
        metavar="NAME",
        help="lpips (AlexNet), lpips-vgg, lpips-squeeze or, for PerceptualLoss, vgg19",
    )


def fetch(arguments: Namespace) -> None:
    from srtoolbox.utils.imagenet import (
        BACKBONES,
        BackboneUnavailable,
        download,
        hub_file,
        inspect,
    )

    check_choice("fetch: NAME", arguments.name, BACKBONES)
    backbone = BACKBONES[arguments.name]
    file = hub_file(backbone.file)
    if file.exists():
        print(f"{file} exists already")
    else:
        print(f"downloading {backbone.url} ({backbone.size} MiB) to {file}", flush=True)
        try:
            download(backbone, progress=sys.stderr.isatty())
        except BackboneUnavailable as error:
            raise RunError(str(error)) from error
    try:
        print(f"{file.name}: {inspect('fetch', file, backbone).text}")
    except BackboneUnavailable as error:
        raise UserError(f"{error}; delete it and run the same command again") from error
