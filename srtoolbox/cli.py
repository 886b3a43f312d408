"""The command line: arguments in, one call, an exit code out.

Exit codes: 0 done, 1 failed, 2 the input must be put right, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from srtoolbox import __version__
from srtoolbox.console import set_up_logging
from srtoolbox.errors import RunError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = _parser().parse_args(arguments)
    set_up_logging()
    try:
        parsed.call(parsed)
    except UserError as error:
        print(f"srtoolbox: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"srtoolbox: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"srtoolbox: {name}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("srtoolbox: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="srtoolbox", description="Train, test and fairly compare super-resolution methods."
    )
    parser.add_argument("--version", action="version", version=f"srtoolbox {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add(commands, "compare", _compare, "train and score the methods of a study")
    _add_options(command)

    command = _add(commands, "train", _train, "train one network by an option file")
    _add_options(command)
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")

    command = _add(commands, "test", _test, "score one network by an option file or its weights")
    _add_options(command, needed=False)
    command.add_argument(
        "--weights", type=Path, help="weight file to score; the option file may leave out network_g"
    )
    command.add_argument("--key", help="its entry to take (default params_ema, then params)")
    command.add_argument(
        "--data", nargs=2, type=Path, metavar=("LR_DIR", "GT_DIR"), help="images to score it on"
    )

    command = _add(commands, "convert", _convert, "write weights so that they say their arch")
    command.add_argument("source", metavar="IN", type=Path, help="weight file")
    command.add_argument("target", metavar="OUT", type=Path, help="OUT.safetensors or OUT.pth")
    command.add_argument("--arch", metavar="NAME", help="arch, if IN does not say it")
    _add_overrides(command, "option of the arch, e.g. num_feat=64 (may be repeated)")
    command.add_argument("--key", help="entry of IN to take (default params_ema, then params)")
    _add_plugins(command)

    command = _add(commands, "report", _report, "make a study's tables and figures again")
    command.add_argument("folder", type=Path, help="folder of the study")

    command = _add(commands, "bench", _bench, "measure speed and memory of networks")
    _add_options(command)

    command = _add(commands, "list", _list, "list what is registered")
    command.add_argument("kind", choices=list(_PLURALS))
    _add_plugins(command)

    command = _add(commands, "show", _show, "show one component and its options")
    command.add_argument("kind", choices=list(_PLURALS.values()))
    command.add_argument("name")
    _add_plugins(command)

    command = _add(commands, "options", _schema, "write the JSON Schema of option files")
    command.add_argument("what", choices=["schema"])
    command.add_argument("--of", choices=["run", "study"], default="run", help="kind of file")
    return parser


_PLURALS = {
    "archs": "arch",
    "datasets": "dataset",
    "losses": "loss",
    "metrics": "metric",
    "models": "model",
}


def _add(commands, name: str, call, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(call=call)
    return command


def _add_options(command: argparse.ArgumentParser, needed: bool = True) -> None:
    command.add_argument(
        "options", type=Path, nargs=None if needed else "?", help="option file (YAML)"
    )
    _add_overrides(command, "override an option, e.g. train.total_iter=1000 (may be repeated)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def _add_overrides(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=text
    )


def _add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin", action="append", default=[], help="file or module with components of your own"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.plan import StudyOptions
    from srtoolbox.comparison.study import run_study
    from srtoolbox.engine.precision import pick_device
    from srtoolbox.engine.run import load_options

    opt, tree = load_options(arguments.options, arguments.overrides, StudyOptions)
    store = run_study(opt, tree, pick_device(arguments.device))
    _print_report(store.folder)
    failed = [entry for entry in store.load_card().entries if entry.failure]
    if failed:
        names = ", ".join(f"{entry.method} (seed {entry.seed})" for entry in failed)
        raise RunError(f"failed: {names}; the reasons stand under the table")


def _train(arguments: argparse.Namespace) -> None:
    from srtoolbox.engine.precision import pick_device
    from srtoolbox.engine.run import load_options
    from srtoolbox.engine.training import train

    opt, _ = load_options(arguments.options, arguments.overrides)
    result = train(opt, pick_device(arguments.device), resume=arguments.resume)
    weights = opt.folder / "weights" / "net_g_latest.pth"
    print(f"trained {result.step} steps in {result.seconds:.1f} s: {weights} ({result.weights})")


def _test(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from srtoolbox.engine.precision import pick_device
    from srtoolbox.engine.testing import load_test_options, test

    key = [f"path.param_key_g={json.dumps(arguments.key)}"] if arguments.key else []
    opt = load_test_options(
        arguments.options, [*arguments.overrides, *key], arguments.weights, arguments.data
    )
    scores, protocol, folder = test(opt, pick_device(arguments.device), arguments.weights)
    table = Table(title=f"{opt.name} (x{opt.scale})", caption=protocol, caption_justify="left")
    table.add_column("dataset")
    for metric in next(iter(scores.values())):
        table.add_column(metric.upper(), justify="right")
    for dataset, means in scores.items():
        cells = ("–" if value is None else f"{value:.4f}" for value in means.values())
        table.add_row(dataset, *cells)
    Console().print(table)
    print(f"per-image scores: {folder / 'results.jsonl'}")


def _convert(arguments: argparse.Namespace) -> None:
    from srtoolbox.engine.convert import convert

    _load(arguments.plugin)
    one = arguments
    print(convert(one.source, one.target, one.arch, one.overrides, one.key))


def _report(arguments: argparse.Namespace) -> None:
    _print_report(arguments.folder)


def _print_report(folder: Path) -> None:
    from rich.console import Console

    from srtoolbox.comparison.report import write_report
    from srtoolbox.comparison.table import to_terminal

    title, table = write_report(folder)
    Console().print(to_terminal(table, title))
    print(f"table.md, table.csv, comparison.png and curves.png are in {folder}")


def _bench(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.bench.archs import BenchOptions, measure_archs
    from srtoolbox.bench.report import to_terminal, write_results
    from srtoolbox.engine.precision import pick_device
    from srtoolbox.engine.run import load_options

    one = arguments
    opt, _ = load_options(one.options, one.overrides, BenchOptions)
    device = pick_device(one.device)
    settings = [part for override in one.overrides for part in ("--set", override)]
    settings += ["--device", one.device] if one.device != "auto" else []
    command = shlex.join(["srtoolbox", "bench", str(one.options), *settings])
    results = measure_archs(opt, device)
    Console().print(to_terminal(results, opt, device))
    print(f"written to {write_results(results, opt, device, command)}, and .json beside it")


def _list(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.catalogue import list_components

    _load(arguments.plugin)
    Console().print(list_components(_PLURALS[arguments.kind]))


def _show(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.catalogue import show_component

    _load(arguments.plugin)
    for part in show_component(arguments.kind, arguments.name):
        Console().print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def _load(plugins: list[str]) -> None:
    from srtoolbox.plugins import load_entry_points, load_plugins

    load_entry_points()
    load_plugins(plugins)


def _schema(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.plan import StudyOptions
    from srtoolbox.engine.run import RunOptions
    from srtoolbox.schema_json import json_schema

    section = StudyOptions if arguments.of == "study" else RunOptions
    print(json.dumps(json_schema(section), indent=1))


if __name__ == "__main__":
    sys.exit(main())
