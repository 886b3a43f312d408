"""Commands on one network: train, test, metrics, doctor."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_option_file,
    add_plugins,
    at_least,
    check_kind,
    check_output,
    level,
    load_all_plugins,
    writing,
)
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.collector import collector_paused, present_objects_skipped
from srtoolbox.utils.console import print_rich, printable, terminal_table


def add_train(commands: Commands) -> None:
    command = add_command(commands, "train", train, "train one network")
    add_option_file(command)
    command.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        type=_auto,
        metavar="auto",
        help="continue from the last checkpoint, or start if there is none (auto: the same)",
    )
    command.add_argument("--dry-run", action="store_true", help="only check, as doctor does")


def _auto(text: str) -> str:
    """The only value of ``--resume``, which other toolboxes require."""
    if text != "auto":
        raise argparse.ArgumentTypeError(
            f"expected nothing or 'auto', got '{text}' (write the option file before --resume)"
        )
    return text


def train(arguments: Namespace) -> None:
    if arguments.dry_run:
        doctor(arguments)
        return
    with collector_paused():
        from srtoolbox.config.load import load_options
        from srtoolbox.engine.device.distributed import join
        from srtoolbox.engine.options import RunOptions
        from srtoolbox.engine.training.train import train

    check_kind(arguments.options, arguments.overrides, "train")
    opt, _ = load_options(arguments.options, arguments.overrides, RunOptions)
    with present_objects_skipped(), join(arguments.device) as (ranks, device):
        result = train(opt, device, resume=bool(arguments.resume), ranks=ranks)
    if ranks.is_main:
        weights = opt.folder / "weights" / "net_g_latest.pth"
        took = f"{result.step} steps in {result.seconds:.1f} s"
        print(f"trained {took}: {weights} ({result.weights})")


def add_test(commands: Commands) -> None:
    command = add_command(
        commands, "test", test, "evaluate one network, given by an option file or its weights"
    )
    add_option_file(command, required=False)
    command.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weight file; if it contains its arch, the option file may leave out network_g",
    )
    command.add_argument(
        "--key", help="entry of the weight file to use (default params_ema, then params)"
    )
    command.add_argument(
        "--data",
        nargs=2,
        type=Path,
        metavar=("LR_DIR", "GT_DIR"),
        help="folders of images to evaluate on",
    )


def test(arguments: Namespace) -> None:
    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.evaluation.test import load_test_options, run_test

    if arguments.weights is not None and (
        arguments.weights.is_dir() or not arguments.weights.exists()
    ):
        kind = "is a folder" if arguments.weights.is_dir() else "no such file"
        raise UserError(f"--weights {arguments.weights}: {kind}")
    check_kind(arguments.options, arguments.overrides, "test")
    key = [f"path.param_key_g={json.dumps(arguments.key)}"] if arguments.key else []
    opt = load_test_options(
        arguments.options, [*arguments.overrides, *key], arguments.weights, arguments.data
    )
    result = run_test(opt, pick_device(arguments.device), arguments.weights)
    metrics = dict.fromkeys(metric for means in result.scores.values() for metric in means)
    rows = []
    for dataset, means in result.scores.items():
        values = (means.get(metric) for metric in metrics)
        rows.append([dataset, *("–" if value is None else f"{value:.4f}" for value in values)])
    head = ["dataset", *(metric.upper() for metric in metrics)]
    print_rich(terminal_table(f"{opt.name} (x{opt.scale})", head, rows))
    print(result.protocol)
    for sentence in result.infinite:
        print(printable(sentence))
    for name, source in result.sources.items():
        print(printable(f"{name} uses {source['text']}"))
    print(printable(f"per-image scores: {result.folder / 'results.jsonl'}"))
    if result.nan:
        raise RunError("; ".join(result.nan))


def add_metrics(commands: Commands) -> None:
    command = add_command(commands, "metrics", metrics, "score SR images of any program")
    command.add_argument("sr", type=Path, metavar="SR_DIR", help="folder of SR images or of clips")
    command.add_argument(
        "gt",
        type=Path,
        nargs="?",
        metavar="GT_DIR",
        help="ground truth; e.g. DIR/{clip}/GT for clips (left out: only metrics that need none)",
    )
    command.add_argument(
        "--protocol",
        help="rules of the scores: basicsr-y, matlab-y, rgb, …; `srtoolbox list protocols` lists "
        "and explains all (needed with GT_DIR; without it, the default is rgb)",
    )
    command.add_argument(
        "--metrics",
        nargs="+",
        default=["psnr", "ssim"],
        metavar="NAME",
        help="e.g. psnr lpips:net=vgg niqe pyiqa:musiq (default psnr ssim)",
    )
    command.add_argument(
        "--scale", type=at_least(1), default=4, help="scale of the images (default 4)"
    )
    command.add_argument(
        "--template", default="{}", help="name of an SR image, {} is the name of its GT: {}_x4"
    )
    command.add_argument(
        "--subset", action="store_true", help="allow GT images without an SR image"
    )
    for side in ("below", "above"):
        command.add_argument(
            f"--fail-{side}",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help=f"exit with code 1 if a mean is {side} this value (may be repeated)",
        )
    for name, files in (("--bands", ""), ("--bands-gt", " of GT images (default: as --bands)")):
        command.add_argument(
            name, type=at_least(1), nargs="+", metavar="N", help=f"numbers of bands to read{files}"
        )
    command.add_argument(
        "--white-level",
        type=level,
        metavar="N[,N]",
        help="value of 16-bit files that becomes 1, or one for each band, separated by commas",
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
    command.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="value of missing pixels of GT, or of SR without GT; they are not scored (default: "
        "what GeoTIFF files state)",
    )
    command.add_argument(
        "--mask",
        type=Path,
        metavar="DIR",
        help="folder of masks with the names of GT; pixels that are 0 in a mask are not scored",
    )
    command.add_argument(
        "--convert", choices=["rgb"], help="convert palette and CMYK images, drop alpha channels"
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write one line per image")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all scores")
    add_device(command)
    add_plugins(command)


def metrics(arguments: Namespace) -> None:
    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.evaluation.folders import read_limit, score_folders
    from srtoolbox.engine.evaluation.records import not_finite

    for option, path in (("--csv", arguments.csv), ("--json", arguments.json)):
        check_output(option, path)
        if path is not None and path.exists():
            _check_overwritten(
                option, path, [arguments.sr, *([arguments.gt] if arguments.gt else [])]
            )
    if arguments.protocol is None and arguments.gt is not None:
        raise UserError("--protocol is missing; `srtoolbox list protocols` lists and explains all")
    load_all_plugins(arguments.plugin)
    limits = [read_limit(text, below=True) for text in arguments.fail_below]
    limits += [read_limit(text, below=False) for text in arguments.fail_above]
    scores = score_folders(
        arguments.sr,
        arguments.gt,
        protocol=arguments.protocol or "rgb",
        metrics=arguments.metrics,
        scale=arguments.scale,
        template=arguments.template,
        subset=arguments.subset,
        limits=limits,
        device=pick_device(arguments.device),
        white_level=arguments.white_level,
        black_level=arguments.black_level,
        scale_floats=arguments.scale_floats,
        bands=arguments.bands,
        bands_gt=arguments.bands_gt,
        nodata=arguments.nodata,
        mask=arguments.mask,
        convert=arguments.convert == "rgb",
    )
    print_rich(scores.table(), crop=False)
    nan, infinite = not_finite(scores.records, scores.lower_is_better)
    for sentence in [*nan, *infinite]:
        print(printable(sentence))
    for note in scores.notes:
        print(printable(f"note: {note}"))
    if arguments.csv:
        with writing("--csv", arguments.csv):
            scores.write_csv(arguments.csv)
    if arguments.json:
        with writing("--json", arguments.json):
            scores.write_json(arguments.json)
    scores.require(limits)
    if nan:
        raise RunError("; ".join(nan))


def _check_overwritten(option: str, path: Path, folders: Sequence[Path]) -> None:
    """Checks that an existing file may be replaced by scores.

    Raises:
        UserError: if it is no text file, has another suffix, or lies in a folder that is scored.
    """
    reason = None
    for folder in folders:
        root = Path(*takewhile(lambda part: "{clip}" not in part, folder.parts))
        if path.resolve().is_relative_to(root.resolve()):
            reason = f"it lies in {root}, a folder of images"
    if path.suffix.lower() not in (".csv", ".json"):
        reason = "it does not end with .csv or .json"
    elif reason is None and path.is_file():
        with writing(option, path), path.open("rb") as file:
            if b"\0" in file.read(4096):
                reason = "it is no text file"
    if reason:
        raise UserError(
            f"{option} {path}: exists and is not overwritten: {reason}; give a new name"
        )


def add_doctor(commands: Commands) -> None:
    command = add_command(
        commands, "doctor", doctor, "check everything that a run or a study needs"
    )
    add_option_file(command)


def doctor(arguments: Namespace) -> None:
    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.comparison.study.plan import list_jobs
    from srtoolbox.config.files import read
    from srtoolbox.config.load import check_options
    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.doctor.diagnose import diagnose
    from srtoolbox.engine.doctor.report import to_terminal
    from srtoolbox.engine.options import RunOptions

    tree = read(arguments.options, arguments.overrides)
    if "methods" in tree:
        study = check_options(tree, StudyOptions)
        runs = {job.method: job.opt for job in list_jobs(study, tree)[: len(study.methods)]}
        repeats = len(study.seeds)
        seeds = f"{repeats} {'seed' if repeats == 1 else 'seeds'}"
        title = f"{study.name}: {len(runs)} methods, {seeds}"
    else:
        opt = check_options(tree, RunOptions)
        runs, title, repeats = {opt.name: opt}, opt.name, 1
    found = diagnose(runs, pick_device(arguments.device), repeats)
    print_rich(to_terminal(found, title))
    found.raise_faults()
    number = len(found.warnings)
    warnings = f" with {number} {'warning' if number == 1 else 'warnings'}" if number else ""
    print(f"all checks passed{warnings}")
