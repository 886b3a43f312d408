"""What `srtoolbox prepare` found and made, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from srtoolbox.data.datasets.source import DATASET_TYPES
from srtoolbox.data.files.find import Item, compare_counts
from srtoolbox.data.files.image_info import ImageInfo
from srtoolbox.data.layouts.base import Layout
from srtoolbox.data.prepare.examine import decoded_size
from srtoolbox.utils.console import size_text

TRAINED = ("train", "all")  # splits; the others are only scored on, once in a while

_OPTIONS = Path(__file__).parents[2] / "options" / "_base_" / "data"


@dataclass
class Part:
    """One split of a prepared dataset.

    Attributes:
        split: Its name.
        items: Its images, clips or bursts.
        made: How many LR files were written; None if that was not asked for.
        gt: Forms of the HR files.
        lq: Forms of the LR files; empty where LR is made when it is read.
        cache: Bytes of its decoded images; None if they are not kept.
    """

    split: str
    items: list[Item]
    made: int | None = None
    gt: list[ImageInfo] = field(default_factory=list)
    lq: list[ImageInfo] = field(default_factory=list)
    cache: int | None = None

    @property
    def num_frame(self) -> int:
        """Frames of all items together."""
        return sum(item.num_frame for item in self.items)

    @property
    def decoded(self) -> int:
        """Bytes of all its images when they are decoded."""
        return decoded_size([*self.gt, *self.lq])

    def notes(self, layout: Layout) -> list[str]:
        """How it differs from the published dataset."""
        notes = [f"{self.split}: {note}" for note in compare_counts(layout, self.split, self.items)]
        if not self.items[0].gt:
            notes.append(f"{self.split}: no ground truth, so neither to train nor to score on")
        for side, size, infos in (("HR", layout.gt_size, self.gt), ("LR", layout.lq_size, self.lq)):
            other = sum(info[1:3] != size for info in infos) if size is not None else 0
            if other:
                usual = f"{size[1]}×{size[0]}"
                notes.append(
                    f"{self.split}: {other} {side} files are not {usual} as {layout.title}'s"
                )
        return notes


@dataclass(frozen=True)
class Prepared:
    """What `srtoolbox prepare` found and made.

    Attributes:
        layout: How the files lie.
        root: Their folder, as option files should name it.
        root_lq: That of the LR files, if it is another.
        scale: As the layout counts: for RAW, from the sensor's pixels.
        cache: Folder of the decoded images.
        parts: Its splits.
        notes: What a user should know.
    """

    layout: Layout
    root: Path
    root_lq: Path | None
    scale: int
    cache: Path | None
    parts: list[Part]
    notes: list[str]

    def options(self) -> dict[str, Any]:
        """What an option file says to use it."""
        datasets: dict[str, Any] = {}
        for part in self.parts:
            if not all(item.gt for item in part.items):
                continue  # nothing to train on or to compare with
            spec: dict[str, Any] = {
                "type": DATASET_TYPES[self.layout.kind],
                "layout": self.layout.name,
            }
            spec["dataroot"] = str(self.root)
            spec |= {"split": part.split} if len(self.layout.splits) > 1 else {}
            spec |= {} if self.root_lq is None else {"dataroot_lq": str(self.root_lq)}
            spec |= {} if part.cache is None else {"cache": str(self.cache)}
            if part.split in TRAINED:
                datasets["train"] = spec
            else:
                datasets[part.split] = {folder_name(self.layout): spec}
        return {"scale": self.scale * (2 if self.layout.raw else 1), "datasets": datasets}

    def option_file(self) -> Path | None:
        """The shipped option file of the dataset, if there is one."""
        files = [*_OPTIONS.glob(f"*_x{self.scale}.yml"), *_OPTIONS.glob("benchmarks.yml")]
        named = re.compile(rf"\blayout: {self.layout.name}\b")
        fitting = [path for path in files if named.search(path.read_text(encoding="utf-8"))]
        # A file may also score on another dataset than the one it is about.
        own = [path for path in fitting if path.stem.startswith(f"{self.layout.name}_x")]
        others = [path for path in fitting if path.stem == "benchmarks"]
        return next(iter(own + others), None)

    def table(self) -> Table:
        """Its splits, one line each."""
        table = Table(title=f"{self.layout.title} (x{self.scale})", box=box.SIMPLE_HEAD)
        table.add_column("split")
        for title in (f"{self.layout.kind}s", "frames"):
            table.add_column(title, justify="right")
        for title in ("HR", "LR"):
            table.add_column(title)
        table.add_column("decoded", justify="right", no_wrap=True)
        for part in self.parts:
            lq = _forms(part.lq)
            if self.layout.kind != "burst" and not part.lq:
                lq = "made when read"
            elif part.made is not None:
                lq += f" ({part.made:,} made)"
            frames = f"{part.num_frame:,}" if self.layout.kind != "image" else "–"
            kept = "–" if part.cache is None else size_text(part.cache)
            table.add_row(part.split, f"{len(part.items):,}", frames, _forms(part.gt), lq, kept)
        return table


def folder_name(layout: Layout) -> str:
    """What the folder of a known dataset is called in the option files."""
    return layout.title.split()[0].rstrip(",")


def _forms(infos: Sequence[ImageInfo]) -> str:
    """Sizes (of all, or from the smallest to the largest area), channels and depths."""
    if not infos:
        return "none"
    sizes = sorted(
        {(info.width, info.height) for info in infos}, key=lambda size: size[0] * size[1]
    )
    ends = dict.fromkeys((sizes[0], sizes[-1]))
    shown = " to ".join(f"{width}×{height}" for width, height in ends)
    depths = {"uint8": "8 bits", "uint16": "16 bits", "float32": "float"}
    names = {1: "grey", 3: "RGB", 4: "RGGB"}
    colours = sorted({names[info.channels] for info in infos})
    bits = sorted({depths[info.dtype] for info in infos})
    return f"{shown}, {' and '.join(colours)}, {' and '.join(bits)}"
