"""The result of `srtoolbox prepare`, and its table, notes and options."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from srtoolbox.config.shipped import options_folder
from srtoolbox.data.datasets.reading import Reading
from srtoolbox.data.datasets.source import DATASET_TYPES
from srtoolbox.data.files.find import Item, compare_counts
from srtoolbox.data.files.image_info import ImageInfo, bands_text
from srtoolbox.data.layouts.base import Layout
from srtoolbox.utils.console import size_text

TRAINED = ("train", "all")  # splits used for training; others are only for evaluation


@dataclass
class Part:
    """One split of a prepared dataset.

    Attributes:
        split: Name of the split.
        items: Its images, clips or bursts.
        made: Number of LR files that were written; None if none were asked for.
        gt: Headers of the HR files.
        lq: Headers of the LR files; empty if LR is made when it is read.
        cache: Size of the decoded images in bytes; None if they are not kept.
        masked: Whether the images have one more channel, which marks missing pixels.
    """

    split: str
    items: list[Item]
    made: int | None = None
    gt: list[ImageInfo] = field(default_factory=list)
    lq: list[ImageInfo] = field(default_factory=list)
    cache: int | None = None
    masked: bool = False

    @property
    def num_frame(self) -> int:
        """Number of frames of all items."""
        return sum(item.num_frame for item in self.items)

    def notes(self, layout: Layout) -> list[str]:
        """Returns notes on how the split differs from the published dataset."""
        notes = [f"{self.split}: {note}" for note in compare_counts(layout, self.split, self.items)]
        if not self.items[0].gt:
            notes.append(f"{self.split}: no ground truth; not usable for training or evaluation")
        for side, size, infos in (("HR", layout.gt_size, self.gt), ("LR", layout.lq_size, self.lq)):
            other = sum(info.size != size for info in infos)
            if size is not None and other:
                usual = f"{size[1]}×{size[0]}"
                notes.append(
                    f"{self.split}: {other} {side} files are not {usual}, the size in "
                    f"{layout.title}"
                )
            turned = sum(info.orientation != 1 for info in infos)
            if turned:
                notes.append(
                    f"{self.split}: {turned} of {len(infos)} {side} files are stored turned; they "
                    "are read upright, as their orientation tags state"
                )
            if len({info.dtype for info in infos}) > 1 and not (side == "LR" and layout.raw):
                paths = [p for item in self.items for p in (item.gt if side == "HR" else item.lq)]
                usual = Counter(info.dtype for info in infos).most_common(1)[0][0]
                other = [p for p, info in zip(paths, infos, strict=True) if info.dtype != usual]
                notes.append(
                    f"{self.split}: {len(other)} of {len(infos)} {side} files do not have {usual} "
                    f"pixels like the others, such as {other[0]}; for training, save all with one "
                    "bit depth"
                )
        return notes


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        layout: Layout of the files.
        root: Folder of the dataset, as option files should name it.
        root_lq: Folder of the LR files, if it is another.
        scale: Scale of the layout; for RAW, relative to sensor pixels.
        cache: Folder of the decoded images.
        parts: The splits.
        notes: Notes for the user.
        reading: How the images are read.
        recursive: Whether sub-folders are read.
    """

    layout: Layout
    root: Path
    root_lq: Path | None
    scale: int
    cache: Path | None
    parts: list[Part]
    notes: list[str]
    reading: Reading
    recursive: bool

    def options(self) -> dict[str, Any]:
        """Returns the options that use the dataset, as in an option file."""
        datasets: dict[str, Any] = {}
        for part in self.parts:
            if not all(item.gt for item in part.items):
                continue  # not usable without ground truth
            spec: dict[str, Any] = {
                "type": DATASET_TYPES[self.layout.kind],
                "layout": self.layout.name,
            }
            spec["dataroot"] = str(self.root)
            spec |= {"split": part.split} if len(self.layout.splits) > 1 else {}
            spec |= {} if self.root_lq is None else {"dataroot_lq": str(self.root_lq)}
            spec |= {} if part.cache is None else {"cache": str(self.cache)}
            for name in ("convert", "bands", "bands_gt", "nodata"):
                if (value := getattr(self.reading, name)) is not None:
                    spec[name] = value if isinstance(value, (str, float, int)) else list(value)
            if self.reading.levels.changed:
                for name in ("white_level", "black_level"):
                    if (value := getattr(self.reading, name)) not in (None, 0):
                        spec[name] = value if isinstance(value, (float, int)) else list(value)
                spec |= {"scale_floats": True} if self.reading.scale_floats else {}
            spec |= {"recursive": True} if self.recursive else {}
            if part.split in TRAINED:
                datasets["train"] = spec
            else:
                datasets[part.split] = {folder_name(self.layout): spec}
        return {"scale": self.scale * (2 if self.layout.raw else 1), "datasets": datasets}

    def option_file(self) -> Path | None:
        """Returns the option file of the dataset that the toolbox contains; None: there is none."""
        folder = options_folder() / "_base_" / "data"
        files = [*folder.glob(f"*_x{self.scale}.yml"), *folder.glob("benchmarks.yml")]
        named = re.compile(rf"\blayout: {self.layout.name}\b")
        matching = [path for path in files if named.search(path.read_text(encoding="utf-8"))]
        # A file of another dataset may also evaluate on this one; it does not count.
        own = [path for path in matching if path.stem.startswith(f"{self.layout.name}_x")]
        others = [path for path in matching if path.stem == "benchmarks"]
        return next(iter(own + others), None)

    def table(self) -> Table:
        """Returns a table with one line per split."""
        table = Table(title=f"{self.layout.title} (x{self.scale})", box=box.SIMPLE_HEAD)
        table.add_column("split")
        for title in (f"{self.layout.kind}s", "frames"):
            table.add_column(title, justify="right")
        for title in ("HR", "LR"):
            table.add_column(title)
        table.add_column("decoded", justify="right", no_wrap=True)
        for part in self.parts:
            lq = _forms(part.lq, self.layout.raw, part.masked)
            if self.layout.kind != "burst" and not part.lq:
                lq = "made when read"
            elif part.made is not None:
                lq += f" ({part.made:,} made)"
            frames = f"{part.num_frame:,}" if self.layout.kind != "image" else "–"
            kept = "–" if part.cache is None else size_text(part.cache)
            table.add_row(
                part.split,
                f"{len(part.items):,}",
                frames,
                _forms(part.gt, False, part.masked),
                lq,
                kept,
            )
        return table


def folder_name(layout: Layout) -> str:
    """Returns the name of a known dataset's folder in the option files."""
    return layout.title.split()[0].rstrip(",")


def _forms(infos: Sequence[ImageInfo], raw: bool = False, masked: bool = False) -> str:
    """Describes images by size (common, or smallest to largest area), channels and bit depth.

    Args:
        infos: Headers of the images.
        raw: Whether four channels are packed RAW.
        masked: Whether the last channel marks missing pixels.
    """
    if not infos:
        return "none"
    sizes = sorted(
        {(info.width, info.height) for info in infos}, key=lambda size: size[0] * size[1]
    )
    ends = dict.fromkeys((sizes[0], sizes[-1]))
    shown = " to ".join(f"{width}×{height}" for width, height in ends)
    depths = {"uint8": "8 bits", "uint16": "16 bits", "int16": "signed 16 bits"}
    counts = {info.channels - masked for info in infos}
    colours = sorted({"RGGB"} if raw else map(bands_text, counts))
    bits = sorted({depths.get(info.dtype, "float") for info in infos})
    missing = ", missing pixels" if masked else ""
    return f"{shown}, {' and '.join(colours)}, {' and '.join(bits)}{missing}"
