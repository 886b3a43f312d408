"""Finds the items of a dataset by its layout, and pairs LR files with HR files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal

from srtoolbox.data.files.archives import is_folder
from srtoolbox.data.files.reader import IMAGE_SUFFIXES
from srtoolbox.data.files.walk import (
    Fault,
    FoundFile,
    LeftOut,
    composed,
    fill,
    name_template,
    natural,
    split_fixed,
    walk,
)
from srtoolbox.data.layouts.base import Layout, Split
from srtoolbox.errors import UserError
from srtoolbox.utils.collector import collector_paused
from srtoolbox.utils.console import MAX_NAMES, names_text, warn_once

__all__ = ["Fault", "Item", "compare_counts", "scan", "scan_pair"]


_Frames = dict[str, str]  # paths of an item's files, by the name of the frame


@dataclass(frozen=True)
class Item:
    """An image, clip or burst.

    Args:
        key: Its name: of an image without suffix, of a clip, of a burst.
        gt: Ground truth: one file, the frames of a clip, or none where it is not published.
        lq: LR: one file, or the frames of a clip or burst; empty where LR is made from HR.
        mask: One for each file of the ground truth, in the same order: a pixel counts where it is
            not 0; empty where all pixels count.
        lq_mask: Status maps of the frames of ``lq``, in the same order: a pixel is clear where it
            is not 0; empty where there are none.
    """

    key: str
    gt: tuple[Path, ...]
    lq: tuple[Path, ...]
    mask: tuple[Path, ...] = ()
    lq_mask: tuple[Path, ...] = ()

    @property
    def num_frame(self) -> int:
        """Number of frames of the clip or burst; 1 for an image."""
        return max(len(self.gt), len(self.lq))


@dataclass(frozen=True)
class _Side:
    """The HR, LR or mask files of an arrangement."""

    name: Literal["HR", "LR", "mask"]
    template: str
    root: Path
    scale: int

    def pattern(self, key: str) -> str:
        """Returns the path, relative to the root, of the files of an item."""
        return fill(self.template, self.scale, key)

    def has_folder(self) -> bool:
        """Returns whether the folder of the files exists, whatever it contains."""
        folder, _ = split_fixed(self.template, self.scale)
        return bool(folder) and is_folder(self.root / folder)

    def __str__(self) -> str:
        return re.sub(r"\{([\w-]+)\}", r"<\1>", self.template.replace("{scale}", str(self.scale)))


class _Arrangement:
    """A possible arrangement of the files of a split under given root folders.

    Args:
        split: Describes the HR files, and which items belong to the split.
        lq: Template of the LR files; None: there are none.
        root: Folder of the dataset.
        root_lq: Folder that ``lq`` is relative to.
        scale: Scale of the LR files.
        recursive: As of ``walk``.
        root_mask: Folder that the split's template of masks is relative to; None: ``root``.
        meta_info: A file with the names of the items, instead of the split's listing.
    """

    def __init__(
        self,
        split: Split,
        lq: str | None,
        root: Path,
        root_lq: Path,
        scale: int,
        recursive: bool = False,
        root_mask: Path | None = None,
        meta_info: Path | None = None,
    ) -> None:
        self.split, self.root, self.recursive = split, root, recursive
        self.left_out = LeftOut()
        self.gt = None if split.gt is None else _Side("HR", split.gt, root, scale)
        self.lq = None if lq is None else _Side("LR", lq, root_lq, scale)
        mask = None if split.gt is None else split.mask
        self.mask = None if mask is None else _Side("mask", mask, root_mask or root, scale)
        lq_mask = None if lq is None else split.lq_mask
        self.lq_mask = None if lq_mask is None else _Side("mask", lq_mask, root_lq, scale)
        self.listing = None if split.listing is None else root / split.listing
        self.meta_info = meta_info
        if meta_info is not None:
            self.listing = meta_info

    @property
    def sides(self) -> list[_Side]:
        return [side for side in (self.gt, self.lq) if side is not None]

    def wanted(self, key: str) -> bool:
        """Returns whether an item belongs to the split."""
        only = self.split.only
        if self._in_meta_info is not None and composed(key) not in self._in_meta_info:
            return False
        return (not only or key in only) and key not in self.split.without

    def walk(self, side: _Side, faults: list[Fault]) -> Iterator[FoundFile]:
        """Finds the files of one side that belong to the split; adds faults."""
        search = side.template, side.root, side.scale, faults, self.wanted, self.keys
        return walk(*search, self.recursive, self.left_out)

    @cached_property
    def keys(self) -> list[str] | None:
        """Names in the listing; None if there is no listing."""
        if self.meta_info is not None:
            return _read_meta_info(self.meta_info)
        return None if self.listing is None else _read_listing(self.listing)

    @cached_property
    def _in_meta_info(self) -> frozenset[str] | None:
        return None if self.meta_info is None else frozenset(map(composed, self.keys or ()))

    def __str__(self) -> str:
        shown = [str(side) for side in self.sides]
        if self.lq is not None and self.lq.root != self.root:
            shown[-1] += f" in {self.lq.root}"
        if self.mask is not None:
            shown.append(f"masks {self.mask}")
        if self.lq_mask is not None:
            shown.append(f"status maps {self.lq_mask}")
        listed = f", listed in {self.split.listing}" if self.split.listing else ""
        return " with ".join(shown) + listed


def scan(
    layout: Layout,
    root: Path,
    split: str,
    scale: int,
    root_lq: Path | None = None,
    recursive: bool = False,
    meta_info: Path | None = None,
) -> tuple[list[Item], list[Fault]]:
    """Finds the items of one split of a dataset.

    Args:
        layout: Describes the arrangements in which the files may be found.
        root: Folder of the dataset.
        split: Name of the split.
        scale: Scale of the LR files.
        root_lq: Another folder that contains the LR files: in the folders of the arrangement, in
            those of HR, or directly. The LR files must then exist.
        recursive: As of ``walk``.
        meta_info: A file of BasicSR that names the items, one in each line; None: all.

    Returns:
        The items, in natural order of their names, each with the frames that could be paired; and
        the faults. If nothing is found, one fault lists the arrangements that were tried.

    Raises:
        UserError: if a root is not a folder, the split does not exist, or its listing cannot be
            used.
    """
    layout.check_split(split)
    for folder in (root, root_lq):
        if folder is not None and not is_folder(folder):
            raise UserError(f"{folder}: no such folder; it should hold {layout.title}")
    candidates = _arrangements(layout.splits[split], root, root_lq, scale, recursive, meta_info)
    faults: list[Fault] = []
    chosen = _choose(candidates, faults)
    if chosen is None:
        return [], [*dict.fromkeys(faults), _no_files(layout, root, split, candidates)]
    found = _pair(layout.kind, chosen)
    if layout.source == "your own":  # a known dataset has other files, too
        _report_left_out(root, chosen)
    return found


def scan_pair(
    gt_dir: Path,
    lq_dir: Path | None = None,
    filename_tmpl: str = "{}",
    recursive: bool = False,
    mask_dir: Path | None = None,
    meta_info: Path | None = None,
) -> tuple[list[Item], list[Fault]]:
    """Finds the image pairs of two plain folders.

    Args:
        gt_dir: Folder of the HR images.
        lq_dir: Folder of the LR images; None: there are none.
        filename_tmpl: Stem of an LR file, with ``{}`` for the stem of its HR file: ``"{}x4"`` for
            DIV2K.
        recursive: As of ``walk``.
        mask_dir: Folder of the masks of the HR images, which have the same stems; None: there are
            none.
        meta_info: As of ``scan``.

    Returns:
        The items and the faults, as ``scan``.

    Raises:
        UserError: if a folder does not exist, or the template has not one ``{}``.
    """
    for folder in (gt_dir, lq_dir, mask_dir):
        if folder is not None and not is_folder(folder):
            raise UserError(f"{folder}: no such folder")
    template = name_template(filename_tmpl, "{stem}", "filename_tmpl")
    lq = None if lq_dir is None else template
    split = Split("{stem}", lq, mask=None if mask_dir is None else "{stem}")
    roots = gt_dir, lq_dir or gt_dir
    arrangement = _Arrangement(split, lq, *roots, 1, recursive, mask_dir, meta_info)
    items, faults = _pair("image", arrangement)
    if not items and not faults:
        text = f"no images here{arrangement.left_out.clause()}"
        return [], [Fault(gt_dir, "no files", text)]
    _report_left_out(gt_dir, arrangement)
    return items, faults


def _report_left_out(root: Path, arrangement: _Arrangement) -> None:
    """Warns, once per process, about files and folders beside those that were found."""
    text = arrangement.left_out.describe()
    if text is None:
        return
    skipped = "sub-folder" in text and not arrangement.recursive
    advice = "; recursive: true reads sub-folders" if skipped else ""
    warn_once(f"{root}: left out: {text}{advice}")


def compare_counts(layout: Layout, split: str, items: Sequence[Item]) -> list[str]:
    """Returns notes on how the numbers of items and frames differ from the complete dataset."""
    notes = []
    expected = {found.num_item for found in layout.splits[split] if found.num_item}
    if expected and len(items) not in expected:
        complete = " or ".join(map(str, sorted(expected)))
        notes.append(
            f"{layout.kind}s: {len(items)}; {layout.title} has {complete} in split '{split}'"
        )
    lengths = {found.num_frame for found in layout.splits[split] if found.num_frame}
    other = [item for item in items if lengths and item.num_frame not in lengths]
    if other:
        shown = ", ".join(f"{item.key} ({item.num_frame})" for item in other[:MAX_NAMES])
        more = ", …" if len(other) > MAX_NAMES else ""
        complete = " or ".join(map(str, sorted(lengths)))
        notes.append(
            f"{layout.kind}s that do not have {complete} frames: {len(other)}, {shown}{more}"
        )
    return notes


def _arrangements(
    splits: Sequence[Split],
    root: Path,
    root_lq: Path | None,
    scale: int,
    recursive: bool,
    meta_info: Path | None = None,
) -> list[_Arrangement]:
    """Returns all arrangements in which the files may be found, preferred ones first."""
    search: dict[str, Any] = {"scale": scale, "recursive": recursive, "meta_info": meta_info}
    if root_lq is None:
        return [_Arrangement(split, split.lq, root, root, **search) for split in splits]
    own = [(split, lq) for split in splits if (lq := split.lq or split.gt) is not None]
    # Option files of other toolboxes point directly at the folder of the LR clips or images.
    direct = [(split, split_fixed(lq, scale)[1]) for split, lq in own]
    same = root.resolve() == root_lq.resolve()
    return [
        _Arrangement(split, lq, root, root_lq, **search)
        for split, lq in (*own, *direct)
        if not (same and lq == split.gt)
    ]


def _choose(candidates: Sequence[_Arrangement], faults: list[Fault]) -> _Arrangement | None:
    """Chooses the arrangement with the most complete files; None if there is no file.

    Args:
        candidates: Preferred arrangements first.
        faults: Receives the faults that were met during the search.
    """
    known: dict[tuple, int] = {}

    def state(arrangement: _Arrangement, side: _Side) -> int:
        """Returns 2 if the side has a file, 1 if it has faults that may hide files, else 0."""
        if arrangement.listing is not None and not arrangement.listing.is_file():
            return 0
        split = arrangement.split
        probe = (side.template, side.root, split.listing, split.only, split.without)
        if probe not in known:
            met: list[Fault] = []
            known[probe] = 2 if next(arrangement.walk(side, met), None) else int(bool(met))
            faults.extend(met)
        return known[probe]

    seen = [
        (candidate, [state(candidate, side) for side in candidate.sides])
        for candidate in candidates
    ]
    pairs = [(candidate, states) for candidate, states in seen if len(states) == 2]
    choices = (
        [candidate for candidate, states in pairs if min(states) == 2],
        # Do not silently ignore LR files that cannot be read or have unexpected names.
        [candidate for candidate, states in pairs if min(states) == 1 and max(states) == 2],
        [
            candidate
            for candidate, states in pairs
            if states[0] == 2 and candidate.lq is not None and candidate.lq.has_folder()
        ],
        [candidate for candidate, states in seen if min(states) == 2],
        [candidate for candidate, states in seen if max(states) == 2],
    )
    return next((choice[0] for choice in choices if choice), None)


def _no_files(layout: Layout, root: Path, split: str, candidates: Sequence[_Arrangement]) -> Fault:
    looked_for = "".join(f"\n    {line}" for line in dict.fromkeys(map(str, candidates)))
    source = "" if layout.source == "your own" else f"\n  {layout.title} is at: {layout.source}"
    left_out = LeftOut()
    for candidate in candidates:
        left_out.update(candidate.left_out)
    text = f"no {layout.kind}s of layout '{layout.name}', split '{split}', here"
    text += f"{left_out.clause()}; looked for"
    return Fault(root, "no files", f"{text}{looked_for}{source}")


def _read_listing(path: Path) -> list[str]:
    """Reads the names in a listing, without blank lines.

    Raises:
        UserError: if it cannot be read or a line points outside the dataset.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of names ({error})") from error
    keys = [line.strip().strip("/") for line in lines]
    for number, key in enumerate(keys, 1):
        if ".." in key.split("/"):
            raise UserError(f"{path}, line {number}: '{key}' points outside the dataset")
    return list(dict.fromkeys(key for key in keys if key))


_SHAPE = re.compile(r"(\s+\d+)?\s+\([\d, ]*\)(\s+\d+)?$")


def _read_meta_info(path: Path) -> list[str]:
    """Reads the names of the items in a file of BasicSR, without shapes, numbers and suffixes.

    Its lines are ``0001.png (480,480,3)`` for images, ``00001/0001 7 (256,448,3)`` for clips.

    Raises:
        UserError: as ``_read_listing``, or if the file has no names.
    """
    names = []
    for line in _read_listing(path):
        name = _SHAPE.sub("", line)
        stem, _, suffix = name.rpartition(".")
        names.append(stem if stem and f".{suffix.lower()}" in IMAGE_SUFFIXES else name)
    if not names:
        raise UserError(f"{path}: names no images or clips; give one in each line")
    return names


@collector_paused()
def _pair(kind: str, arrangement: _Arrangement) -> tuple[list[Item], list[Fault]]:
    """Pairs the files of an arrangement.

    Args:
        kind: "image", "clip" or "burst".
        arrangement: Describes the HR and LR files.

    Returns:
        The items and the faults, as ``scan``.
    """
    faults: list[Fault] = []
    gt, lq = (_collect(side, arrangement, faults) for side in (arrangement.gt, arrangement.lq))
    masks = _collect(arrangement.mask, arrangement, faults) or {}
    lq_masks = _collect(arrangement.lq_mask, arrangement, faults) or {}
    faults = list(dict.fromkeys(faults))  # both sides may use the same folders
    found = {*(gt or ()), *(lq or ())}
    faults += _unlisted(arrangement, found)
    if gt == {} or lq == {}:
        faults += _missing_side(kind, arrangement.gt, gt, lq)
        faults += _missing_side(kind, arrangement.lq, lq, gt)
        return [], faults
    sides = arrangement.sides
    by_frame = len(sides) == 2 and all("{frame}" in side.template for side in sides)
    middle_only = by_frame and arrangement.split.middle_only and _have_middle_only(gt, lq)
    items = []
    for key in sorted(found, key=natural):
        truth = {} if gt is None else gt.get(key, {})
        low = {} if lq is None else lq.get(key, {})
        if arrangement.gt is not None and not truth:
            faults.append(_missing_partner(kind, key, arrangement.gt, low))
            continue
        if arrangement.lq is not None and not low:
            faults.append(_missing_partner(kind, key, arrangement.lq, truth))
            continue
        lacking = _lacking_for_middle(truth, low) if middle_only else None
        if lacking:
            text = f"{kind} {key} lacks LR frame {names_text(lacking)}"
            faults.append(Fault(_in_order(low)[0].parent, "missing partner", text))
            continue
        if kind != "image":
            faults += _gaps(kind, key, {**truth, **low})
        if by_frame and lacking is None:
            faults += _lacking(kind, key, "HR", truth, low) + _lacking(kind, key, "LR", low, truth)
            truth = {frame: path for frame, path in truth.items() if frame in low}
            low = {frame: path for frame, path in low.items() if frame in truth}
        if truth or low:
            mask, unmasked = _masks(arrangement.mask, key, truth, masks)
            lq_mask, unmasked_lq = _masks(arrangement.lq_mask, key, low, lq_masks)
            faults += [*unmasked, *unmasked_lq]
            if not unmasked and not unmasked_lq:
                items.append(Item(key, *map(_in_order, (truth, low, mask, lq_mask))))
    if kind == "burst" and arrangement.lq_mask is None:
        faults += _unequal(items)
    return items, faults


def _collect(
    side: _Side | None, arrangement: _Arrangement, faults: list[Fault]
) -> dict[str, _Frames] | None:
    """Finds the files of one side, by item and frame; None if there is no such side."""
    if side is None:
        return None
    found: dict[str, _Frames] = {}
    for key, frame, path in arrangement.walk(side, faults):
        key, frame = composed(key), composed(frame)
        frames = found.setdefault(key, {})
        if frame in frames:
            path, other = sorted((frames[frame], path))
            text = f"is a second file for the same image as {Path(path).name}; remove one of them"
            faults.append(Fault(Path(other), "duplicate stem", text))
        frames[frame] = path
    return found


def _in_order(frames: _Frames) -> tuple[Path, ...]:
    if len(frames) < 2:  # of 10⁵ images
        return tuple(map(Path, frames.values()))
    return tuple(Path(frames[frame]) for frame in sorted(frames, key=natural))


def _unlisted(arrangement: _Arrangement, found: set[str]) -> list[Fault]:
    """Returns a fault if the listing names items that do not exist."""
    keys, listing = arrangement.keys, arrangement.listing
    if keys is None or listing is None:
        return []
    absent = [key for key in keys if composed(key) not in found and arrangement.wanted(key)]
    if not absent:
        return []
    names = names_text(absent)
    text = f"{len(absent)} of the {len(keys)} items that it names do not exist: {names}"
    return [Fault(listing, "missing item", text)]


def _missing_side(
    kind: str,
    side: _Side | None,
    found: dict[str, _Frames] | None,
    other: dict[str, _Frames] | None,
) -> list[Fault]:
    """Returns one fault if all files of a side are missing, and the other side has files."""
    if side is None or found or not other:
        return []
    text = (
        f"no {side.name} files {side.pattern('*')} here; {len(other)} {kind}s need them, such as "
        f"{min(other, key=natural)}"
    )
    return [Fault(side.root, "missing partner", text)]


def _missing_partner(kind: str, key: str, missing: _Side, present: _Frames) -> Fault:
    partner = missing.root / missing.pattern(key)
    path = _in_order(present)[0]
    if kind == "image":
        return Fault(path, "missing partner", f"has no partner {partner}")
    text = f"{kind} {key} has no {missing.name} files {partner}"
    return Fault(path.parent, "missing partner", text)


def _masks(
    side: _Side | None, key: str, files: _Frames, masks: dict[str, _Frames]
) -> tuple[_Frames, list[Fault]]:
    """Returns the masks of an item's files, and a fault for each file that has none."""
    if side is None:
        return {}, []
    have = masks.get(key, {})
    lacking = [frame for frame in files if frame not in have]
    faults = []
    for frame in lacking:
        path = side.root / fill(side.template, side.scale, key, frame or "*")
        faults.append(Fault(Path(files[frame]), "missing mask", f"has no mask {path}"))
    return {frame: path for frame, path in have.items() if frame in files}, faults


def _have_middle_only(gt: dict[str, _Frames] | None, lq: dict[str, _Frames] | None) -> bool:
    """Returns whether a split has Vimeo-90K's clips with a ground truth for the middle frame only.

    One clip has all LR frames then, and none has more than one HR frame.
    """
    found = [(truth, (lq or {}).get(key)) for key, truth in (gt or {}).items()]
    pairs = [(truth, low) for truth, low in found if low]
    return all(len(truth) == 1 for truth, _ in pairs) and any(
        _lacking_for_middle(truth, low) == [] for truth, low in pairs
    )


def _lacking_for_middle(truth: _Frames, low: _Frames) -> list[str] | None:
    """Returns the LR frames that a clip of Vimeo-90K lacks, with a truth for its middle frame.

    None: it has another form, so each of its LR frames needs a ground truth.
    """
    stems = [Path(path).stem for path in truth.values()]
    count = {"im2": 3, "im4": 7}.get(stems[0]) if len(stems) == 1 else None
    if count is None:
        return None
    wanted = [f"im{number}" for number in range(1, count + 1)]
    named = {Path(path).stem for path in low.values()}
    return [name for name in wanted if name not in named] if named <= {*wanted} else None


def _lacking(kind: str, key: str, side: str, have: _Frames, other: _Frames) -> list[Fault]:
    """Returns a fault if one side lacks frames of the other."""
    absent = sorted((frame for frame in other if frame not in have), key=natural)
    if not absent:
        return []
    folder = Path(next(iter(have.values()))).parent
    names = names_text(absent)
    text = f"{kind} {key} lacks {side} frame {names} ({len(have)} files for {len(other)})"
    return [Fault(folder, "missing partner", text)]


def _gaps(kind: str, key: str, frames: _Frames) -> list[Fault]:
    """Returns a fault if frame numbers are skipped; a constant step, such as 2, is no gap."""
    parts = [match for frame in frames if (match := re.fullmatch(r"(.*?)(\d+)", frame))]
    if len(parts) < 2 or len(parts) < len(frames):
        return []
    if len({match[1] for match in parts}) > 1:
        return []
    numbers = sorted(int(match[2]) for match in parts)
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps)
    if not step or any(gap % step for gap in steps):  # not a count: time stamps, for example
        return []
    count = sum(gap // step - 1 for gap in steps)
    if not count:
        return []
    prefix, width = parts[0][1], min(len(match[2]) for match in parts)
    skipped = (n for a, b in pairwise(numbers) for n in range(a + step, b, step))
    absent = [f"{prefix}{number:0{width}d}" for number in islice(skipped, MAX_NAMES)]
    folder = Path(next(iter(frames.values()))).parent
    return [Fault(folder, "missing frame", f"{kind} {key} lacks frame {names_text(absent, count)}")]


def _unequal(bursts: list[Item]) -> list[Fault]:
    """Returns a fault for each burst whose number of frames is not the most frequent one."""
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
