"""Data classes that describe the file layout of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from srtoolbox.errors import UserError

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Split:
    """One possible arrangement of the files of a split of a dataset.

    The HR and LR files are given by templates of their paths, relative to the root of the dataset
    and without suffix: a file may have any image suffix. ``{clip}`` is the name of a clip or burst;
    on two folder levels (``{clip}/{clip}``) the name has two parts. ``{frame}`` is the name of a
    frame of a clip, ``{stem}`` the name of an image, ``{scale}`` the number, and ``{any}`` any
    text. ``{clip}{-any}`` is a folder that has the name of a burst, or that name, a hyphen and any
    text; such names have no hyphen.

    Args:
        gt: Template of the ground truth; None if it is not published.
        lq: Template of the LR files; None if they are made from HR.
        only: Names of the items that belong to the split; empty means all.
        without: Names of items that do not belong to it.
        listing: Text file, relative to the root, that names the items, one per line.
        num_item: Number of images, clips or bursts of the complete split.
        num_frame: Number of frames of each clip or burst.
        mask: Template of the masks of the ground truth, one for each of its files: a pixel counts
            where the mask is not 0. None: all pixels count.
        lq_mask: Template of the status maps of the frames of bursts, with ``{frame}``: a pixel is
            clear where the map is not 0. Frames are then used in the order of their numbers of
            clear pixels, and bursts may have different numbers of frames.
        middle_only: Whether the clips may be those of Vimeo-90K with a ground truth for the middle
            frame only: im2 of im1 to im3, or im4 of im1 to im7, in every clip of the split.
    """

    gt: str | None
    lq: str | None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    listing: str | None = None
    num_item: int | None = None
    num_frame: int | None = None
    mask: str | None = None
    lq_mask: str | None = None
    middle_only: bool = False


def arrangements(*templates: tuple[str | None, str | None], **facts: Any) -> tuple[Split, ...]:
    """Returns a `Split` for each pair of HR and LR templates; ``facts`` are its other arguments."""
    return tuple(Split(gt, lq, **facts) for gt, lq in templates)


@dataclass(frozen=True)
class Layout:
    """Everything that the toolbox knows about a dataset.

    Pixels become intensities by ``(stored - black_level) / white_level``; a ``white_level`` of None
    means the largest value of the file's type.

    Args:
        name: Name in option files.
        kind: Kind of the items.
        title: Name in papers.
        splits: For each split the arrangements in which its files may be found; complete ones
            first.
        paper: Publication that introduced the dataset.
        licence: Terms of use; "not stated" if they are not known.
        source: Where to get the dataset.
        scales: Scales of the LR files; empty means any. The LR frames of RAW bursts are packed
            (RGGB as four channels) and therefore smaller by another factor of two.
        gt_size: (H, W), if it is the same for all items.
        lq_size: (h, w), if it is the same for all items.
        bit_depth: Bit depth of the LR pixels, which may be less than that of the file's type.
        raw: Whether LR is packed RAW.
        channels: Number of bands of the files; None: grey or RGB, or it varies.
        bands: Bands of LR to use unless the options state others.
        bands_gt: Bands of HR to use with ``bands``.
        white_level: White level of the LR files; of all files, unless LR is packed RAW.
        black_level: Black level of the LR files.
        gt_white_level: White level of the ground truth.
        edge: Border rule for LR made by the toolbox.
        round_between_passes: Rounding rule for LR made by the toolbox.
        degradation: Description of how the LR files were made.
        wrong_scale: Advice if the sizes of HR and LR files do not fit the scale.
        note: Other facts for the user, and which facts are uncertain.
    """

    name: str
    kind: Literal["image", "clip", "burst"]
    title: str
    splits: dict[str, tuple[Split, ...]]
    paper: str = ""
    licence: str = ""
    source: str = "your own"
    scales: tuple[int, ...] = ()
    gt_size: tuple[int, int] | None = None
    lq_size: tuple[int, int] | None = None
    bit_depth: int = 8
    raw: bool = False
    channels: int | None = None
    bands: tuple[int, ...] | None = None
    bands_gt: tuple[int, ...] | None = None
    white_level: int | None = None
    black_level: int = 0
    gt_white_level: int | None = None
    edge: Literal["replicate", "symmetric"] = "replicate"
    round_between_passes: bool = True
    degradation: str = NOT_STATED
    wrong_scale: str = ""
    note: str = ""

    def without_lq(self) -> Layout:
        """Returns the layout of the HR files alone; LR files and their scales do not matter."""
        splits = {
            name: tuple(replace(split, lq=None) for split in found if split.gt is not None)
            for name, found in self.splits.items()
        }
        return replace(self, splits=splits)

    def check_split(self, split: str) -> None:
        """Raises a UserError, with all splits, if the dataset has no such split."""
        if split not in self.splits:
            raise UserError(
                f"layout '{self.name}' has no split '{split}'; it has {', '.join(self.splits)}"
            )

    def check_scale(self, scale: int) -> None:
        """Raises a UserError, with all scales, if the dataset has no LR files of that scale."""
        if self.scales and scale not in self.scales:
            known = ", ".join(map(str, self.scales))
            raise UserError(f"layout '{self.name}': scale is one of {known}, got {scale}")
