"""Prepares a dataset for training: finds and checks its files, makes LR, decodes images.

All long steps can be interrupted at any time; the same call continues from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.datasets.degraded import FIXED_SEED
from srtoolbox.data.datasets.reading import Level, Reading, for_check
from srtoolbox.data.datasets.source import find_items
from srtoolbox.data.files.archives import is_in_archive
from srtoolbox.data.files.checks import check_items
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.files.image_info import ImageFault, ReadOptions
from srtoolbox.data.files.reader import MASK_OPTIONS
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.data.prepare.degrade import DegradationFile, degrade, read_degradation
from srtoolbox.data.prepare.examine import decoded_size, headers, report_by_kind
from srtoolbox.data.prepare.make_lr import make_lr as write_lr
from srtoolbox.data.prepare.multiband import generate_multiband
from srtoolbox.data.prepare.satellite import generate_satellite_clips
from srtoolbox.data.prepare.sbsr import generate_sbsr
from srtoolbox.data.prepare.sbsr_official import generate_sbsr_official
from srtoolbox.data.prepare.sen2venus import convert_sen2venus
from srtoolbox.data.prepare.summary import TRAINED, Part, Prepared, folder_name
from srtoolbox.data.prepare.worldstrat import convert_worldstrat
from srtoolbox.errors import UserError
from srtoolbox.utils.console import progress_bar

_log = logging.getLogger("srtoolbox")

DATASETS = Path("datasets")  # the folder that option files name, relative to the working directory
CACHE = DATASETS / ".cache"
GENERATORS = {
    "sbsr": generate_sbsr,
    "sbsr_official": generate_sbsr_official,
    "satellite_clips": generate_satellite_clips,
    "multiband": generate_multiband,
}
"""Functions that make a dataset from photographs, by layout; each writes LAYOUT.json with it."""
CONVERTERS = {"sen2venus": convert_sen2venus, "worldstrat": convert_worldstrat}
"""Functions that write published files of another form as images, by layout."""


@dataclass(frozen=True)
class _Reading:
    """Decides how files are found and read.

    Args:
        pixels: How images are read.
        recursive: As of ``scan``.
    """

    pixels: Reading
    recursive: bool

    @property
    def convert(self) -> bool:
        """Whether images are converted to RGB."""
        return self.pixels.convert is not None

    def options(self, layout: Layout, items: Sequence[Item]) -> tuple[ReadOptions, ReadOptions]:
        """Returns how HR and LR files are read."""
        return self.pixels.in_layout(layout).options(layout, items)


def prepare(
    name: str,
    source: Path,
    *,
    out: Path | None = None,
    scale: int = 4,
    splits: Sequence[str] = (),
    make_lr: bool = False,
    degradation: str | None = None,
    degradation_seed: int = FIXED_SEED,
    cache: Path | None = CACHE,
    convert: bool = False,
    recursive: bool = False,
    channels: int | None = None,
    bands: Sequence[int] | None = None,
    bands_gt: Sequence[int] | None = None,
    nodata: float | None = None,
    white_level: Level | None = None,
    black_level: Level = 0,
    scale_floats: bool = False,
) -> Prepared:
    """Finds and checks a dataset's files, makes LR files if asked to, decodes training images.

    Args:
        name: Layout of the files; those of a layout in ``GENERATORS`` or ``CONVERTERS`` are made
            first, unless ``source`` has them.
        source: Folder of the files, or of the photographs or files that they are made from.
        out: Folder for generated files: LR files (default: next to the HR files), bursts or clips
            (default: where the option files expect them).
        scale: Scale of the LR files.
        splits: Splits to prepare and decode; by default all that exist are prepared, and those used
            for training are decoded.
        make_lr: Write missing LR files.
        degradation: Make LR files by a random degradation that is fixed by the names of images and
            clips: its name, or an option file with a section ``degradation``; needs ``out``.
        degradation_seed: Selects other degradations.
        cache: Folder for decoded images; None: they are not kept.
        convert: Convert palette, CMYK and 1-bit images to RGB, and drop alpha channels.
        recursive: Also take images, clips and bursts in sub-folders.
        channels: Number of bands of the files; None: that of the layout, or 3. Of the layout
            multiband: number of bands to make (default 4).
        bands: Bands to use, as of the datasets.
        bands_gt: Bands of HR files to use, as of the datasets.
        nodata: Value of missing pixels, as of the datasets. Of the layout multiband: make missing
            pixels of this value.
        white_level: Value that becomes 1, as of the datasets.
        black_level: Value that becomes 0, as of the datasets.
        scale_floats: Levels also apply to floats.

    Raises:
        UserError: names all faults of the files; nothing was built.
        RunError: if the disk is full; finished files stay, and the next call continues from there.
    """
    layout = get_layout(name)
    is_made = layout.name in GENERATORS or layout.name in CONVERTERS
    if convert and (layout.raw or is_made):
        kind = "RAW" if layout.raw else "made from other files"
        raise UserError(f"layout '{name}' is {kind}; remove --convert")
    for split in splits:
        layout.check_split(split)
    layout.check_scale(scale)
    reading = _Reading(Reading(), recursive)
    if degradation is not None and (is_made or layout.kind == "burst" or layout.raw):
        raise UserError(f"layout '{name}': --degradation is for images and clips from files")
    if degradation is not None and (out is None or out.resolve() == source.resolve()):
        raise UserError(
            "--degradation needs --out DIR, a folder of its own for the LR files, so that they are "
            "not mistaken for others"
        )
    degraded = None if degradation is None else read_degradation(degradation)
    make_lr = make_lr or degraded is not None
    if is_made and not _is_made(layout, source, scale, reading):
        options: dict[str, Any] = {}
        if layout.name == "multiband":
            options = {"channels": channels or 4, "nodata": _whole(nodata)}
        source = _generate(layout, source, out, scale, reading, options)
    elif make_lr and out is None and is_in_archive(source):
        raise UserError(
            f"{source}: --make-lr writes no files into an archive; name a folder for them with "
            "--out, or remove --make-lr: LR is then made whenever it is read"
        )
    elif make_lr and layout.kind == "burst":
        raise UserError(f"layout '{name}': --make-lr is for images and clips, not for bursts")
    elif out is not None and not make_lr:
        raise UserError(
            "--out is the folder for LR files that --make-lr writes; add --make-lr or remove --out"
        )
    if channels is None and bands is None:
        channels = _num_band(layout, source)
    pixels = Reading(
        "rgb" if convert else None,
        channels,
        bands,
        bands_gt,
        nodata,
        white_level,
        black_level,
        scale_floats,
    )
    if pixels.levels.changed and layout.raw:
        pixels.check_raw(layout)
    reading = _Reading(pixels, recursive)
    root_lq = None
    made: dict[str, int] = {}
    if make_lr:
        root_lq = out if out is not None and out.resolve() != source.resolve() else None
        rules = degraded, degradation_seed
        made = _make_lr(layout, source, out or source, scale, splits, reading, *rules)
        chosen = pixels.in_layout(layout)
        if degraded is not None and chosen.bands is not None:  # degraded files have no others
            numbers = list(range(1, chosen.num_band + 1))
            bands_gt = chosen.bands_gt if chosen.bands_gt is not None else chosen.bands
            reading = replace(reading, pixels=replace(chosen, bands=numbers, bands_gt=bands_gt))
    parts, missing = _find(layout, source, scale, splits, reading, root_lq)
    decoded = [
        part
        for part in parts
        if cache is not None and (part.split in TRAINED or splits) and part.items[0].gt
    ]
    # Files that will be decoded for the cache need not be decoded for the check.
    rest = [part for part in parts if part not in decoded]
    faults = _faults(layout, rest, scale, True, reading)
    if faults := [*faults, *_faults(layout, decoded, scale, False, reading)]:
        _raise_all(layout, source, [*faults, *_faults(layout, decoded, scale, True, reading)])
    for part in parts:
        part.made = made.get(part.split)
        gt, lq = reading.options(layout, part.items)
        part.masked = gt.nodata is not None
        part.gt = headers([path for item in part.items for path in item.gt], gt)
        part.lq = headers([path for item in part.items for path in item.lq], lq)
    for part in decoded:
        try:
            _decode(layout, part, cache, reading)
        except ImageFault:  # damaged after its header; other files may be damaged, too
            _raise_all(layout, source, _faults(layout, decoded, scale, True, reading))
            raise
    notes = [*(note for part in parts for note in part.notes(layout)), *missing]
    own = layout.source == "your own" or is_made
    root = source if own else _link(layout, source)
    chosen = reading.pixels
    if not layout.raw and chosen.num_band != 3:
        bands_named = "1 band" if chosen.num_band == 1 else f"{chosen.num_band} bands"
        notes.append(f"files of {bands_named} need num_in_ch: {chosen.num_band} in network_g")
    return Prepared(layout, root, root_lq, scale, cache, parts, notes, chosen, recursive)


def _find(
    layout: Layout,
    source: Path,
    scale: int,
    splits: Sequence[str],
    reading: _Reading,
    root_lq: Path | None = None,
) -> tuple[list[Part], list[str]]:
    """Returns the splits that exist, and a note on each missing one."""
    parts, faults, missing = [], [], []
    nothing: list[Fault] = []
    for split in splits or layout.splits:
        items, met = find_items(
            layout, str(source), split, scale, root_lq and str(root_lq), reading.recursive
        )
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
    if faults:  # of names and folders; reported together with those of the files' content
        _raise_all(layout, source, [*faults, *_faults(layout, parts, scale, True, reading)])
    return parts, missing


def _faults(
    layout: Layout, parts: Sequence[Part], scale: int, deep: bool, reading: _Reading
) -> list[Fault]:
    faults = []
    for part in parts:
        with progress_bar(f"checking {part.split}") as progress:
            training = part.split == "train"
            gt, lq = reading.options(layout, part.items)
            faults += check_items(
                part.items,
                layout,
                scale,
                deep=deep,
                training=training,
                options=for_check(gt),
                lq_options=for_check(lq),
                progress=progress,
            )
    return faults


def _raise_all(layout: Layout, source: Path, faults: Sequence[Fault]) -> None:
    """Raises a UserError that names all faults, if there are any."""
    if faults:
        report = report_by_kind(faults, f"{layout.name} in {source}")
        raise UserError(
            f"{report}\nnothing was built; fix these faults and run the same command again"
        )


def _make_lr(
    layout: Layout,
    source: Path,
    out: Path,
    scale: int,
    splits: Sequence[str],
    reading: _Reading,
    degradation: DegradationFile | None,
    seed: int,
) -> dict[str, int]:
    """Writes missing LR files; returns their number by split."""
    bare = layout.without_lq()
    parts, _ = _find(bare, source, scale, splits, reading)
    if faults := _faults(bare, parts, scale, False, reading):
        _raise_all(bare, source, [*faults, *_faults(bare, parts, scale, True, reading)])
    made = {}
    for part in parts:
        try:
            with progress_bar(f"making LR of {part.split}") as progress:
                places = layout, part.split, part.items, source, out, scale
                options = reading.options(layout, part.items)[1]
                if degradation is None:
                    made[part.split] = write_lr(
                        *places, progress, options=options, recursive=reading.recursive
                    )
                else:
                    pixels = reading.pixels.in_layout(layout)
                    made[part.split] = degrade(
                        *places,
                        degradation,
                        channels=pixels.num_band,
                        seed=seed,
                        read_options=options,
                        levels=pixels.levels,
                        recursive=reading.recursive,
                        progress=progress,
                    )
        except ImageFault:
            _raise_all(bare, source, _faults(bare, parts, scale, True, reading))
            raise
    return made


def _is_made(layout: Layout, source: Path, scale: int, reading: _Reading) -> bool:
    """Returns whether ``source`` has files of a layout that is made from photographs."""
    if (source / f"{layout.name}.json").is_file():
        return True
    found = (
        find_items(layout, str(source), split, scale, recursive=reading.recursive)[0]
        for split in layout.splits
    )
    return any(found)


def _generate(
    layout: Layout,
    source: Path,
    out: Path | None,
    scale: int,
    reading: _Reading,
    options: dict[str, Any],
) -> Path:
    """Makes missing images, bursts or clips of the files in ``source``; returns their folder."""
    if convert := CONVERTERS.get(layout.name):
        out = out or DATASETS / folder_name(layout)
        with progress_bar(f"writing {layout.kind}s") as progress:
            made = convert(source, out, scale=scale, progress=progress)
        _log.info("wrote files of %d items in %s; existing ones were kept", made, out)
        return out
    out = out or DATASETS / folder_name(layout) / "train"
    plain = get_layout("folder").without_lq()
    parts, _ = _find(plain, source, scale, (), reading)
    _raise_all(plain, source, _faults(plain, parts, scale, True, reading))
    images = [path for part in parts for item in part.items for path in item.gt]
    with progress_bar(f"making {layout.kind}s") as progress:
        made = GENERATORS[layout.name](images, out, scale=scale, progress=progress, **options)
    _log.info("made %d %ss in %s; existing ones were kept", made, layout.kind, out)
    return out


def _decode(layout: Layout, part: Part, cache: Path | None, reading: _Reading) -> None:
    """Builds the caches that the datasets use: one for HR, one for masks, one for LR."""
    gt_options, lq_options = reading.options(layout, part.items)
    gt = [path for item in part.items for path in item.gt]
    lq = [path for item in part.items for path in item.lq]
    masks = [path for item in part.items for path in item.mask]
    open_pixels(gt, cache, options=gt_options)
    if masks:
        open_pixels(masks, cache, options=MASK_OPTIONS)
    if lq:
        open_pixels(lq, cache, options=replace(lq_options, raw=layout.raw))
    elif gt_options != lq_options:  # LR is made from other bands
        open_pixels(gt, cache, options=lq_options)
    part.cache = decoded_size([*part.gt, *part.lq])


def _num_band(layout: Layout, folder: Path) -> int | None:
    """Returns the number of bands of a layout's files; None: grey or RGB."""
    if layout.name != "multiband":
        return layout.channels
    try:
        card = json.loads((folder / "multiband.json").read_text(encoding="utf-8"))
        return int(card["channels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'multiband.json'}: does not state the number of bands ({error}); give "
            "--channels"
        ) from error


def _whole(nodata: float | None) -> int | None:
    if nodata is not None and nodata != int(nodata):
        raise UserError(f"multiband: nodata must be a whole number, got {nodata:g}")
    return None if nodata is None else int(nodata)


def _link(layout: Layout, source: Path) -> Path:
    """Links the folder that the option files name to ``source``, unless it exists.

    Returns:
        The link, or ``source`` if the link cannot be made or another folder has its name.
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
