"""Commands on data: prepare, sample."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    at_least,
    check_output,
    level,
    writing,
)
from srtoolbox.errors import UserError
from srtoolbox.utils.console import print_rich

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def add_prepare(commands: Commands) -> None:
    command = add_command(
        commands, "prepare", prepare, "check a dataset and prepare it for training"
    )
    command.add_argument("name", nargs="?", metavar="LAYOUT", help="layout of the files")
    command.add_argument("--list", action="store_true", help="show all layouts")
    command.add_argument("--source", type=Path, metavar="DIR", help="folder of the files")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for new files (default: beside the source)"
    )
    command.add_argument(
        "--scale", type=at_least(1), default=4, help="scale of the LR files (default 4)"
    )
    command.add_argument(
        "--split",
        action="append",
        default=[],
        help="split to prepare, such as train or test; --list shows those of each layout "
        "(default: all; may be repeated)",
    )
    command.add_argument("--make-lr", action="store_true", help="write LR files")
    command.add_argument(
        "--degradation",
        metavar="NAME|FILE",
        help="write LR files of a blind degradation to --out: its name (`list degradations`), or "
        "an option file with a section degradation",
    )
    command.add_argument(
        "--degradation-seed",
        type=at_least(0),
        default=0,
        metavar="N",
        help="select other degradations (default 0)",
    )
    command.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        default=Path("datasets", ".cache"),
        help="folder for decoded pixels (default datasets/.cache)",
    )
    command.add_argument(
        "--convert", choices=["rgb"], help="convert palette and CMYK images, drop alpha channels"
    )
    command.add_argument("--recursive", action="store_true", help="also read sub-folders")
    command.add_argument("--no-cache", action="store_true", help="keep no decoded pixels")
    command.add_argument(
        "--channels",
        type=at_least(1),
        metavar="N",
        help="number of bands of the files (default: of the layout, or grey and RGB); layout "
        "multiband: number of bands to make, 1 to 13 (default 4)",
    )
    for name, files in (("--bands", ""), ("--bands-gt", " of HR files (default: as --bands)")):
        command.add_argument(
            name, type=at_least(1), nargs="+", metavar="N", help=f"numbers of bands to use{files}"
        )
    command.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="value of missing pixels (default: what GeoTIFF files state); layout multiband: make "
        "missing pixels of this value at one edge",
    )
    command.add_argument(
        "--white-level",
        type=level,
        metavar="N[,N]",
        help="value of 16-bit files that becomes 1, or one for each band, separated by commas; "
        "int16 files need it",
    )
    command.add_argument(
        "--black-level",
        type=level,
        default=0,
        metavar="N[,N]",
        help="value that becomes 0 (default 0)",
    )
    command.add_argument(
        "--scale-floats", action="store_true", help="the levels also apply to float files"
    )


def prepare(arguments: Namespace) -> None:
    if arguments.list:
        from srtoolbox.cli.info import layouts_table

        print_rich(layouts_table())
        return
    if arguments.name is None or arguments.source is None:
        raise UserError(
            "prepare needs the name of a layout and --source DIR; --list shows the layouts"
        )
    from srtoolbox.config.files import dump, shown_path
    from srtoolbox.data.prepare.dataset import prepare

    prepared = prepare(
        arguments.name,
        arguments.source,
        out=arguments.out,
        scale=arguments.scale,
        splits=arguments.split,
        make_lr=arguments.make_lr,
        degradation=arguments.degradation,
        degradation_seed=arguments.degradation_seed,
        cache=None if arguments.no_cache else arguments.cache,
        convert=arguments.convert == "rgb",
        recursive=arguments.recursive,
        channels=arguments.channels,
        bands=arguments.bands,
        bands_gt=arguments.bands_gt,
        nodata=arguments.nodata,
        white_level=arguments.white_level,
        black_level=arguments.black_level,
        scale_floats=arguments.scale_floats,
    )
    print_rich(prepared.table())
    for note in prepared.notes:
        print(f"note: {note}")
    if prepared.options()["datasets"]:
        file = prepared.option_file()
        base = f" (to inherit more: _base_: {shown_path(file)})" if file else ""
        print(f"\nin an option file{base}:\n")
        print(textwrap.indent(dump(prepared.options()), "  "), end="")


def add_sample(commands: Commands) -> None:
    command = add_command(commands, "sample", sample, "draw a training batch as a picture")
    command.add_argument("name", metavar="NAME", help="option file, or a layout with --source")
    command.add_argument("--out", type=Path, required=True, metavar="PNG", help="file to write")
    command.add_argument("--source", type=Path, metavar="DIR", help="folder of the layout's files")
    command.add_argument("--step", type=at_least(0), default=0, help="training step (default 0)")
    command.add_argument(
        "--rgb-bands",
        type=at_least(1),
        nargs="+",
        metavar="N",
        help="bands shown as red, green and blue, e.g. 4 3 2, or one as grey (default: 1 2 3)",
    )
    add_overrides(command, "override an option, e.g. manual_seed=1 (may be repeated)")


def sample(arguments: Namespace) -> None:
    from srtoolbox.cli.preview import open_stream
    from srtoolbox.data.prepare.preview import draw_batch

    check_output("--out", arguments.out)
    if arguments.out.suffix.lower() not in _PICTURES:
        raise UserError(f"--out {arguments.out}: must end with {', '.join(_PICTURES)}")
    stream = open_stream(arguments.name, arguments.overrides, arguments.source)
    picture = draw_batch(stream, arguments.step, arguments.name, rgb_bands=arguments.rgb_bands)
    with writing("--out", arguments.out):
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(arguments.out)
    print(f"{arguments.out}: {picture.width}×{picture.height}, {stream.batch_size} samples")
