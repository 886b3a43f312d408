"""Draws a study's images: enlarged regions, error maps and temporal profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from srtoolbox.comparison.report.crops import Picture, Profile
from srtoolbox.comparison.report.style import ACCENT, QUIET, in_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERROR_COLORS = "magma"
_MAX_CELLS_PER_LINE = 5
_MAX_MAPS_PER_LINE = 7

# Lengths in inches
_WIDTH, _MARGIN, _GAP = 11.0, 0.12, 0.07
_TITLE = 0.36  # height of the two lines above an image
_SHEET_GAP = 0.16  # between the crops of two pictures
_ROW_GAP = 0.1  # between the error maps or profiles of two pictures
_COLOR_BAR = 0.55  # width, with labels
_FRAME_WIDTH = 3.6  # of the frame beside a profile
_NAME_WIDTH = 1.35  # of the names between the frame and the profiles


@in_style()
def draw_crops(pictures: Sequence[Picture]) -> Figure | None:
    """Draws each picture with its region marked, and the region of every version beside it.

    Returns None without pictures.
    """
    from matplotlib.patches import Rectangle  # slow to import

    if not pictures:
        return None
    sheets = []
    for picture in pictures:
        cells = list(picture.cells.items())
        lines = 2 if len(cells) > _MAX_CELLS_PER_LINE else 1
        across = -(-len(cells) // lines)
        height, width = picture.gt.shape[:2]
        room = _WIDTH - 2 * _MARGIN - _GAP * across
        # The whole image is as high as the crops beside it, titles included.
        side = (room - width / height * ((lines - 1) * (_TITLE + _GAP))) / (
            across + lines * width / height
        )
        tall = lines * side + (lines - 1) * (_TITLE + _GAP)
        sheets.append((picture, cells, across, side, tall))
    total = sum(_TITLE + tall + _SHEET_GAP for *_, tall in sheets) - _SHEET_GAP
    page = _Page(total + 2 * _MARGIN)
    top = _MARGIN
    for picture, cells, across, side, tall in sheets:
        wide = tall * picture.gt.shape[1] / picture.gt.shape[0]
        axis = page.show(picture.gt, _MARGIN, top + _TITLE, wide, tall)
        page.title(_MARGIN, top + _TITLE, picture.key, picture.dataset, wide)
        if picture.shown is not None:
            page.text(_MARGIN, top + _TITLE + tall + 0.03, picture.shown.text, size=6, va="top")
        y, x, side_of_region = picture.region
        for color, width in (("white", 3.2), (ACCENT, 1.8)):  # visible on dark and bright images
            shape = (x - 0.5, y - 0.5), side_of_region, side_of_region
            axis.add_patch(Rectangle(*shape, fill=False, ec=color, lw=width))
        for i, (name, image) in enumerate(cells):
            x = _MARGIN + wide + _GAP + (i % across) * (side + _GAP)
            y = top + _TITLE + (i // across) * (side + _TITLE + _GAP)
            page.show(picture.crop(image), x, y, side, side)
            page.title(x, y, name, picture.captions.get(name, ""), side)
        top += _TITLE + tall + _SHEET_GAP
    return page.figure


@in_style()
def draw_errors(pictures: Sequence[Picture]) -> Figure | None:
    """Draws the absolute error of every method, with one colour scale per picture.

    Returns None without pictures.
    """
    if not pictures:
        return None
    across = max(len(picture.results) for picture in pictures)
    lines = 1 if across <= _MAX_MAPS_PER_LINE else 2
    across = -(-across // lines)
    wide = (_WIDTH - 2 * _MARGIN - _COLOR_BAR - _GAP * across) / across
    heights = [wide * p.gt.shape[0] / p.gt.shape[1] + _TITLE for p in pictures]
    page = _Page(sum(heights) * lines + 2 * _MARGIN + _ROW_GAP * len(pictures))
    top = _MARGIN
    for picture, height in zip(pictures, heights, strict=True):
        maps, level = picture.errors()
        axis = None
        for i, (name, error) in enumerate(maps.items()):
            x, y = _MARGIN + (i % across) * (wide + _GAP), top + i // across * height + _TITLE
            axis = page.show(error, x, y, wide, height - _TITLE, cmap=ERROR_COLORS, clim=(0, level))
            page.title(x, y, name, picture.key if i == 0 else "", wide)
        if axis is not None:
            label = "mean |error|, levels of 255"
            if picture.shown is not None:
                label = f"mean |error| of {picture.shown.num_band} bands, levels of 255"
            page.scale(axis, top + _TITLE, height - _TITLE, label)
        top += height * lines + _ROW_GAP
    return page.figure


@in_style()
def draw_profiles(profiles: Sequence[Profile]) -> Figure | None:
    """Draws one frame of each clip with a line, and the pixels of that line in all frames.

    Returns None without profiles.
    """
    if not profiles:
        return None
    wide = _WIDTH - 2 * _MARGIN - _FRAME_WIDTH - _NAME_WIDTH
    sheets = []
    for profile in profiles:
        height, width = profile.picture.shape[:2]
        tall = _FRAME_WIDTH * height / width
        band = max(0.3, min(0.55, wide * len(profile.slices["GT"]) / width * 3))
        room = max(len(profile.slices) * (band + _GAP), tall) + _TITLE + _ROW_GAP
        sheets.append((profile, tall, band, room))
    page = _Page(sum(room for *_, room in sheets) + 2 * _MARGIN)
    top = _MARGIN
    for profile, tall, band, room in sheets:
        axis = page.show(profile.picture, _MARGIN, top + _TITLE, _FRAME_WIDTH, tall)
        axis.axhline(profile.row, color=ACCENT, linewidth=1.5)
        frames = f"{len(profile.slices['GT'])} frames, time downwards"
        page.title(_MARGIN, top + _TITLE, profile.clip, frames, _FRAME_WIDTH)
        for i, (name, rows) in enumerate(profile.slices.items()):
            y = top + _TITLE + i * (band + _GAP)
            x = _MARGIN + _FRAME_WIDTH + _NAME_WIDTH
            page.show(rows, x, y, wide, band)
            page.text(x - 0.08, y + band / 2, name, ha="right", va="center")
        top += room
    return page.figure


class _Page:
    """A figure with images at positions in inches from its upper left corner."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure  # slow to import

        self.height = height
        self.figure = Figure(figsize=(_WIDTH, height), facecolor="white")

    def show(
        self, image: np.ndarray, x: float, y: float, wide: float, tall: float, **options: Any
    ) -> Axes:
        """Draws an image without axes; ``options`` are those of ``imshow``."""
        axis = self._axis(x, y, wide, tall)
        axis.imshow(image, interpolation="nearest", aspect="auto", **options)
        axis.set_axis_off()
        return axis

    def scale(self, axis: Axes, y: float, tall: float, label: str) -> None:
        """Draws the colour scale of an image at the right margin."""
        bar = self._axis(_WIDTH - _MARGIN - 0.5, y, 0.11, tall)
        self.figure.colorbar(axis.images[0], cax=bar)
        bar.tick_params(labelsize=6.5, colors=QUIET, length=2)
        bar.set_ylabel(label, fontsize=6, color=QUIET)
        bar.spines[:].set_visible(False)

    def title(self, x: float, y: float, name: str, caption: str, wide: float) -> None:
        """Draws two lines above an image: its name, and a caption in smaller type."""
        self.text(x, y - 0.18, _short(name, wide), weight="bold", va="bottom")
        self.text(x, y - 0.04, _short(caption, wide), size=7, color=QUIET, va="bottom")

    def text(self, x: float, y: float, text: str, size: float = 7.5, **options: Any) -> None:
        """Draws one line of text; ``options`` are those of ``Figure.text``."""
        self.figure.text(x / _WIDTH, 1 - y / self.height, text, size=size, **options)

    def _axis(self, x: float, y: float, wide: float, tall: float) -> Axes:
        place = x / _WIDTH, 1 - (y + tall) / self.height, wide / _WIDTH, tall / self.height
        return self.figure.add_axes(place)


def _short(text: str, inches: float) -> str:
    """Returns text cut to the number of characters that fit into a width."""
    length = max(6, int(inches * 13.5))
    return text if len(text) <= length else text[: length - 1] + "…"
