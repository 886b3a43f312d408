"""From a folder of files to a dataset that can be trained on: found, checked, complete, decoded.

Everything that takes long can be interrupted at any instant; the same call goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.datasets.source import find_items
from srtoolbox.data.files.checks import check_items
from srtoolbox.data.files.find import Fault
from srtoolbox.data.files.image_info import ImageFault
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.data.prepare.examine import counting, headers, report_by_kind, without_lq
from srtoolbox.data.prepare.make_lr import make_lr as write_lr
from srtoolbox.data.prepare.satellite import generate_satellite_clips
from srtoolbox.data.prepare.sbsr import generate_sbsr
from srtoolbox.data.prepare.summary import TRAINED, Part, Prepared, folder_name
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")

DATASETS = Path("datasets")  # where the option files look, from the working directory
CACHE = DATASETS / ".cache"
GENERATORS = {"sbsr": generate_sbsr, "satellite_clips": generate_satellite_clips}
"""What makes a dataset of photographs, by its layout; NAME.json lies in the folder of each."""


def prepare(
    name: str,
    source: Path,
    *,
    out: Path | None = None,
    scale: int = 4,
    splits: Sequence[str] = (),
    make_lr: bool = False,
    cache: Path | None = CACHE,
) -> Prepared:
    """Finds and checks a dataset's files, makes LR files if asked to, decodes what is trained on.

    Args:
        name: Layout of the files; bursts of ``sbsr`` and ``satellite_clips`` are made first.
        source: Folder of the files; for those two of the photographs.
        out: Folder for what is made: LR files (default: beside the HR files), bursts or clips
            (default: where the option files look for them).
        scale: Factor of the LR files.
        splits: Which parts; by default all that are there. Those named are decoded, otherwise those
            that are trained on.
        make_lr: Whether to write LR files where there are none.
        cache: Folder for decoded images; None: they are not kept.

    Raises:
        UserError: names everything that is wrong with the files; nothing was built then.
        RunError: if the disk is full; what was made so far stays and is gone on from.
    """
    layout = get_layout(name)
    for split in splits:
        if split not in layout.splits:
            has = ", ".join(layout.splits)
            raise UserError(f"layout '{layout.name}' has no split '{split}'; it has {has}")
    if layout.scales and scale not in layout.scales:
        known = ", ".join(map(str, layout.scales))
        raise UserError(f"layout '{layout.name}': scale is one of {known}, got {scale}")
    if layout.name in GENERATORS and not (source / f"{layout.name}.json").is_file():
        source = _generate(layout, source, out or DATASETS / folder_name(layout) / "train", scale)
    elif make_lr and layout.kind == "burst":
        raise UserError(f"layout '{name}': --make-lr is for images and clips, not for bursts")
    elif out is not None and not make_lr:
        raise UserError(
            "--out is the folder for files that are made; add --make-lr or leave it out"
        )
    root_lq = None
    made: dict[str, int] = {}
    if make_lr:
        root_lq = out if out is not None and out.resolve() != source.resolve() else None
        made = _make_lr(layout, source, out or source, scale, splits)
    parts, missing = _find(layout, source, scale, splits, root_lq)
    decoded = [
        part
        for part in parts
        if cache is not None and (part.split in TRAINED or splits) and part.items[0].gt
    ]
    # What is going to be decoded need not be decoded to check it.
    rest = [part for part in parts if part not in decoded]
    if faults := [*_faults(layout, rest, scale, True), *_faults(layout, decoded, scale, False)]:
        _refuse(layout, source, [*faults, *_faults(layout, decoded, scale, True)])
    for part in parts:
        part.made = made.get(part.split)
        part.gt = headers([path for item in part.items for path in item.gt])
        part.lq = headers([path for item in part.items for path in item.lq], layout.raw)
    for part in decoded:
        try:
            _decode(layout, part, cache)
        except ImageFault:  # broken between its header and its end: others may be too
            _refuse(layout, source, _faults(layout, decoded, scale, True))
            raise
    notes = [*(note for part in parts for note in part.notes(layout)), *missing]
    own = layout.source == "your own" or layout.name in GENERATORS
    root = source if own else _link(layout, source)
    return Prepared(layout, root, root_lq, scale, cache, parts, notes)


def _find(
    layout: Layout, source: Path, scale: int, splits: Sequence[str], root_lq: Path | None = None
) -> tuple[list[Part], list[str]]:
    """The splits that are there, and a note on each of the others."""
    parts, faults, missing = [], [], []
    nothing: list[Fault] = []
    for split in splits or layout.splits:
        items, met = find_items(layout, str(source), split, scale, root_lq and str(root_lq))
        absent = [fault for fault in met if fault.kind == "no files"]
        if not items and absent == met and not splits:
            nothing += absent
            missing.append(f"split '{split}' is not here; it is at: {layout.source}")
            continue
        faults += met
        if items:
            parts.append(Part(split, items))
    if not parts and not faults:
        faults = nothing
    if faults:  # those of names and places; the rest is said with them
        _refuse(layout, source, [*faults, *_faults(layout, parts, scale, True)])
    return parts, missing


def _faults(layout: Layout, parts: Sequence[Part], scale: int, deep: bool) -> list[Fault]:
    faults = []
    for part in parts:
        with counting(f"checking {part.split}") as progress:
            faults += check_items(
                part.items,
                scale=scale,
                kind=layout.kind,
                raw=layout.raw,
                deep=deep,
                progress=progress,
            )
    return faults


def _refuse(layout: Layout, source: Path, faults: Sequence[Fault]) -> None:
    """Does nothing if there are no faults.

    Raises:
        UserError: names all of them.
    """
    if faults:
        report = report_by_kind(faults, f"{layout.name} in {source}")
        raise UserError(f"{report}\nnothing was built; put these right and run the same again")


def _make_lr(
    layout: Layout, source: Path, out: Path, scale: int, splits: Sequence[str]
) -> dict[str, int]:
    """Writes missing LR files; how many by split."""
    bare = without_lq(layout)
    parts, _ = _find(bare, source, scale, splits)
    if faults := _faults(bare, parts, scale, False):
        _refuse(bare, source, [*faults, *_faults(bare, parts, scale, True)])
    made = {}
    for part in parts:
        try:
            with counting(f"making LR of {part.split}") as progress:
                made[part.split] = write_lr(
                    layout, part.split, part.items, source, out, scale, progress
                )
        except ImageFault:
            _refuse(bare, source, _faults(bare, parts, scale, True))
            raise
    return made


def _generate(layout: Layout, source: Path, out: Path, scale: int) -> Path:
    """Makes the bursts or clips of all images below ``source`` that have none; returns ``out``."""
    plain = without_lq(get_layout("folder"))
    parts, _ = _find(plain, source, scale, ())
    _refuse(plain, source, _faults(plain, parts, scale, True))
    images = [path for part in parts for item in part.items for path in item.gt]
    with counting(f"making {layout.kind}s") as progress:
        made = GENERATORS[layout.name](images, out, scale=scale, progress=progress)
    _log.info("made %d %ss in %s; those that were there were kept", made, layout.kind, out)
    return out


def _decode(layout: Layout, part: Part, cache: Path) -> None:
    """Builds the cache as the datasets do: HR and LR files apart."""
    gt = [path for item in part.items for path in item.gt]
    lq = [path for item in part.items for path in item.lq]
    open_pixels(gt, cache)
    if lq:
        open_pixels(lq, cache, raw=layout.raw)
    part.cache = part.decoded


def _link(layout: Layout, source: Path) -> Path:
    """The folder that the option files name, made a link to ``source`` if there is none yet.

    If it cannot be made, or is another folder, ``source`` itself.
    """
    link = DATASETS / folder_name(layout)
    try:
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve(), target_is_directory=True)
            _log.info("linked %s to %s", link, source)
        return link if link.samefile(source) else source
    except OSError as error:
        _log.warning("%s: not linked (%s); name the folder itself", link, error.strerror)
        return source
