"""The command upscale: uses networks on files of users."""

from __future__ import annotations

import argparse
import os
import sys
import types
import typing
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    add_plugins,
    load_all_plugins,
)
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress, duration_text, make_progress, print_rich, printable

if TYPE_CHECKING:
    from srtoolbox.upscaling.inputs import Job

_SHORT = {"recursive": "-r"}
_METAVARS = {"value_range": "auto|MIN,MAX|p2-p98|…", "nodata": "keep|V", "scene_cut": "auto|off|T"}
_AUTO = ("frames", "tile", "halo")  # for which None is written auto


def add_upscale(commands: Commands) -> None:
    command = add_command(
        commands,
        "upscale",
        upscale,
        "enlarge your own pictures, folders, bursts, animations, video and GeoTIFF",
    )
    command.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="files and folders")
    command.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="W",
        help="weight file (also .onnx), a folder with denoising levels, waifu2x-photo or "
        "waifu2x-art; default: the package's own networks",
    )
    command.add_argument(
        "--chain",
        action="append",
        default=[],
        metavar="W",
        help="apply another network to the result (may be repeated)",
    )
    command.add_argument("--arch", metavar="NAME", help="arch, if the file W does not name it")
    add_overrides(command, "option of the arch of W, e.g. branch=2 (may be repeated)")
    command.add_argument(
        "--denoise", type=int, choices=range(4), help="denoising level, if the weights have levels"
    )
    command.add_argument(
        *("-o", "--output"), type=Path, metavar="OUT", help="folder, or file for one input"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="only list inputs, sizes and the expected time"
    )
    command.add_argument("--json", action="store_true", help="print results as JSON")
    add_plugins(command)
    parse = command.parse_known_args

    def parse_known_args(*args: Any, **kwargs: Any) -> Any:
        _add_options(command)  # only now: other commands need not import the options
        return parse(*args, **kwargs)

    command.parse_known_args = parse_known_args  # type: ignore[method-assign]


def _add_options(command: argparse.ArgumentParser) -> None:
    """Adds an argument for each option of ``UpscaleOptions``."""
    from srtoolbox.upscaling.options import GROUPS, default_of, doc_of, hint_of

    for title, names in GROUPS.items():
        group = command.add_argument_group(title)
        for name in names:
            flag = f"--{name.replace('_', '-')}"
            default, text = default_of(name), doc_of(name).rstrip(".")
            text = text if text[1].isupper() else text[0].lower() + text[1:]
            if isinstance(default, bool):
                on = not default
                flag = flag if on else f"--no-{name.replace('_', '-')}"
                if not on:
                    text = f"do not {text}"
                flags = [_SHORT[name]] if name in _SHORT else []
                group.add_argument(
                    *flags, flag, dest=name, action="store_const", const=on, help=text
                )
                continue
            shown = "" if default is None else f" (default {default})"
            group.add_argument(
                flag,
                dest=name,
                type=_reader(name, hint_of(name)),
                metavar=_METAVARS.get(name) or _choices(hint_of(name)) or name.upper(),
                help=f"{text}{shown}".replace("%", "%%"),
            )


def _reader(name: str, hint: Any) -> Callable[[str], Any]:
    """Returns the function that reads an argument; the options check its value."""

    def read(text: str) -> Any:
        if text == "auto" and name in _AUTO:
            return None
        if name == "segment":
            text = text.removesuffix("s")
        kinds = _kinds(hint)
        if list in kinds:
            try:
                return [int(part) for part in text.split(",")]
            except ValueError:
                raise argparse.ArgumentTypeError(
                    f"expected numbers such as 4,3,2, got '{text}'"
                ) from None
        for kind in (int, float):
            if kind in kinds:
                try:
                    return kind(text)
                except ValueError:
                    pass
        return text

    return read


def _kinds(hint: Any) -> set[type]:
    """Returns the types that an option may have."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(hint) for kind in _kinds(part)}
    if origin is Literal:
        return {type(value) for value in typing.get_args(hint)}
    return {origin or hint}


def _choices(hint: Any) -> str | None:
    """Returns the possible values of an option, if it has few."""
    if typing.get_origin(hint) is not Literal:
        return None
    return "|".join(map(str, typing.get_args(hint)))


def upscale(arguments: Namespace) -> int:
    from srtoolbox.upscaling.networks import load_networks
    from srtoolbox.upscaling.options import GROUPS, upscale_options
    from srtoolbox.upscaling.run import Jobs, find
    from srtoolbox.upscaling.upscaler import Upscaler

    load_all_plugins(arguments.plugin)
    names = [name for group in GROUPS.values() for name in group]
    given = {name: getattr(arguments, name) for name in names}
    options = upscale_options({name: value for name, value in given.items() if value is not None})
    if len(arguments.weights) > 1:
        raise UserError("--weights: give one; --chain adds networks that follow it")
    if arguments.chain and not arguments.weights:
        raise UserError("--chain: needs --weights for the first network")
    weights = [*arguments.weights, *arguments.chain]
    nets = load_networks(
        weights, options.outscale, arguments.denoise, arguments.arch, arguments.overrides
    )
    upscaler = Upscaler(nets, options)
    found = find(upscaler, arguments.inputs, arguments.output, options)
    for note in found.notes:
        print(printable(note), file=sys.stderr)
    if arguments.dry_run:
        _print_estimate(upscaler, found.jobs, options, arguments.json)
        return 0
    jobs = Jobs(upscaler, options, lambda r: None if arguments.json else _print_path(r.path))
    try:
        with _bars(len(found.jobs)) as progress:
            report = jobs.run(found.jobs, progress)
    finally:  # also after an interruption, and with --fail-fast
        if arguments.json:
            print(jobs.report.to_json())
    parts = [f"{len(report.done)} written"]
    parts += [f"{len(report.found)} finished before"] if report.found else []
    parts += [f"{len(report.skipped)} skipped"] if report.skipped else []
    summary = f"{upscaler.describe()}: {', '.join(parts)}"
    if report.failed:
        summary += f", {len(report.failed)} failed (see failed.json)"
    print(summary, file=sys.stderr)
    return report.exit_code


def _print_path(path: Path) -> None:
    """Prints a path; as bytes if the encoding of the output lacks some of its characters."""
    try:
        print(path, flush=True)
    except UnicodeEncodeError:
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader needs no more lines; the job goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _bars(count: int) -> Iterator[Callable[[Job], Progress]]:
    """Draws a bar for all inputs and one for the frames of the present input."""
    with make_progress() as bars:
        total = bars.add_task("inputs", total=count, visible=count > 1)
        frames = bars.add_task("frames", total=None, visible=False)
        started = 0

        def start(job: Job) -> Progress:
            nonlocal started
            bars.update(total, completed=started)
            started += 1
            bars.reset(frames, description=printable(job.source.name), visible=True)
            return lambda done, whole: bars.update(frames, completed=done, total=whole)

        yield start


def _print_estimate(upscaler: Any, jobs: Any, options: Any, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from rich.table import Table

    from srtoolbox.upscaling.run import estimate

    found = estimate(upscaler, jobs, options)
    if as_json:
        print(json.dumps(asdict(found), default=str, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("input", "result", "size", "new size"):
        table.add_column(title)
    for row in found.rows:
        table.add_row(*(printable(str(cell)).replace("[", r"\[") for cell in row))
    print_rich(table)
    kinds = ", ".join(
        f"{number} {kind}{'s' * (number > 1)}" for kind, number in found.counts.items()
    )
    print(
        f"{upscaler.describe()}: {kinds}; {found.frames} frames, {found.megapixels:.1f} megapixels"
        f"; about {duration_text(found.seconds)}"
    )
