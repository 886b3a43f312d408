"""Putting HR and LR files together, and naming those that have no counterpart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

from srtoolbox.data.layouts_base import Files
from srtoolbox.data.walk import Fault, fill, natural, walk

_SHOWN = 3  # how many names a message spells out

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
