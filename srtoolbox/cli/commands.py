"""What each command of the command line does: options in, one call, a few printed lines."""

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

from srtoolbox.errors import RunError, UserError

KINDS = {
    "archs": "arch",
    "datasets": "dataset",
    "losses": "loss",
    "metrics": "metric",
    "models": "model",
}


def compare(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.comparison.study.run import run_study
    from srtoolbox.config.load import load_options
    from srtoolbox.engine.device.distributed import refuse
    from srtoolbox.engine.device.precision import pick_device

    refuse("compare")
    opt, tree = load_options(arguments.options, arguments.overrides, StudyOptions)
    device = pick_device(arguments.device)
    if arguments.dry_run:
        from rich.console import Console

        from srtoolbox.comparison.study.dry_run import estimate, to_terminal

        tasks = estimate(tree, device, arguments.only)
        Console().print(to_terminal(tasks, f"{opt.name}: what is done and left"))
        return
    store = run_study(opt, tree, device, arguments.only)
    _print_report(store.folder)
    failed = [entry for entry in store.load_card().entries if entry.failure]
    if failed:
        names = ", ".join(f"{entry.method} (seed {entry.seed})" for entry in failed)
        raise RunError(f"failed: {names}; the reasons stand under the table")


def merge(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.study.merge import merge_studies

    _print_report(merge_studies(arguments.parts, arguments.into).folder)


def train_run(arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        doctor(arguments)
        return
    from srtoolbox.config.load import load_options
    from srtoolbox.engine.device.distributed import join
    from srtoolbox.engine.options import RunOptions
    from srtoolbox.engine.training.train import train

    opt, _ = load_options(arguments.options, arguments.overrides, RunOptions)
    with join(arguments.device) as (ranks, device):
        result = train(opt, device, resume=arguments.resume, ranks=ranks)
    if ranks.is_main:
        weights = opt.folder / "weights" / "net_g_latest.pth"
        took = f"{result.step} steps in {result.seconds:.1f} s"
        print(f"trained {took}: {weights} ({result.weights})")


def test_run(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.evaluation.test import load_test_options, test

    key = [f"path.param_key_g={json.dumps(arguments.key)}"] if arguments.key else []
    opt = load_test_options(
        arguments.options, [*arguments.overrides, *key], arguments.weights, arguments.data
    )
    scores, protocol, folder = test(opt, pick_device(arguments.device), arguments.weights)
    table = Table(title=f"{opt.name} (x{opt.scale})")
    table.add_column("dataset")
    metrics = dict.fromkeys(metric for means in scores.values() for metric in means)
    for metric in metrics:
        table.add_column(metric.upper(), justify="right")
    for dataset, means in scores.items():
        values = (means.get(metric) for metric in metrics)
        cells = ("–" if value is None else f"{value:.4f}" for value in values)
        table.add_row(dataset, *cells)
    Console().print(table)
    print(protocol)
    print(f"per-image scores: {folder / 'results.jsonl'}")


def metrics(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.evaluation.folders import read_limit, score_folders

    one = arguments
    _load(one.plugin)
    limits = [read_limit(text, below=True) for text in one.fail_below]
    limits += [read_limit(text, below=False) for text in one.fail_above]
    scores = score_folders(
        one.sr,
        one.gt,
        protocol=one.protocol,
        metrics=one.metrics,
        scale=one.scale,
        template=one.template,
        subset=one.subset,
        limits=limits,
        device=pick_device(one.device),
    )
    Console().print(scores.table(), crop=False)
    if one.csv:
        scores.write_csv(one.csv)
    if one.json:
        scores.write_json(one.json)
    scores.require(limits)


def convert_weights(arguments: argparse.Namespace) -> None:
    from srtoolbox.engine.weights.convert import convert

    _load(arguments.plugin)
    one = arguments
    print(convert(one.source, one.target, one.arch, one.overrides, one.key))


def report(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.report.write import FORMATS, parse_regions

    one = arguments
    formats = one.to.split(",") if one.to else FORMATS
    _print_report(
        one.folder, formats=formats, baseline=one.baseline, regions=parse_regions(one.region)
    )


def _print_report(folder: Path, **choices: Any) -> None:
    from rich.console import Console

    from srtoolbox.comparison.report.table import to_terminal
    from srtoolbox.comparison.report.write import write_report

    title, table, written = write_report(folder, **choices)
    Console().print(to_terminal(table, title))
    names = [path.name for path in written if path.parent == folder]
    if len(names) < len(written):
        names.append("figures/")
    print(f"{', '.join(names)}: in {folder}")


def bench(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.bench.run import run_bench
    from srtoolbox.engine.device.precision import pick_device

    one = arguments
    settings = [part for override in one.overrides for part in ("--set", override)]
    settings += ["--device", one.device] if one.device != "auto" else []
    command = shlex.join(["srtoolbox", "bench", str(one.options), *settings])
    shown, path = run_bench(one.options, one.overrides, pick_device(one.device), command)
    Console().print(shown)
    print(f"written to {path}, and .json beside it")


def prepare(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    one = arguments
    if one.list:
        from srtoolbox.cli.info import layouts_table

        Console().print(layouts_table())
        return
    if one.name is None or one.source is None:
        raise UserError(
            "prepare needs the name of a layout and --source DIR; --list shows the layouts"
        )
    from srtoolbox.config.files import dump, shown_path
    from srtoolbox.data.prepare.dataset import prepare

    done = prepare(
        one.name,
        one.source,
        out=one.out,
        scale=one.scale,
        splits=one.split,
        make_lr=one.make_lr,
        cache=None if one.no_cache else one.cache,
    )
    Console().print(done.table())
    for note in done.notes:
        print(f"note: {note}")
    if done.options()["datasets"]:
        file = done.option_file()
        base = f" (_base_: {shown_path(file)} has more)" if file else ""
        print(f"\nin an option file{base}:\n")
        print(textwrap.indent(dump(done.options()), "  "), end="")


def sample(arguments: argparse.Namespace) -> None:
    from srtoolbox.cli.preview import open_stream
    from srtoolbox.data.prepare.preview import draw_batch

    one = arguments
    stream = open_stream(one.name, one.overrides, one.source)
    picture = draw_batch(stream, one.step, one.name)
    one.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(one.out)
    print(f"{one.out}: {picture.width}×{picture.height}, {stream.batch_size} samples")


def doctor(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.comparison.study.plan import plan
    from srtoolbox.config.files import read
    from srtoolbox.config.load import check_options
    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.engine.doctor.diagnose import diagnose
    from srtoolbox.engine.doctor.report import to_terminal
    from srtoolbox.engine.options import RunOptions

    tree = read(arguments.options, arguments.overrides)
    if "methods" in tree:
        study = check_options(tree, StudyOptions)
        runs = {job.method: job.opt for job in plan(study, tree)[: len(study.methods)]}
        repeats = len(study.seeds)
        title = (
            f"{study.name}: {len(runs)} methods, {repeats} {'seed' if repeats == 1 else 'seeds'}"
        )
    else:
        opt = check_options(tree, RunOptions)
        runs, title, repeats = {opt.name: opt}, opt.name, 1
    found = diagnose(runs, pick_device(arguments.device), repeats)
    Console().print(to_terminal(found, title))
    found.raise_faults()
    print("all parts are in order")


def list_kind(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.cli.info import list_components

    _load(arguments.plugin)
    Console().print(list_components(KINDS[arguments.kind]))


def show(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from srtoolbox.cli.info import show_component

    _load(arguments.plugin)
    for part in show_component(arguments.kind, arguments.name):
        Console().print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def _load(plugins: list[str]) -> None:
    from srtoolbox.plugins import load_entry_points, load_plugins

    load_entry_points()
    load_plugins(plugins)


def schema(arguments: argparse.Namespace) -> None:
    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.config.json_schema import json_schema
    from srtoolbox.engine.options import RunOptions

    section = StudyOptions if arguments.of == "study" else RunOptions
    print(json.dumps(json_schema(section), indent=1))
