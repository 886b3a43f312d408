"""The words in which the layout of a dataset is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Files:
    """Where one side, HR or LR, of an arrangement lies, as templates.

    ``{clip}`` is the name of a clip or burst, and over two folder levels (``{clip}/{clip}``) both
    parts of it; ``{frame}`` and ``{stem}`` are what tells the frames of a clip, or the images,
    apart; ``{scale}`` is the number, ``{any}`` any text. A file may have any image suffix.

    Args:
        folder: Folder relative to the root of the dataset; "" is the root.
        name: File name without its suffix.
    """

    folder: str
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True)
class Split:
    """One arrangement of the files of one part of a dataset.

    Args:
        gt: Ground truth; None where it is not published.
        lq: LR files; None where they are to be made.
        only: The items that belong to the split, by name; empty means all.
        without: Items that do not.
        listing: Text file, relative to the root, that names the items, one a line.
        num_item: How many images, clips or bursts the complete split has.
        num_frame: How many frames each of its clips or bursts has.
    """

    gt: Files | None
    lq: Files | None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    listing: str | None = None
    num_item: int | None = None
    num_frame: int | None = None


@dataclass(frozen=True)
class Layout:
    """What is to be known of a dataset in order to read it.

    Pixels become intensities by ``(stored - black_level) / white_level``; a ``white_level`` of None
    is the largest value of the file's type.

    Args:
        name: By which option files call it.
        kind: What an item is.
        title: By which papers call it.
        paper: Where it was published.
        licence: Under which terms, "not stated" where they are not known.
        source: Where to get it.
        scales: Factors of the LR files; empty means any. The LR frames of RAW bursts are packed
            (RGGB as four channels) and thus smaller by another factor of two.
        splits: For each part of the dataset the arrangements it is seen in; complete ones first.
        gt_size: (H, W), where it is the same for all.
        lq_size: (h, w), likewise.
        bit_depth: Of the LR files' content, which may be less than their type holds.
        raw: Whether LR is packed RAW.
        white_level: Of the LR files.
        black_level: Of the LR files.
        gt_white_level: Of the ground truth.
        reference: Frame of a burst, or of a clip with one scored frame, that the ground truth is
            aligned with.
        edge: Border rule of the LR files, for LR made here.
        round_between_passes: Rounding rule of the LR files, for LR made here.
        degradation: How the LR files were made.
        note: What else a user should know, and which of this is not certain.
    """

    name: str
    kind: Literal["image", "clip", "burst"]
    title: str
    paper: str
    licence: str
    source: str
    scales: tuple[int, ...]
    splits: dict[str, tuple[Split, ...]]
    gt_size: tuple[int, int] | None = None
    lq_size: tuple[int, int] | None = None
    bit_depth: int = 8
    raw: bool = False
    white_level: int | None = None
    black_level: int = 0
    gt_white_level: int | None = None
    reference: int = 0
    edge: Literal["replicate", "symmetric"] = "replicate"
    round_between_passes: bool = True
    degradation: str = NOT_STATED
    note: str = ""
