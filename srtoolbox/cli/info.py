"""Commands that show what exists: list, show, options."""

from __future__ import annotations

import inspect
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_plugins,
    check_output,
    load_all_plugins,
    writing,
)
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import print_rich

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from srtoolbox.archs.base import ArchInfo
    from srtoolbox.data.layouts import Layout

KINDS = {
    "archs": "arch",
    "datasets": "dataset",
    "degradations": "degradation",
    "discriminators": "discriminator",
    "flows": "flow",
    "loggers": "logger",
    "losses": "loss",
    "metrics": "metric",
    "models": "model",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
}
"""Registries by the plurals that ``list`` takes."""

_OTHER_LISTS = ("layouts", "protocols")
_WEIGHTS = "weights"  # what `show` takes beside the kinds of components


def add_list(commands: Commands) -> None:
    command = add_command(commands, "list", list_kind, "list the registered components of a kind")
    command.add_argument(
        "kind",
        type=_plural,
        choices=[*KINDS, *_OTHER_LISTS],
        metavar="KIND",
        help=f"{', '.join([*KINDS, *_OTHER_LISTS])}",
    )
    add_plugins(command)


def _plural(text: str) -> str:
    """Accepts the singular and the plural of a kind for ``list``."""
    known = {kind: plural for plural, kind in KINDS.items()}
    return {**known, "protocol": "protocols", "layout": "layouts"}.get(text, text)


def _singular(text: str) -> str:
    """Accepts the singular and the plural of a kind for ``show``."""
    return KINDS.get(text, text)


def list_kind(arguments: Namespace) -> None:
    load_all_plugins(arguments.plugin)
    if arguments.kind == "protocols":
        from srtoolbox.metrics import PROTOCOLS

        for protocol in PROTOCOLS.values():
            print(f"{protocol.name}\n  {protocol.describe()}")
    elif arguments.kind == "layouts":
        print_rich(layouts_table())
    else:
        print_rich(list_components(KINDS[arguments.kind]))


def add_show(commands: Commands) -> None:
    command = add_command(
        commands, "show", show, "show one component and its options, or the network of a file"
    )
    command.add_argument(
        "kind",
        type=_singular,
        choices=[*KINDS.values(), _WEIGHTS],
        metavar="KIND",
        help=", ".join([*KINDS.values(), _WEIGHTS]),
    )
    command.add_argument("name", metavar="NAME", help=f"a name, or the file of {_WEIGHTS}")
    add_plugins(command)


def show(arguments: Namespace) -> None:
    load_all_plugins(arguments.plugin)
    if arguments.kind == _WEIGHTS:
        from srtoolbox.engine.weights.describe import describe_weights
        from srtoolbox.utils.files import user_path

        print("\n".join(describe_weights(user_path(arguments.name))))
        return
    for part in show_component(arguments.kind, arguments.name):
        print_rich(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def add_options(commands: Commands) -> None:
    command = commands.add_parser(
        "options",
        help="list, copy or import option files, or write their JSON Schema",
        description="List, copy or import option files, or write their JSON Schema.",
    )
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_command(actions, "list", list_options, "list the shipped option files")
    copy = add_command(
        actions, "copy", copy_options, "copy a shipped option file, with all that it inherits"
    )
    copy.add_argument("name", metavar="NAME", help="name of a shipped file, e.g. quickstart")
    copy.add_argument("target", nargs="?", type=Path, help="file or folder (default ./NAME.yml)")
    importing = add_command(
        actions, "import", import_options, "translate an option file of BasicSR"
    )
    importing.add_argument("file", metavar="FILE", type=Path, help="option file of BasicSR (YAML)")
    importing.add_argument(
        "-o", "--output", type=Path, metavar="OPTIONS", help="new file (default: print it)"
    )
    add_plugins(importing)
    schema = add_command(
        actions, "schema", write_schema, "write the JSON Schema of option files, for editors"
    )
    schema.add_argument(
        "--of", choices=["run", "study", "bench"], default="run", help="kind of file (default run)"
    )


def list_options(arguments: Namespace) -> None:
    from srtoolbox.config.shipped import description_of, kind_of, shipped_files

    files = {name: path for name, path in shipped_files().items() if kind_of(name)}
    width = max(map(len, files))
    for kind in ("study", "run", "test", "bench"):
        print(f"{kind}:")
        for name, path in files.items():
            if kind_of(name) == kind:
                print(f"  {name:{width}}  {description_of(path)}")
    print("`srtoolbox options copy NAME` writes one of them to a file that you can edit.")


def copy_options(arguments: Namespace) -> None:
    from srtoolbox.config.files import dump, read
    from srtoolbox.config.shipped import (
        explain_miss,
        find_shipped,
        kind_of,
        leading_comment,
        shipped_files,
    )
    from srtoolbox.utils.files import write_atomic

    name = find_shipped(arguments.name)
    if name is None:
        raise UserError(explain_miss(arguments.name))
    stem = name.rpartition("/")[2]
    target = arguments.target or Path(f"{stem}.yml")
    with writing("FILE", target):  # even asking about a name that is too long fails
        target = target / f"{stem}.yml" if target.is_dir() else target
    check_output("FILE", target)
    if target.exists():
        raise UserError(f"{target} exists already; give another file: options copy {name} FILE")
    path = shipped_files()[name]
    content = dump(read(path))
    head = [f"Copy of the shipped option file {name}, with all that it inherits."]
    text = "".join(f"# {line}".rstrip() + "\n" for line in [*head, *leading_comment(path)])
    with writing("FILE", target):
        write_atomic(target, text + content)
    if dump(read(target)) != content:
        target.unlink()
        raise RunError(f"{target}: the copy differs from {path}; please report this")
    commands = {"run": "train", "test": "test", "study": "compare", "bench": "bench"}
    kind = kind_of(name)
    use = f"run: srtoolbox {commands[kind]} {target}" if kind else f"inherit: _base_: {target}"
    print(f"{target}: copy of {name}; {use}")


def import_options(arguments: Namespace) -> None:
    """Prints or writes the translated file; names on stderr what did not come over as it was.

    Raises:
        RunError: after that, if keys could not be translated.
    """
    from srtoolbox.engine.basicsr.translate import translate
    from srtoolbox.utils.files import write_atomic

    target: Path | None = arguments.output
    if target is not None and (target.exists() or target.is_symlink()):
        raise UserError(f"{target} exists already; give another file with -o")
    load_all_plugins(arguments.plugin)
    plugins = [
        str(Path(entry).expanduser().absolute()) if entry.endswith(".py") or "/" in entry else entry
        for entry in arguments.plugin
    ]
    translation = translate(arguments.file, plugins)
    for note in translation.notes:
        if note.kind != "unneeded":
            print(note, file=sys.stderr)
    if target is None:
        print(translation.text, end="")
    else:
        write_atomic(target, translation.text)
        print(f"{target}: translated; run: srtoolbox {translation.command} {target}")
    if lost := [note.key for note in translation.notes if note.kind == "lost"]:
        keys = "1 key" if len(lost) == 1 else f"{len(lost)} keys"
        raise RunError(
            f"{arguments.file}: {keys} could not be translated: {', '.join(lost)}; the comment at "
            "the top of the new file has the reasons"
        )


def write_schema(arguments: Namespace) -> None:
    from srtoolbox.bench.archs import ArchsOptions
    from srtoolbox.comparison.options import StudyOptions
    from srtoolbox.config.json_schema import json_schema
    from srtoolbox.engine.options import RunOptions

    kinds = {"run": RunOptions, "study": StudyOptions, "bench": ArchsOptions}
    print(json.dumps(json_schema(kinds[arguments.of]), indent=1))


def list_components(kind: str) -> Table:
    """Returns a table of all components of a kind."""
    from rich import box
    from rich.table import Table

    from srtoolbox.registry import REGISTRIES

    known = REGISTRIES[kind]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, no_wrap=True)
    if kind == "arch":
        for title in ("input", "scales", "parameters"):
            table.add_column(title, justify="right" if title == "parameters" else "left")
    table.add_column("paper" if kind in ("arch", "metric") else "description")
    for name in known.names():
        component = known.get(name)
        cells = [name]
        if kind == "arch":
            scales = ", ".join(f"x{scale}" for scale in _arch_info(component).scales)
            cells += [_frames(component), scales, _parameter_count(component)]
        cells.append(getattr(component, "paper", None) or _first_line(component))
        table.add_row(*cells)
    return table


def show_component(kind: str, name: str) -> Iterator[Any]:
    """Yields the description of a component and a table of its options."""
    from rich import box
    from rich.table import Table

    from srtoolbox.config.components import describe, parameters_of
    from srtoolbox.config.json_schema import parameter_docs
    from srtoolbox.registry import REGISTRIES

    known = REGISTRIES[kind]
    component = known.get(name)
    yield f"{name}: {_without_arguments(inspect.getdoc(component) or '')}"
    if kind == "arch":
        info = _arch_info(component)
        scales = ", ".join(f"x{scale}" for scale in info.scales)
        yield f"paper: {info.paper}\ninput: {_frames(component)}; scales: {scales}"
    docs = parameter_docs(component)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("option", no_wrap=True)
    table.add_column("takes")
    table.add_column("default")
    table.add_column("meaning")
    for option, parameter in parameters_of(component).items():
        if option not in known.injected:
            default = "(required)" if parameter.required else repr(parameter.default)
            table.add_row(option, describe(parameter.hint), default, docs.get(option, ""))
    if table.rows:
        yield table


def layouts_table() -> Group:
    """Returns a table of all layouts, and below it their sources and licences."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from srtoolbox.data.layouts import LAYOUTS

    facts = Table(box=box.SIMPLE_HEAD)
    facts.add_column("layout", no_wrap=True)
    for title in ("kind", "splits", "scales", "frames", "HR size"):
        facts.add_column(title)
    origins = Table(box=None, show_header=False, pad_edge=False)
    origins.add_column(no_wrap=True)
    origins.add_column(overflow="fold")
    for name, layout in LAYOUTS.items():
        scales = ", ".join(f"x{scale}" for scale in layout.scales) or "any"
        splits = (f"{part} {count or ''}".strip() for part, count in split_sizes(layout))
        folders = [found for split in layout.splits.values() for found in split]
        counts = sorted({found.num_frame for found in folders if found.num_frame is not None})
        frames = "1" if layout.kind == "image" else ", ".join(map(str, counts)) or "any"
        size = "×".join(map(str, reversed(layout.gt_size))) if layout.gt_size else "any"
        facts.add_row(name, layout.kind, ", ".join(splits), scales, frames, size)
        if layout.licence:
            origins.add_row(name, f"{layout.source}\nlicence: {layout.licence}")
    return Group(facts, origins)


def split_sizes(layout: Layout) -> Iterator[tuple[str, int | None]]:
    """Yields the splits of a layout, each with its number of items if that is known."""
    for part, split in layout.splits.items():
        yield part, next((found.num_item for found in split if found.num_item), None)


def _arch_info(component: type) -> ArchInfo:
    from srtoolbox.archs.base import arch_info  # loads torch

    return arch_info(component)


def _frames(component: type) -> str:
    count = _arch_info(component).num_frame
    if count == 1:
        return "image"
    return "frames" if count is None else f"{count} frames"


def _parameter_count(component: type) -> str:
    """Returns the number of parameters of the default configuration, built on the meta device."""
    from srtoolbox.errors import ComponentError
    from srtoolbox.utils.meta import without_memory
    from srtoolbox.utils.own_code import calling

    if _arch_info(component).weight_option is not None:  # the file decides
        return "–"
    try:
        with without_memory(), calling(component, "__init__"):
            net = component()
            count = sum(parameter.numel() for parameter in net.parameters())
    except ComponentError:  # of a plugin, for example if an option has no default
        return "–"
    return f"{count:,}"


def _first_line(component: type) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _without_arguments(text: str) -> str:
    """Returns a docstring without its Args section, which the table of options replaces."""
    head, _, tail = text.partition("\nArgs:\n")
    rest = tail.split("\n\n", 1)[1] if "\n\n" in tail else ""
    return head.rstrip() + ("\n\n" + rest if rest else "") + "\n"
