"""Makes the tables of known datasets in datasets.md; ``docs/reference.py`` writes the page."""

from __future__ import annotations

from pathlib import Path

from srtoolbox.cli.info import split_sizes
from srtoolbox.data.layouts import LAYOUTS, Layout, Split

PAGE = Path(__file__).with_name("datasets.md")
BEGIN, END = "<!-- layouts: begin (made by docs/list_datasets.py) -->", "<!-- layouts: end -->"


def tables() -> str:
    """The table of all layouts and a section for each, as Markdown."""
    lines = [
        "| layout | kind | splits | scales | HR size | licence |",
        "|---|---|---|---|---|---|",
    ]
    for name, layout in LAYOUTS.items():
        splits = ", ".join(
            f"{part} {count:,}" if count else part for part, count in split_sizes(layout)
        )
        scales = ", ".join(f"x{scale}" for scale in layout.scales) or "any"
        size = _size(layout.gt_size) or "any"
        lines.append(
            f"| `{name}` | {layout.kind} | {splits} | {scales} | {size} | {layout.licence or '–'} |"
        )
    return "\n".join([*lines, *(_section(layout) for layout in LAYOUTS.values())])


def _section(layout: Layout) -> str:
    lines = [f"\n### `{layout.name}`: {layout.title}\n"]
    facts = {
        "Paper": layout.paper,
        "Where": layout.source,
        "LR": layout.degradation,
        "Pixels": _pixels(layout),
        "Note": layout.note,
    }
    lines += [f"- {title}: {text}" for title, text in facts.items() if text]
    for part, split in layout.splits.items():
        lines += [f"\n{part}:\n", "| HR | LR |", "|---|---|"]
        lines += dict.fromkeys(f"| {_place(found, found.gt)} | {_lq(found)} |" for found in split)
    return "\n".join(lines)


def _pixels(layout: Layout) -> str:
    facts = [f"{layout.bit_depth} bits", "packed RAW (RGGB)" if layout.raw else ""]
    if layout.white_level:
        facts.append(f"LR white level {layout.white_level}, black level {layout.black_level}")
    if layout.gt_white_level:
        facts.append(f"HR white level {layout.gt_white_level}")
    sizes = [
        f"{side} {_size(size)}"
        for side, size in (("HR", layout.gt_size), ("LR", layout.lq_size))
        if size
    ]
    return ", ".join(filter(None, [*facts, *sizes]))


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[1]}×{size[0]}" if size else ""


def _place(found: Split, template: str | None) -> str:
    if template is None:
        return "none"
    which = f", listed in `{found.listing}`" if found.listing else ""
    if found.only or found.without:
        which += f", {'only' if found.only else 'without'} {_names(found.only or found.without)}"
    return f"`{template}`{which}"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 6 else (*names[:5], "…", names[-1]))


def _lq(found: Split) -> str:
    return "made here" if found.lq is None else f"`{found.lq}`"


def updated() -> str:
    """Returns the page with current tables between its two marks."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{tables()}\n{END}{tail}"
