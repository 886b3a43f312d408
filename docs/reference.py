"""Writes the generated pages: options.md, api.md and the tables in datasets.md.

python docs/reference.py            # after a change of an option, a docstring or a layout
python docs/reference.py --check    # exit code 1 if a page is not current
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

from list_datasets import PAGE as DATASETS_PAGE
from list_datasets import updated as updated_datasets

from srtoolbox.bench.archs import ArchsOptions
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config.components import Component, describe, is_section, parameters_of
from srtoolbox.config.json_schema import parameter_docs
from srtoolbox.engine.options import RunOptions
from srtoolbox.registry import REGISTRIES

DOCS = Path(__file__).parent

API = [
    "srtoolbox",
    "srtoolbox.registry",
    "srtoolbox.errors",
    "srtoolbox.config.load",
    "srtoolbox.archs.base",
    "srtoolbox.data.base",
    "srtoolbox.data.stream",
    "srtoolbox.losses.base",
    "srtoolbox.metrics.base",
    "srtoolbox.metrics.protocol",
    "srtoolbox.models.frames",
    "srtoolbox.models.sr_model",
    "srtoolbox.inference.prediction",
    "srtoolbox.engine.build",
    "srtoolbox.engine.training.train",
    "srtoolbox.engine.training.trackers.base",
    "srtoolbox.engine.evaluation.evaluator",
    "srtoolbox.engine.evaluation.test",
    "srtoolbox.engine.evaluation.frame_use",
    "srtoolbox.engine.evaluation.records",
    "srtoolbox.engine.weights.load",
    "srtoolbox.engine.profiling",
    "srtoolbox.comparison.study.run",
    "srtoolbox.comparison.store",
    "srtoolbox.comparison.analysis.statistics",
    "srtoolbox.comparison.report.write",
]


# --- options.md -----------------------------------------------------------------------------------


def options_page() -> str:
    """Returns the page of all options: type, default, meaning."""
    lines = [
        "# All options",
        "",
        "This page is generated from the code. An option file is YAML; a table is a mapping, and a",
        "dotted name is a key in a nested mapping. `srtoolbox options schema` writes the same as a",
        "JSON Schema for editors; `--of study` and `--of bench` select the kind of file.",
        "",
        "Every file may also have `_base_: FILE` (or a list) in any mapping, and `key: !delete` to",
        "remove an inherited key.",
    ]
    runs = [
        ("A run: `srtoolbox train`, `srtoolbox test`", RunOptions),
        ("A study: `srtoolbox compare`", StudyOptions),
        ("A benchmark: `srtoolbox bench`", ArchsOptions),
    ]
    seen: set[type] = set()
    for title, options in runs:
        lines += ["", f"## {title}"]
        for name, section in _sections(options, ""):
            if section in seen:
                continue
            seen.add(section)
            heading = f"`{name}`" if name else f"Top level ({section.__name__})"
            lines += ["", f"### {heading}", "", *_text(inspect.getdoc(section) or ""), ""]
            lines += _table(_fields(section))
    for kind, registry in REGISTRIES.items():
        if kind in ("model", "flow"):
            continue
        lines += ["", f"## Components: {kind}", ""]
        if kind in ("optimizer", "scheduler"):
            module = "torch.optim" if kind == "optimizer" else "torch.optim.lr_scheduler"
            lines += [f"Every class of `{module}` by its name, with its own parameters."]
        own = [n for n in registry.names() if not registry.get(n).__module__.startswith("torch.")]
        if own and lines[-1]:
            lines.append("")
        for name in own:
            component = registry.get(name)
            docs = parameter_docs(component)
            rows = [
                (
                    option,
                    describe(parameter.hint),
                    "required" if parameter.required else _value(parameter.default),
                    docs.get(option, ""),
                )
                for option, parameter in parameters_of(component).items()
                if option not in registry.injected
            ]
            summary = (inspect.getdoc(component) or "").partition("\n")[0]
            lines += [f"### {kind} `{name}`", "", summary, ""]
            lines += [*_table(rows), ""] if rows else []
    return "\n".join(lines).rstrip() + "\n"


def _sections(section: type, name: str) -> Iterator[tuple[str, type]]:
    """Yields a class of options and those nested in it, with their dotted names."""
    yield name, section
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        for nested in _nested(hints[field.name]):
            yield from _sections(nested, f"{name}.{field.name}" if name else field.name)


def _nested(hint: Any) -> list[type]:
    if is_section(hint):
        return [hint]
    return [nested for argument in typing.get_args(hint) for nested in _nested(argument)]


def _fields(section: type) -> list[tuple[str, str, str, str]]:
    hints = typing.get_type_hints(section, include_extras=True)
    rows = []
    for field in dataclasses.fields(section):
        if field.default is not MISSING:
            default = _value(field.default)
        elif field.default_factory is not MISSING:
            made = field.default_factory()
            default = "see below" if dataclasses.is_dataclass(made) else _value(made)
        else:
            default = "required"
        limits = [
            f"{sign} {field.metadata[key]}"
            for key, sign in (("exclusive_min", ">"), ("min", "≥"), ("max", "≤"))
            if key in field.metadata
        ]
        takes = ", ".join([_takes(hints[field.name]), *limits])
        rows.append((field.name, takes, default, field.metadata.get("doc", "")))
    return rows


def _takes(hint: Any) -> str:
    kinds = list(_kinds(hint))
    if not kinds:
        return describe(hint)
    optional = type(None) in typing.get_args(hint)
    many = (typing.get_origin(hint) is dict and "name → ") or ""
    return f"{many}{{type: {kinds[0]}, …}}" + (" or null" if optional else "")


def _kinds(hint: Any) -> Iterator[str]:
    """Yields the kinds of components in a hint."""
    if typing.get_origin(hint) is Annotated:
        for note in typing.get_args(hint)[1:]:
            if isinstance(note, Component):
                yield note.kind
    for argument in typing.get_args(hint):
        yield from _kinds(argument)


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | Path) else repr(value)


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    lines = ["| option | takes | default | meaning |", "|---|---|---|---|"]
    for name, takes, default, meaning in rows:
        cells = (f"`{name}`", takes, f"`{default}`" if default else "", meaning)
        lines.append(
            "| " + " | ".join(re.sub(r"\s+", " ", c).replace("|", "\\|") for c in cells) + " |"
        )
    return lines


# --- api.md ---------------------------------------------------------------------------------------


def api_page() -> str:
    """Returns the page of the Python API, from signatures and docstrings."""
    lines = [
        "# Python API",
        "",
        "This page is generated from signatures and docstrings. What it lists is public. Other",
        "modules, and names that begin with an underscore, may change at any time.",
    ]
    for name in API:
        module = importlib.import_module(name)
        lines += ["", f"## `{name}`", "", *_text(inspect.getdoc(module) or "")]
        for member in _public(module):
            lines += ["", *_entry(member, 3)]
    return "\n".join(lines).rstrip() + "\n"


def _public(module: Any) -> list[Any]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    ]
    members = [getattr(module, name) for name in names if not name.startswith("_")]
    members = [
        member for member in members if inspect.isclass(member) or inspect.isfunction(member)
    ]
    return sorted(members, key=lambda member: (member.__module__, _line(member)))


def _line(member: Any) -> int:
    try:
        return inspect.getsourcelines(member)[1]
    except (OSError, TypeError):
        return 0


def _entry(member: Any, level: int, owner: str = "") -> list[str]:
    name = f"{owner}{member.__name__}"
    kind = "class " if inspect.isclass(member) else ""
    lines = [
        f"{'#' * level} `{kind}{name}`",
        "",
        "```python",
        f"{kind}{name}{_signature(member)}",
        "```",
        "",
    ]
    lines += _text(inspect.getdoc(member) or "")
    if inspect.isclass(member):
        for method in vars(member).values():
            if (
                inspect.isfunction(method)
                and not method.__name__.startswith("_")
                and method.__doc__
            ):
                lines += ["", *_entry(method, level + 1, f"{member.__name__}.")]
    return lines


def _signature(member: Any) -> str:
    try:
        text = str(inspect.signature(member))
    except (TypeError, ValueError):
        return ""
    text = re.sub(r"'([^']*)'", r"\1", text).replace("collections.abc.", "").replace("typing.", "")
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _text(docstring: str) -> list[str]:
    """Turns a docstring into Markdown: its sections become bold words and lists."""
    lines: list[str] = []
    inside = False
    for line in docstring.replace("``", "`").splitlines():
        if match := re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", line):
            lines += ["", f"**{match[1]}**", ""]
            inside = True
        elif inside and (match := re.match(r" {4}(\*{0,2}[\w., ]+): (.*)", line)):
            lines.append(f"- `{match[1]}`: {match[2]}")
        elif inside and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        elif inside and line.startswith("    "):
            lines.append(line.strip())
        else:
            inside = inside and not line.strip()
            lines.append(line)
    return lines


# --- all pages ------------------------------------------------------------------------------------


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if not current")
    check = parser.parse_args().check
    pages = {
        DOCS / "options.md": options_page(),
        DOCS / "api.md": api_page(),
        DATASETS_PAGE: updated_datasets(),
    }
    stale = [
        path
        for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if check:
            print(f"docs/{path.name} is not current; run python docs/reference.py", file=sys.stderr)
        else:
            path.write_text(pages[path], encoding="utf-8")
            print(f"docs/{path.name}: written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
