"""What `srtoolbox bench` prints and writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.archs import REFERENCE, BenchOptions, Measurement, speedup
from srtoolbox.engine.environment import describe_environment
from srtoolbox.engine.files import write_atomic
from srtoolbox.options import plain

_HEAD = (
    "arch",
    "mode",
    "test ms",
    "×",
    "train ms",
    "×",
    "test MiB",
    "train MiB",
    "rel. Δ",
)


def to_terminal(results: list[Measurement], opt: BenchOptions, device: torch.device) -> Group:
    """The table and its notes for ``rich``."""
    table = Table(
        title=opt.name,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    rows = _rows(results)
    for index, title in enumerate(_HEAD):
        # Heads may be broken between words, cells never.
        width = max(map(len, [*title.split(), *(row[index] for row in rows)]))
        if index < 2:
            table.add_column(title, no_wrap=True)
        else:
            table.add_column(title, justify="right", min_width=width)
    for row in rows:
        table.add_row(*row, end_section=row[1] == opt.modes[-1])
    notes = [Padding(Text(note, style="dim"), (0, 0, 0, 1)) for note in _notes(opt, device)]
    return Group(table, *notes)


def to_markdown(
    results: list[Measurement], opt: BenchOptions, device: torch.device, command: str
) -> str:
    """The same in Markdown."""
    lines = [_HEAD, ["---"] * 2 + ["---:"] * (len(_HEAD) - 2), *_rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {note}" for note in [*_notes(opt, device), f"Command: `{command}`"])
    return f"# {opt.name}\n\n{table}\n\n{notes}\n"


def write_results(
    results: list[Measurement], opt: BenchOptions, device: torch.device, command: str
) -> Path:
    """Writes ``bench/<name>.md`` and ``.json`` (with the times of every round).

    Returns:
        The path of the Markdown file.
    """
    path = opt.experiments_root / "bench" / f"{opt.name}.md"
    record = {
        "command": command,
        "options": plain(opt),
        "environment": {**describe_environment(device), "threads": _thread_count(opt)},
        "results": [
            {**asdict(one), "forward_ratio": forward, "training_ratio": training}
            for one, forward, training in _ratios(results)
        ],
    }
    write_atomic(path.with_suffix(".json"), json.dumps(record, indent=1, default=str) + "\n")
    write_atomic(path, to_markdown(results, opt, device, command))
    return path


def _rows(results: list[Measurement]) -> list[list[str]]:
    rows = []
    for one, forward, training in _ratios(results):
        rows.append(
            [
                one.arch,
                one.mode,
                f"{median(one.forward) * 1e3:.0f}",
                f"{forward:.2f}",
                f"{median(one.training) * 1e3:.0f}",
                f"{training:.2f}",
                f"{one.forward_memory:.0f}",
                f"{one.training_memory:.0f}",
                f"{one.deviation:.1g}",
            ]
        )
    return rows


def _ratios(results: list[Measurement]) -> list[tuple[Measurement, float, float]]:
    """Each measurement with how many times faster its forward pass and training step are."""
    references = {one.arch: one for one in results if one.mode == REFERENCE}
    return [
        (one, speedup(base.forward, one.forward), speedup(base.training, one.training))
        for one in results
        for base in [references[one.arch]]
    ]


def _notes(opt: BenchOptions, device: torch.device) -> list[str]:
    facts = describe_environment(device)
    with reference_path() as with_torchvision:
        operator = (
            "torchvision's deformable convolution"
            if with_torchvision
            else "the pure deformable convolution (torchvision is missing or cannot be used)"
        )
    size = "×".join(map(str, opt.input))
    return [
        f"Input {size} (clips × frames × channels × height × width; single-image networks take "
        f"the first frames) on {facts['device']}, {_thread_count(opt)} thread(s), torch "
        f"{torch.__version__}.",
        f"Reference: fp32, contiguous, frame-by-frame alignment, {operator}.",
        "test: a forward pass without gradients; train: forward and backward pass with an L1 loss.",
        f"Times are medians of {opt.rounds} rounds; × is how many times faster than the reference: "
        "the median of the ratios within a round, in which each mode is timed once.",
        "MiB are peak tensor memory beyond weights and input; on a CPU without what an operator "
        "needs only inside itself, which is much for torchvision's.",
        "rel. Δ is the norm of the SR images' difference from the reference's, relative to it, "
        "with freshly initialised weights.",
    ]


def _thread_count(opt: BenchOptions) -> int:
    return opt.threads or torch.get_num_threads()
