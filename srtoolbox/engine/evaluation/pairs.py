"""Finds the images of two folders that belong together, and checks their files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from srtoolbox.data.files.checks import examine_file, report_faults
from srtoolbox.data.files.find import Fault
from srtoolbox.data.files.image_info import PLAIN, ImageInfo, ReadOptions, bands_text
from srtoolbox.data.files.reader import IMAGE_SUFFIXES, MASK_OPTIONS, open_file
from srtoolbox.data.files.walk import LeftOut, composed, name_template, natural, walk
from srtoolbox.errors import UserError
from srtoolbox.utils.cpu import map_threads

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class Bands:
    """The bands of results and ground truth that are read.

    Args:
        of_both: Numbers from 1 of the bands to read, in this order; None: all.
        of_gt: Those of the ground truth; None: as ``of_both``.
        any_number: Without these, allow any number of bands, the same in all files of a folder;
            otherwise grey and RGB.

    Raises:
        UserError: if the numbers are not different, or less than 1.
    """

    of_both: Sequence[int] | None = None
    of_gt: Sequence[int] | None = None
    any_number: bool = False

    def options(
        self, shared: ReadOptions, results: Sequence[Path], truths: Sequence[Path]
    ) -> tuple[ReadOptions, ReadOptions]:
        """Returns how results and ground truth are read.

        Args:
            shared: The options of both.
            results: The files of the results.
            truths: The files of the ground truth.
        """
        of_gt = self.of_both if self.of_gt is None else self.of_gt
        return self._side(shared, self.of_both, results), self._side(shared, of_gt, truths)

    def _side(
        self, shared: ReadOptions, bands: Sequence[int] | None, paths: Sequence[Path]
    ) -> ReadOptions:
        if bands is not None:
            return replace(shared, bands=tuple(bands))
        if self.any_number:
            for path in paths:
                with suppress(UserError, OSError):  # the check of the files reports it
                    stored = open_file(path, replace(shared, bands=(1,), any_range=True)).stored
                    many = stored.channels not in (1, 3)
                    return replace(shared, channels=stored.channels) if many else shared
        return shared


class Pair(NamedTuple):
    """A result and its ground truth.

    Attributes:
        key: Stem of the ground truth; in clips ``clip/frame``.
        position: Index of the frame in the clip's ground truth.
        sr: File of the result.
        gt: File of the ground truth.
        mask: File of the mask of the ground truth, if there are masks.
    """

    key: str
    position: int
    sr: Path
    gt: Path
    mask: Path | None = None


_Side = dict[str, dict[str, Path]]  # files by clip and frame; images without clips in clip ""


def pair_files(
    sr: Path,
    gt: Path,
    *,
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    skip_frames: int = 0,
    shared: ReadOptions = PLAIN,
    bands: Bands | None = None,
    mask: Path | None = None,
) -> dict[str, list[Pair]]:
    """Returns the pairs of two folders by clip, in natural order; images without clips in "".

    A folder has either images, or a sub-folder with images for each clip. ``{clip}`` in its path
    stands for the name of a clip where it is not the last part: ``Vid4/{clip}/GT``.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth.
        scale: Super-resolution factor; the ground truth may be larger than the result by less.
        template: Stem of a result, made from that of its ground truth: ``"{}_x4"``.
        subset: Whether ground truth without a result is allowed.
        skip_frames: Frames at each end of a clip that are not scored.
        shared: How all files are read.
        bands: Their bands; None: all of grey and RGB images.
        mask: Folder of masks, which have the names of the ground truth; None: there are none.

    Raises:
        UserError: with all faults, one per line.
    """
    name_template(template, "{frame}", "template")
    faults: list[Fault] = []
    truths, results = _collect(gt, "{}", faults), _collect(sr, template, faults)
    masks = {} if mask is None else _collect(mask, "{}", faults)
    if not (truths and results):
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    if ("" in truths) != ("" in results):
        flat, deep = (gt, sr) if "" in truths else (sr, gt)
        raise UserError(
            f"{flat} has images, but {deep} has a folder for each clip; give two folders with the "
            "same structure, or write {clip} where the names of clips are, as in DIR/{clip}/GT"
        )
    clips: dict[str, list[Pair]] = {}
    for clip in sorted({*truths, *results}, key=natural):
        truth, result = truths.get(clip, {}), results.get(clip, {})
        frames = sorted(truth, key=natural)
        skip = skip_frames if clip else 0
        wanted = range(skip, len(frames) - skip)
        faults += [
            Fault(path, "missing partner", f"has no ground truth '{frame}' in {gt}")
            for frame, path in sorted(result.items())
            if frame not in truth
        ]
        missing = [frames[i] for i in wanted if frames[i] not in result and not subset]
        hint = "--subset scores the existing results"
        if clip and missing and not result:
            text = f"clip '{clip}' has no result; {hint}"
            faults.append(Fault(truth[missing[0]].parent, "missing partner", text))
            missing = []
        for frame in missing:
            text = f"has no result '{template.replace('{}', frame)}'; {hint}"
            faults.append(Fault(truth[frame], "missing partner", text))
        prefix = f"{clip}/" if clip else ""
        of_clip = masks.get(clip, {})
        clips[clip] = [
            Pair(prefix + frames[i], i, result[frames[i]], truth[frames[i]], of_clip.get(frames[i]))
            for i in wanted
            if frames[i] in result
        ]
        if mask is not None:
            faults += [
                Fault(pair.gt, "missing mask", f"has no mask in {mask}")
                for pair in clips[clip]
                if pair.mask is None
            ]
    all_pairs = [pair for pairs in clips.values() for pair in pairs]
    faults += _check(all_pairs, scale, shared, bands or Bands())
    if faults:
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    return {clip: pairs for clip, pairs in clips.items() if pairs}


def _collect(folder: Path, template: str, faults: list[Fault]) -> _Side:
    """Returns the images of a folder; adds faults."""
    root = Path(*takewhile(lambda part: "{clip}" not in part, folder.parts))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    below = folder.relative_to(root).as_posix()
    if below == ".":
        flat = any(file.suffix.lower() in IMAGE_SUFFIXES for file in root.iterdir())
        below = "" if flat else "{clip}"
    name = name_template(template, "{frame}", "template")
    side: _Side = {}
    left_out = LeftOut()
    for found in walk(f"{below}/{name}" if below else name, root, 1, faults, left_out=left_out):
        clip = composed(found.key) if below else ""
        path = Path(found.path)
        other = side.setdefault(clip, {}).setdefault(composed(found.frame), path)
        if other != path:
            text = f"has the same stem as {other.name}; remove one of them"
            faults.append(Fault(path, "duplicate stem", text))
    if not side:
        named = "" if template == "{}" else f" named {template}"
        if below == "{clip}":  # files beside the folders of clips
            list(walk(name, root, 1, [], left_out=left_out))
        text = f"no images{named} here or in its folders{left_out.clause()}"
        text += "; write {clip} where clips' names are"
        faults.append(Fault(folder, "no files", text))
    elif text := left_out.describe():
        _log.warning("%s: left out: %s", folder, text)
    return side


def _check(pairs: Sequence[Pair], scale: int, shared: ReadOptions, bands: Bands) -> Iterator[Fault]:
    """Yields the faults of the files themselves, read from their headers."""
    results, truths = [pair.sr for pair in pairs], [pair.gt for pair in pairs]
    of_results, of_truths = bands.options(shared, results, truths)
    infos = zip(
        pairs,
        map_threads(partial(examine_file, options=of_results), results),
        map_threads(partial(examine_file, options=of_truths), truths),
        strict=True,
    )
    for pair, sr, gt in infos:
        if isinstance(sr, Fault) or isinstance(gt, Fault):
            faults = [info for info in (sr, gt) if isinstance(info, Fault)]
            yield from (_of_bands(fault, bands) for fault in faults)
        elif sr.channels == 1 and gt.channels == 3:
            yield Fault(pair.sr, "wrong channels", f"is grey, but {pair.gt} is RGB")
        elif sr.channels != gt.channels and (sr.channels, gt.channels) != (3, 1):
            text = (
                f"is {bands_text(sr.channels)}, but {pair.gt} is {bands_text(gt.channels)}; choose "
                "bands with --bands and --bands-gt"
            )
            yield Fault(pair.sr, "wrong channels", text)
        elif not (0 <= gt.width - sr.width < scale and 0 <= gt.height - sr.height < scale):
            text = (
                f"is {sr.width}×{sr.height}, but {pair.gt} is {gt.width}×{gt.height} (it may be "
                f"larger by less than the scale, {scale})"
            )
            yield Fault(pair.sr, "wrong size", text)
        elif pair.mask is not None:
            yield from _mask_faults(pair.mask, pair.gt, gt)


def _of_bands(fault: Fault, bands: Bands) -> Fault:
    """Returns the fault with the options of the command for files of too many bands."""
    found = re.match(r"\d+ channels; expected 1 \(grey\) or 3 \(RGB\)", fault.text)
    if found is None or bands.any_number:
        return fault
    convert = ", an alpha channel is dropped by --convert rgb" if found[0][0] in "24" else ""
    text = (
        f"{found[0]}, as the protocol does; --protocol bands scores all bands, --bands 3 2 1 three "
        f"of them{convert}"
    )
    return replace(fault, text=text)


def _mask_faults(path: Path, truth: Path, gt: ImageInfo) -> Iterator[Fault]:
    mask = examine_file(path, options=MASK_OPTIONS)
    if isinstance(mask, Fault):
        yield mask
    elif mask.size != gt.size:
        text = f"is {mask.width}×{mask.height}, but {truth} is {gt.width}×{gt.height}"
        yield Fault(path, "wrong size", text)
