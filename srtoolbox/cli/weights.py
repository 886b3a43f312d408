"""Commands on weight files: convert, export, fetch."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    add_plugins,
    at_least,
    check_output,
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


def add_export(commands: Commands) -> None:
    command = add_command(
        commands, "export", export, "write a network as a program that runs without this toolbox"
    )
    command.add_argument("source", metavar="WEIGHTS", type=Path, help="weight file")
    command.add_argument(
        "--to",
        choices=("onnx", "torch"),
        default="onnx",
        help="onnx (default), or torch for torch.export",
    )
    command.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        type=Path,
        help="FILE.onnx or FILE.pt2 (default: beside WEIGHTS)",
    )
    sizes = command.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        metavar="HxW",
        type=_size,
        help="fixed height and width of the inputs (default: any, where that is possible)",
    )
    sizes.add_argument("--tile", metavar="N", type=at_least(1), help="the same as --size NxN")
    command.add_argument(
        "--frames", metavar="T", type=at_least(1), help="frames, if the arch takes any number"
    )
    command.add_argument(
        "--opset", type=at_least(18), default=20, help="version of ONNX's operators (default 20)"
    )
    command.add_argument("--arch", metavar="NAME", help="arch, if WEIGHTS does not contain it")
    add_overrides(command, "option of the arch, e.g. num_feat=64 (may be repeated)")
    command.add_argument("--key", help="entry of WEIGHTS to use (default params_ema, then params)")
    add_plugins(command)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ArgumentTypeError(f"expected height and width such as 128x128, got '{text}'")
    return int(height), int(width)


def export(arguments: Namespace) -> None:
    from srtoolbox.engine.export import SUFFIXES, export

    output = arguments.output or arguments.source.with_suffix(SUFFIXES[arguments.to])
    check_output("--output", output)
    load_all_plugins(arguments.plugin)
    report = export(
        arguments.source,
        output,
        arguments.to,
        size=(arguments.tile, arguments.tile) if arguments.tile else arguments.size,
        num_frame=arguments.frames,
        opset=arguments.opset,
        arch=arguments.arch,
        overrides=arguments.overrides,
        key=arguments.key,
    )
    print(report.describe())


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
