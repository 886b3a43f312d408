"""Commands on studies: compare, score, merge, report, card."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_option_file,
    add_plugins,
    check_kind,
    check_output,
    load_all_plugins,
    writing,
)
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import print_rich, printable


def add_compare(commands: Commands) -> None:
    command = add_command(commands, "compare", compare, "train and evaluate the methods of a study")
    add_option_file(command)
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="METHOD",
        help="run only this method; the others keep their finished results (may be repeated)",
    )
    command.add_argument(
        "--launcher",
        choices=["slurm", "local"],
        help="run every training and evaluation as a job of a SLURM cluster, or as a job of this "
        "machine (default: in this process, or in as many as 'jobs')",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="list finished and remaining work, with time and disk space, or the jobs of "
        "--launcher, and run nothing",
    )


def compare(arguments: Namespace) -> None:
    from srtoolbox import compare
    from srtoolbox.comparison.analysis.scores import nan_results
    from srtoolbox.engine.device.distributed import refuse

    refuse("compare")
    check_kind(arguments.options, arguments.overrides, "compare")
    if arguments.dry_run:
        _dry_run(arguments)
        return
    options, launcher = arguments.options, arguments.launcher
    store = compare(options, arguments.overrides, arguments.device, arguments.only, launcher)
    _print_report(store.folder)
    card = store.load_card()
    failed = [entry for entry in card.entries if entry.failure]
    if failed:
        names = ", ".join(f"{entry.method} (seed {entry.seed})" for entry in failed)
        raise RunError(f"failed: {names}; the reasons are below the table")
    if nan := nan_results(store, card):
        raise RunError("; ".join(nan))


def _dry_run(arguments: Namespace) -> None:
    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.comparison.study.dry_run import estimate, list_tasks, to_terminal
    from srtoolbox.comparison.study.launcher import Launch
    from srtoolbox.config.load import load_options
    from srtoolbox.engine.device.precision import pick_device

    opt, tree = load_options(arguments.options, arguments.overrides, StudyOptions)
    if arguments.launcher is not None:
        launch = Launch(arguments.launcher, arguments.device)
        print_rich(list_tasks(tree, launch, arguments.only))
        return
    tasks = estimate(tree, pick_device(arguments.device), arguments.only)
    print_rich(to_terminal(tasks, f"{opt.name}: what is done and left"))


def add_score(commands: Commands) -> None:
    command = add_command(
        commands, "score", score, "add metrics or protocols to a finished study, without training"
    )
    command.add_argument("folder", type=Path, metavar="STUDY", help="folder of the study")
    command.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="NAME",
        help="metrics to add: niqe, pyiqa:musiq, lpips:net=vgg, …",
    )
    command.add_argument(
        "--protocol", nargs="+", default=[], metavar="NAME", help="protocols to add"
    )
    add_device(command)
    add_plugins(command)


def score(arguments: Namespace) -> None:
    from srtoolbox.comparison.analysis.scores import nan_results
    from srtoolbox.comparison.study.score import score_study

    if not (arguments.metrics or arguments.protocol):
        raise UserError("nothing to add: give --metrics, or --protocol, or both")
    load_all_plugins(arguments.plugin)
    store = score_study(arguments.folder, arguments.metrics, arguments.protocol, arguments.device)
    _print_report(store.folder)
    if nan := nan_results(store, store.load_card()):
        raise RunError("; ".join(nan))


def add_merge(commands: Commands) -> None:
    command = add_command(commands, "merge", merge, "merge parts of a study from several machines")
    command.add_argument(
        "parts", nargs="+", type=Path, metavar="FOLDER", help="folder of a part of the study"
    )
    command.add_argument(
        "--into",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the merged study (created if it is missing)",
    )


def merge(arguments: Namespace) -> None:
    from srtoolbox.comparison.study.merge import merge_studies

    _print_report(merge_studies(arguments.parts, arguments.into).folder)


def add_report(commands: Commands) -> None:
    command = add_command(
        commands, "report", report, "write a study's tables and figures again from its results"
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the study")
    command.add_argument(
        "--to",
        metavar="FORMATS",
        help="md, csv, latex, html, figures, separated by commas (default: all)",
    )
    command.add_argument(
        "--baseline", metavar="METHOD", help="method to compare the others with (default: the best)"
    )
    command.add_argument(
        "--region",
        metavar="KEY=Y,X,SIDE",
        action="append",
        default=[],
        help="square of image KEY to enlarge, in HR pixels (default: where the methods differ "
        "most; may be repeated)",
    )


def report(arguments: Namespace) -> None:
    formats = arguments.to.split(",") if arguments.to else None
    _print_report(arguments.folder, formats, arguments.baseline, arguments.region)


def add_card(commands: Commands) -> None:
    command = add_command(
        commands, "card", card, "write the model card of a run or a study beside its weights"
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="folder of a run or a study")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the card (default: weights/README.md of a run, README.md of a study)",
    )
    command.add_argument(
        "--license",
        metavar="ID",
        help="licence of the weights, e.g. apache-2.0 (default: the card says that it is not "
        "stated)",
    )
    add_plugins(command)


def card(arguments: Namespace) -> None:
    from srtoolbox.comparison.report.model_card import write_card

    check_output("-o", arguments.output)
    load_all_plugins(arguments.plugin)
    folder = arguments.folder
    with writing("FOLDER" if arguments.output is None else "-o", arguments.output or folder):
        print(printable(f"{write_card(folder, arguments.output, arguments.license)}: written"))


def _print_report(
    folder: Path,
    formats: Sequence[str] | None = None,
    baseline: str | None = None,
    regions: Sequence[str] = (),
) -> None:
    """Writes the report of a study, and prints its table and the names of its files."""
    from srtoolbox.comparison.report.table import to_terminal
    from srtoolbox.comparison.report.write import FORMATS, parse_regions, write_report

    report = write_report(folder, formats or FORMATS, baseline, parse_regions(regions))
    print_rich(to_terminal(report.overview, report.title))
    names = [path.name for path in report.files if path.parent == folder]
    if len(names) < len(report.files):
        names.append("figures/")
    print(printable(f"{', '.join(names)}: in {folder}"))
