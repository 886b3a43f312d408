"""Finds the files of a dataset by its layout, and pairs LR with GT."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

from srtoolbox.data.files.walk import Fault, fill, natural, split_fixed, walk
from srtoolbox.data.layouts.base import Files, Layout, Split
from srtoolbox.errors import UserError

__all__ = ["Fault", "Item", "compare_counts", "scan", "scan_pair"]

_SHOWN = 3  # how many names a message spells out


@dataclass(frozen=True)
class _Arrangement:
    """One arrangement under given roots."""

    split: Split
    lq: Files | None
    root_gt: Path
    root_lq: Path
    scale: int

    @property
    def gt(self) -> Files | None:
        return self.split.gt

    def wanted(self, key: str) -> bool:
        only = self.split.only
        return (not only or key in only) and key not in self.split.without

    def keys(self) -> list[str] | None:
        """The items of the listing; None if there is none."""
        return None if self.split.listing is None else _read_listing(self.listing)

    @property
    def listing(self) -> Path:
        return self.root_gt / (self.split.listing or "")

    def sides(self) -> list[tuple[Files, Path]]:
        return [
            (files, root)
            for files, root in ((self.gt, self.root_gt), (self.lq, self.root_lq))
            if files is not None
        ]

    def has_lq_folder(self) -> bool:
        """Whether the folder is there that LR files should be in, whatever it holds."""
        folder, _ = split_fixed(self.lq, self.scale)
        return bool(folder) and (self.root_lq / folder).is_dir()

    def __str__(self) -> str:
        shown = [_shown(files, self.scale) for files, _ in self.sides()]
        if self.root_lq != self.root_gt and self.lq is not None:
            shown[-1] += f" in {self.root_lq}"
        listed = f", listed in {self.split.listing}" if self.split.listing else ""
        return " with ".join(shown) + listed


def scan(
    layout: Layout, root: Path, split: str, scale: int, root_lq: Path | None = None
) -> tuple[list[Item], list[Fault]]:
    """Finds the items of one part of a dataset.

    Args:
        layout: How its files lie.
        root: Its folder.
        split: Which part of it.
        scale: Factor of the LR files.
        root_lq: Another folder under which the LR files lie, in the arrangement's own folders, in
            those of HR, or immediately. LR files must then be there.

    Returns:
        The items, in natural order of their names, each with those frames that could be paired; and
        the faults. If nothing is found, one fault says what was looked for.

    Raises:
        UserError: if a root is no folder, there is no such split, or its listing cannot be used.
    """
    if split not in layout.splits:
        raise UserError(
            f"layout '{layout.name}' has no split '{split}'; it has {', '.join(layout.splits)}"
        )
    for folder in (root, root_lq):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder; it should hold {layout.title}")
    candidates = _arrangements(layout.splits[split], root, root_lq, scale)
    faults: list[Fault] = []
    chosen = _choose(candidates, faults)
    if chosen is None:
        return [], [*dict.fromkeys(faults), _nothing(layout, root, split, candidates)]
    return pair(layout.kind, chosen)


def scan_pair(
    gt_dir: Path, lq_dir: Path | None = None, filename_tmpl: str = "{}"
) -> tuple[list[Item], list[Fault]]:
    """Finds the image pairs of two plain folders.

    Args:
        gt_dir: Folder of the HR images.
        lq_dir: Folder of the LR images; None means there are none.
        filename_tmpl: Stem of an LR file from that of its HR file: ``"{}x4"`` for DIV2K.

    Returns:
        The items and the faults, as ``scan``.

    Raises:
        UserError: if there is no such folder, or the template does not hold ``{}``.
    """
    for folder in (gt_dir, lq_dir):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    if "{}" not in filename_tmpl:
        raise UserError(
            f"filename_tmpl '{filename_tmpl}' must hold {{}}, the place of the HR file's stem"
        )
    lq = None if lq_dir is None else Files("", filename_tmpl.replace("{}", "{stem}"))
    split = Split(Files("", "{stem}"), lq)
    items, faults = pair("image", _Arrangement(split, lq, gt_dir, lq_dir or gt_dir, 1))
    if not items and not faults:
        faults = [Fault(gt_dir, "no files", "no images here")]
    return items, faults


def compare_counts(layout: Layout, split: str, items: Sequence[Item]) -> list[str]:
    """Notes on how the items found differ in number from the complete dataset."""
    notes = []
    expected = {found.num_item for found in layout.splits[split] if found.num_item}
    if expected and len(items) not in expected:
        whole = " or ".join(map(str, sorted(expected)))
        notes.append(f"{layout.kind}s: {len(items)}; {layout.title} has {whole} in split '{split}'")
    lengths = {found.num_frame for found in layout.splits[split] if found.num_frame}
    other = [item for item in items if lengths and item.num_frame not in lengths]
    if other:
        shown = ", ".join(f"{item.key} ({item.num_frame})" for item in other[:_SHOWN])
        more = ", …" if len(other) > _SHOWN else ""
        whole = " or ".join(map(str, sorted(lengths)))
        notes.append(f"{layout.kind}s of other than {whole} frames: {len(other)}, {shown}{more}")
    return notes


def _arrangements(
    splits: Sequence[Split], root: Path, root_lq: Path | None, scale: int
) -> list[_Arrangement]:
    if root_lq is None:
        return [_Arrangement(split, split.lq, root, root, scale) for split in splits]
    own = [(split, split.lq or split.gt) for split in splits]
    # Option files of the field point at the very folder of the LR clips or images.
    bare = [(split, split_fixed(lq, scale)[1]) for split, lq in own]
    same = root.resolve() == root_lq.resolve()
    return [
        _Arrangement(split, lq, root, root_lq, scale)
        for split, lq in (*own, *bare)
        if not (same and lq == split.gt)
    ]


def _choose(candidates: Sequence[_Arrangement], faults: list[Fault]) -> _Arrangement | None:
    """The arrangement of which most is there; ``faults`` receives what was met on the way."""
    known: dict[tuple, int] = {}

    def state(arrangement: _Arrangement, files: Files, root: Path) -> int:
        """Whether one side has a file (2), or faults that may hide one (1), or nothing (0)."""
        split = arrangement.split
        if split.listing and not arrangement.listing.is_file():
            return 0
        probe = (files, root, split.listing, split.only, split.without)
        if probe not in known:
            met: list[Fault] = []
            found = walk(
                files, root, arrangement.scale, met, arrangement.wanted, arrangement.keys()
            )
            known[probe] = 2 if next(found, None) else int(bool(met))
            faults.extend(met)
        return known[probe]

    seen = [
        (candidate, [state(candidate, *side) for side in candidate.sides()])
        for candidate in candidates
    ]
    pairs = [(candidate, sides) for candidate, sides in seen if len(sides) == 2]
    choices = (
        [candidate for candidate, sides in pairs if min(sides) == 2],
        # LR files that cannot be seen, or have other names, must not be passed over in silence.
        [candidate for candidate, sides in pairs if min(sides) == 1 and max(sides) == 2],
        [candidate for candidate, sides in pairs if sides[0] == 2 and candidate.has_lq_folder()],
        [candidate for candidate, sides in seen if min(sides) == 2],
        [candidate for candidate, sides in seen if max(sides) == 2],
    )
    return next((choice[0] for choice in choices if choice), None)


def _nothing(layout: Layout, root: Path, split: str, candidates: Sequence[_Arrangement]) -> Fault:
    looked_for = "".join(f"\n    {line}" for line in dict.fromkeys(map(str, candidates)))
    where = "" if layout.source == "your own" else f"\n  {layout.title} is at: {layout.source}"
    text = f"no {layout.kind}s of layout '{layout.name}', split '{split}', here; looked for"
    return Fault(root, "no files", f"{text}{looked_for}{where}")


def _shown(files: Files, scale: int) -> str:
    return re.sub(r"\{(\w+)\}", r"<\1>", str(files).replace("{scale}", str(scale)))


def _read_listing(path: Path) -> list[str]:
    """The names in a listing, without blank lines.

    Raises:
        UserError: if it cannot be read or a line points out of the dataset.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of names ({error})") from error
    keys = [line.strip().strip("/") for line in lines]
    for number, key in enumerate(keys, 1):
        if ".." in key.split("/"):
            raise UserError(f"{path}, line {number}: '{key}' leads out of the dataset")
    return list(dict.fromkeys(key for key in keys if key))


_Side = dict[str, dict[str, str]]  # for each item: its files by frame


@dataclass(frozen=True)
class Item:
    """One image, clip or burst.

    Args:
        key: Its name: that of an image without suffix, of a clip, of a burst.
        gt: Ground truth: one file, the frames of a clip, or none where it is not published.
        lq: LR: one file, or the frames of a clip or burst; empty where it is to be made.
    """

    key: str
    gt: tuple[Path, ...]
    lq: tuple[Path, ...]

    @property
    def num_frame(self) -> int:
        """Frames of the clip or burst; 1 for an image."""
        return max(len(self.gt), len(self.lq))


class Arrangement(Protocol):
    """What is paired: templates, roots, and which items are asked for."""

    gt: Files | None
    lq: Files | None
    root_gt: Path
    root_lq: Path
    scale: int
    listing: Path

    def wanted(self, key: str) -> bool: ...

    def keys(self) -> list[str] | None: ...


def pair(kind: str, arrangement: Arrangement) -> tuple[list[Item], list[Fault]]:
    """The items of an arrangement and the faults of its files.

    Args:
        kind: "image", "clip" or "burst".
        arrangement: Where HR and LR files are looked for.
    """
    faults: list[Fault] = []
    keys = arrangement.keys()
    gt, lq = (
        _collect(files, root, arrangement, keys, faults)
        for files, root in (
            (arrangement.gt, arrangement.root_gt),
            (arrangement.lq, arrangement.root_lq),
        )
    )
    faults = list(dict.fromkeys(faults))  # both sides may lie in the same folders
    if keys is not None:
        faults += _unlisted(arrangement, keys, {*(gt or ()), *(lq or ())})
    if gt == {} or lq == {}:
        return [], [*faults, *_no_side(kind, arrangement, gt, lq)]
    items = []
    for key in sorted({*(gt or ()), *(lq or ())}, key=natural):
        truth, low = (None if side is None else side.get(key) for side in (gt, lq))
        if (truth is None and gt is not None) or (low is None and lq is not None):
            faults.append(_no_partner(kind, arrangement, key, truth, low))
            continue
        if kind != "image":
            faults += _gaps(kind, key, {**(truth or {}), **(low or {})})
        if _by_frame(arrangement.gt) and _by_frame(arrangement.lq):
            faults += _lacking(kind, key, "HR", truth, low) + _lacking(kind, key, "LR", low, truth)
            truth = {frame: truth[frame] for frame in truth if frame in low}
            low = {frame: low[frame] for frame in low if frame in truth}
        if truth or low:
            items.append(Item(key, _in_order(truth), _in_order(low)))
    if kind == "burst":
        faults += _unequal(items)
    return items, faults


def _collect(
    files: Files | None,
    root: Path,
    arrangement: Arrangement,
    keys: list[str] | None,
    faults: list[Fault],
) -> _Side | None:
    """The files of one side; None if the arrangement has no such side."""
    if files is None:
        return None
    side: _Side = {}
    for key, frame, path in walk(files, root, arrangement.scale, faults, arrangement.wanted, keys):
        frames = side.setdefault(key, {})
        if frame in frames:
            path, other = sorted((frames[frame], path))
            text = f"stands for the same image as {Path(path).name}; remove one of them"
            faults.append(Fault(Path(other), "duplicate stem", text))
        frames[frame] = path
    return side


def _by_frame(files: Files | None) -> bool:
    return files is not None and "{frame}" in str(files)


def _in_order(frames: dict[str, str] | None) -> tuple[Path, ...]:
    return tuple(Path(frames[frame]) for frame in sorted(frames or (), key=natural))


def _unlisted(arrangement: Arrangement, keys: list[str], found: set[str]) -> list[Fault]:
    absent = [key for key in keys if key not in found and arrangement.wanted(key)]
    if not absent:
        return []
    text = f"names {len(keys)} items, of which {len(absent)} are not there: {_some(absent)}"
    return [Fault(arrangement.listing, "missing item", text)]


def _no_side(
    kind: str, arrangement: Arrangement, gt: _Side | None, lq: _Side | None
) -> list[Fault]:
    """One fault where all partners are missing. Without any file, other faults have said why."""
    faults = []
    for name, side, other, files, root in (
        ("HR", gt, lq, arrangement.gt, arrangement.root_gt),
        ("LR", lq, gt, arrangement.lq, arrangement.root_lq),
    ):
        if side == {} and other:
            pattern = fill(files, arrangement.scale, "*")
            text = f"no file {pattern} here, the {name} of {len(other)} {kind}s, such as "
            faults.append(Fault(root, "missing partner", text + min(other, key=natural)))
    return faults


def _no_partner(
    kind: str,
    arrangement: Arrangement,
    key: str,
    truth: dict[str, str] | None,
    low: dict[str, str] | None,
) -> Fault:
    present = truth or low
    files, root = (
        (arrangement.lq, arrangement.root_lq) if truth else (arrangement.gt, arrangement.root_gt)
    )
    partner = root / fill(files, arrangement.scale, key)
    path = _in_order(present)[0]
    if kind == "image":
        return Fault(path, "missing partner", f"has no partner {partner}")
    side = "LR" if truth else "HR"
    return Fault(path.parent, "missing partner", f"{kind} {key} has no {side} files {partner}")


def _lacking(
    kind: str, key: str, side: str, have: dict[str, str], other: dict[str, str]
) -> list[Fault]:
    absent = sorted((frame for frame in other if frame not in have), key=natural)
    if not absent:
        return []
    folder = Path(next(iter(have.values()))).parent
    text = f"{kind} {key} lacks {side} frame {_some(absent)} ({len(have)} files for {len(other)})"
    return [Fault(folder, "missing partner", text)]


def _gaps(kind: str, key: str, frames: dict[str, str]) -> list[Fault]:
    """Frames that the numbering passes over. Every second frame, throughout, is no gap."""
    parts = {frame: re.fullmatch(r"(.*?)(\d+)", frame) for frame in frames}
    if len(parts) < 2 or not all(parts.values()):
        return []
    if len({match[1] for match in parts.values()}) > 1:
        return []
    numbers = sorted(int(match[2]) for match in parts.values())
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps)
    if not step or any(gap % step for gap in steps):  # no numbering, but time stamps, say
        return []
    count = sum(gap // step - 1 for gap in steps)
    if not count:
        return []
    prefix, width = next(iter(parts.values()))[1], min(len(match[2]) for match in parts.values())
    passed = (n for a, b in pairwise(numbers) for n in range(a + step, b, step))
    absent = [f"{prefix}{number:0{width}d}" for number in islice(passed, _SHOWN)]
    folder = Path(next(iter(frames.values()))).parent
    return [Fault(folder, "missing frame", f"{kind} {key} lacks frame {_some(absent, count)}")]


def _unequal(bursts: list[Item]) -> list[Fault]:
    lengths = Counter(len(burst.lq) for burst in bursts)
    if len(lengths) < 2:
        return []
    usual = lengths.most_common(1)[0][0]
    return [
        Fault(
            burst.lq[0].parent,
            "unequal number of frames",
            f"burst {burst.key} has {len(burst.lq)} frames, most others have {usual}",
        )
        for burst in bursts
        if len(burst.lq) != usual
    ]


def _some(names: Sequence[str], count: int | None = None) -> str:
    """The first of ``count`` names; ``names`` need not hold them all."""
    more = (len(names) if count is None else count) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
