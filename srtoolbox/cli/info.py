"""What is registered, for people: the tables of `srtoolbox list` and `srtoolbox show`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table

from srtoolbox.config.components import describe, parameters_of
from srtoolbox.config.json_schema import parameter_docs
from srtoolbox.registry import REGISTRIES

if TYPE_CHECKING:
    from srtoolbox.data.layouts import Layout


def list_components(kind: str) -> Table:
    """All components of a kind, one line each."""
    known = REGISTRIES[kind]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, no_wrap=True)
    if kind == "arch":
        for title in ("input", "scales", "parameters"):
            table.add_column(title, justify="right" if title == "parameters" else "left")
    table.add_column("paper" if kind in ("arch", "metric") else "what it is")
    for name in known.names():
        component = known.get(name)
        cells = [name]
        if kind == "arch":
            scales = ", ".join(f"x{scale}" for scale in component.scales)
            cells += [_frames(component), scales, _parameter_count(component)]
        cells.append(getattr(component, "paper", None) or _first_line(component))
        table.add_row(*cells)
    return table


def show_component(kind: str, name: str) -> Iterator[Any]:
    """The description of one component and a table of its options."""
    component = REGISTRIES[kind].get(name)
    yield f"{name}: {_without_arguments(inspect.getdoc(component) or '')}"
    if kind == "arch":
        scales = ", ".join(f"x{scale}" for scale in component.scales)
        yield f"paper: {component.paper}\ninput: {_frames(component)}; scales: {scales}"
    docs = parameter_docs(component)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("option", no_wrap=True)
    table.add_column("takes")
    table.add_column("default")
    table.add_column("meaning")
    for option, parameter in parameters_of(component).items():
        default = "(required)" if parameter.required else repr(parameter.default)
        table.add_row(option, describe(parameter.hint), default, docs.get(option, ""))
    if table.rows:
        yield table


def layouts_table() -> Group:
    """All datasets whose files are found by name: their facts, then where they come from."""
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
        frames = {found.num_frame for split in layout.splits.values() for found in split}
        facts.add_row(
            name,
            layout.kind,
            ", ".join(f"{part} {count or ''}".strip() for part, count in split_sizes(layout)),
            scales,
            "1"
            if layout.kind == "image"
            else ", ".join(map(str, sorted(frames - {None}))) or "any",
            "×".join(map(str, reversed(layout.gt_size))) if layout.gt_size else "any",
        )
        if layout.licence:
            origins.add_row(name, f"{layout.source}\nlicence: {layout.licence}")
    return Group(facts, origins)


def split_sizes(layout: Layout) -> Iterator[tuple[str, int | None]]:
    """The splits of a layout and how many items each has when complete, if that is known."""
    for part, split in layout.splits.items():
        yield part, next((found.num_item for found in split if found.num_item), None)


def _frames(component: type) -> str:
    count = component.num_frame
    if count == 1:
        return "image"
    return "frames" if count is None else f"{count} frames"


def _parameter_count(component: type) -> str:
    """Parameters of the default configuration; built without memory for the weights."""
    import torch

    with torch.device("meta"):
        net = component()
    return f"{sum(parameter.numel() for parameter in net.parameters()):,}"


def _first_line(component: type) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _without_arguments(text: str) -> str:
    """A docstring without its Args section, which the table of options says better."""
    head, _, tail = text.partition("\nArgs:\n")
    rest = tail.split("\n\n", 1)[1] if "\n\n" in tail else ""
    return head.rstrip() + ("\n\n" + rest if rest else "") + "\n"
