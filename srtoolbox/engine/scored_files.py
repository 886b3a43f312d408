"""Which finished image belongs to which ground truth, and every fault of the two folders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from srtoolbox.data.checks import report_faults
from srtoolbox.data.find import Fault
from srtoolbox.data.image_info import ImageFault, ImageInfo
from srtoolbox.data.layouts_base import Files
from srtoolbox.data.reader import IMAGE_SUFFIXES, image_info
from srtoolbox.data.threads import map_threads
from srtoolbox.data.walk import natural, walk
from srtoolbox.errors import UserError

_Side = dict[str, dict[str, Path]]  # files by clip and frame; images by themselves in clip ""


class Pair(NamedTuple):
    """A result and its ground truth.

    Attributes:
        key: Stem of the ground truth, of clips as ``clip/frame``.
        position: Of the frame among the clip's ground truth.
        sr: File of the result.
        gt: File of the ground truth.
    """

    key: str
    position: int
    sr: Path
    gt: Path


def pair_files(
    sr: Path,
    gt: Path,
    *,
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    skip_frames: int = 0,
) -> dict[str, list[Pair]]:
    """The pairs of two folders in natural order, by clip; images that lie in no clip are in "".

    A folder holds images, or else a sub-folder for each clip; ``{clip}`` in it says where those
    are: ``Vid4/{clip}/GT``.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth.
        scale: Of the results; the ground truth may be larger by less.
        template: Stem of a result from that of its ground truth: ``"{}_x4"``.
        subset: Whether there may be ground truth without a result.
        skip_frames: Frames at each end of a clip that need no result and are not paired.

    Raises:
        UserError: with every fault, one a line.
    """
    if "{}" not in template:
        raise UserError(
            f"template '{template}' must hold {{}}, the place of the ground truth's stem"
        )
    faults: list[Fault] = []
    truths, results = _collect(gt, "{}", faults), _collect(sr, template, faults)
    if not (truths and results):
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    if ("" in truths) != ("" in results):
        flat, deep = (gt, sr) if "" in truths else (sr, gt)
        raise UserError(
            f"{flat} holds images, {deep} a folder for each clip; give two of a kind, or say with "
            "{clip} where the clips are, as in DIR/{clip}/GT"
        )
    pairs: dict[str, list[Pair]] = {}
    for clip in sorted({*truths, *results}, key=natural):
        truth, result = truths.get(clip, {}), results.get(clip, {})
        frames = sorted(truth, key=natural)
        skip = skip_frames if clip else 0
        wanted = range(skip, len(frames) - skip)
        faults += _strangers(truth, result, gt)
        if not subset:
            faults += _lacking(clip, [frames[i] for i in wanted], truth, result, template)
        pairs[clip] = [
            Pair(
                f"{clip}/{frames[i]}" if clip else frames[i], i, result[frames[i]], truth[frames[i]]
            )
            for i in wanted
            if frames[i] in result
        ]
    faults += _check([pair for some in pairs.values() for pair in some], scale)
    if faults:
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    return {clip: some for clip, some in pairs.items() if some}


def _collect(folder: Path, template: str, faults: list[Fault]) -> _Side:
    """The images of one side."""
    root = Path(*takewhile(lambda part: "{clip}" not in part, folder.parts))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    below = folder.relative_to(root).as_posix()
    if below == ".":
        flat = any(file.suffix.lower() in IMAGE_SUFFIXES for file in root.iterdir())
        below = "" if flat else "{clip}"
    files = Files(below, template.replace("{}", "{frame}"))
    side: _Side = {}
    for found in walk(files, root, 1, faults):
        clip = found.key if below else ""
        path = Path(found.path)
        other = side.setdefault(clip, {}).setdefault(found.frame, path)
        if other != path:
            text = f"stands for the same image as {other.name}; remove one of them"
            faults.append(Fault(path, "duplicate stem", text))
    if not side:
        named = "" if template == "{}" else f" named {template}"
        text = f"no images{named} here, nor in its folders; {{clip}} says where clips are"
        faults.append(Fault(folder, "no files", text))
    return side


def _strangers(truth: dict[str, Path], result: dict[str, Path], gt: Path) -> list[Fault]:
    return [
        Fault(path, "missing partner", f"has no ground truth '{frame}' in {gt}")
        for frame, path in sorted(result.items())
        if frame not in truth
    ]


def _lacking(
    clip: str,
    wanted: list[str],
    truth: dict[str, Path],
    result: dict[str, Path],
    template: str,
) -> list[Fault]:
    if clip and wanted and not result:
        text = f"clip '{clip}' has no result; --subset scores what there is"
        return [Fault(truth[wanted[0]].parent, "missing partner", text)]
    return [
        Fault(
            truth[frame],
            "missing partner",
            f"has no result '{template.replace('{}', frame)}'; --subset scores what there is",
        )
        for frame in wanted
        if frame not in result
    ]


def _check(pairs: Sequence[Pair], scale: int) -> list[Fault]:
    """What is wrong with the files themselves, by their headers."""
    infos = map_threads(_examine, [path for pair in pairs for path in (pair.sr, pair.gt)])
    faults = []
    for pair, sr, gt in zip(pairs, infos, infos, strict=True):
        unreadable = [one for one in (sr, gt) if isinstance(one, Fault)]
        if unreadable:
            faults += unreadable
        elif sr.channels == 1 and gt.channels == 3:
            faults.append(Fault(pair.sr, "wrong channels", f"is grey, but {pair.gt} is RGB"))
        elif not all(0 <= b - a < scale for a, b in zip(sr[1:3], gt[1:3], strict=True)):
            text = (
                f"is {sr.width}×{sr.height}, but {pair.gt} is {gt.width}×{gt.height} (it may be "
                f"larger by less than the scale, {scale})"
            )
            faults.append(Fault(pair.sr, "wrong size", text))
    return faults


def _examine(path: Path) -> ImageInfo | Fault:
    try:
        return image_info(path)
    except ImageFault as fault:
        return Fault(path, fault.kind, str(fault).removeprefix(f"{path}: "))
    except OSError as error:
        return Fault(path, "unreadable", f"cannot be read ({error.strerror})")
