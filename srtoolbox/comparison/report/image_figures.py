"""Figures made of a study's images: zoomed crops, error maps and temporal profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from srtoolbox.comparison.report.crops import Picture, Profile
from srtoolbox.comparison.report.style import ACCENT, INK, QUIET, in_style

_WIDTH, _MARGIN, _GAP, _TITLE = 11.0, 0.12, 0.07, 0.36  # inches
ERROR_COLORS = "magma"


@in_style
def draw_crops(pictures: Sequence[Picture]) -> Any | None:
    """Of each picture the whole with a frame, and beside it the framed part of every version.

    None if there are no pictures.
    """
    if not pictures:
        return None
    sheets = []
    for picture in pictures:
        cells = list(picture.cells.items())
        lines = 2 if len(cells) > 5 else 1
        across = -(-len(cells) // lines)
        height, width = picture.gt.shape[:2]
        room = _WIDTH - 2 * _MARGIN - _GAP * across
        # The whole image is as high as the crops beside it, titles included.
        side = (room - width / height * ((lines - 1) * (_TITLE + _GAP))) / (
            across + lines * width / height
        )
        sheets.append((picture, cells, lines, across, side))
    total = sum(lines * (side + _TITLE) + (lines - 1) * _GAP for _, _, lines, _, side in sheets)
    page = _Page(total + 2 * _MARGIN + 0.16 * (len(sheets) - 1))
    top = _MARGIN
    for picture, cells, lines, across, side in sheets:
        tall = lines * side + (lines - 1) * (_TITLE + _GAP)
        wide = tall * picture.gt.shape[1] / picture.gt.shape[0]
        axis = page.show(picture.gt, _MARGIN, top + _TITLE, wide, tall)
        page.title(_MARGIN, top + _TITLE, picture.key, picture.dataset, wide)
        _frame(axis, picture)
        for i, (name, image) in enumerate(cells):
            x = _MARGIN + wide + _GAP + (i % across) * (side + _GAP)
            y = top + _TITLE + (i // across) * (side + _TITLE + _GAP)
            page.show(picture.crop(image), x, y, side, side)
            page.title(x, y, name, picture.captions.get(name, ""), side)
        top += lines * (side + _TITLE) + (lines - 1) * _GAP + 0.16
    return page.figure


@in_style
def draw_errors(pictures: Sequence[Picture]) -> Any | None:
    """The absolute error of every method, one scale for each picture; None without pictures."""
    if not pictures:
        return None
    across = max(len(picture.results) for picture in pictures)
    lines = 1 if across <= 7 else 2
    across = -(-across // lines)
    bar = 0.55
    wide = (_WIDTH - 2 * _MARGIN - bar - _GAP * across) / across
    heights = [wide * p.gt.shape[0] / p.gt.shape[1] + _TITLE for p in pictures]
    page = _Page(sum(heights) * lines + 2 * _MARGIN + 0.1 * len(pictures))
    top = _MARGIN
    for picture, height in zip(pictures, heights, strict=True):
        maps, level = picture.errors()
        for i, (name, error) in enumerate(maps.items()):
            x, y = _MARGIN + (i % across) * (wide + _GAP), top + i // across * height + _TITLE
            axis = page.show(error, x, y, wide, height - _TITLE, cmap=ERROR_COLORS, vmax=level)
            page.title(x, y, name, picture.key if i == 0 else "", wide)
        page.scale(axis, top + _TITLE, height - _TITLE, "mean |error|, levels of 255")
        top += height * lines + 0.1
    return page.figure


@in_style
def draw_profiles(profiles: Sequence[Profile]) -> Any | None:
    """Of each clip one frame with a line, and what is on that line from frame to frame.

    None if there are no profiles.
    """
    if not profiles:
        return None
    left = 3.6
    wide = _WIDTH - 2 * _MARGIN - left - 1.35
    bands = [
        max(0.3, min(0.55, wide * len(p.slices["GT"]) / p.picture.shape[1] * 3)) for p in profiles
    ]
    heights = [
        max(len(p.slices) * (band + _GAP), left * p.picture.shape[0] / p.picture.shape[1]) + _TITLE
        for p, band in zip(profiles, bands, strict=True)
    ]
    page = _Page(sum(heights) + 2 * _MARGIN + 0.1 * len(profiles))
    top = _MARGIN
    for profile, band, height in zip(profiles, bands, heights, strict=True):
        tall = left * profile.picture.shape[0] / profile.picture.shape[1]
        axis = page.show(profile.picture, _MARGIN, top + _TITLE, left, tall)
        axis.axhline(profile.row, color=ACCENT, linewidth=1.5)
        frames = f"{len(profile.slices['GT'])} frames, time downwards"
        page.title(_MARGIN, top + _TITLE, profile.clip, frames, left)
        for i, (name, rows) in enumerate(profile.slices.items()):
            y = top + _TITLE + i * (band + _GAP)
            page.show(rows, _MARGIN + left + 1.35, y, wide, band)
            page.text(_MARGIN + left + 1.27, y + band / 2, name, ha="right", va="center")
        top += height + 0.1
    return page.figure


class _Page:
    """A figure on which images are placed by inches from the upper left corner."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure  # heavy, and only reports draw

        self.height = height
        self.figure = Figure(figsize=(_WIDTH, height), facecolor="white")

    def show(
        self, image: np.ndarray, x: float, y: float, wide: float, tall: float, **options: Any
    ) -> Any:
        axis = self._axis(x, y, wide, tall)
        if "vmax" in options:
            options["vmin"] = 0
        axis.imshow(image, interpolation="nearest", aspect="auto", **options)
        axis.set_axis_off()
        return axis

    def scale(self, axis: Any, y: float, tall: float, label: str) -> None:
        bar = self._axis(_WIDTH - _MARGIN - 0.5, y, 0.11, tall)
        self.figure.colorbar(axis.images[0], cax=bar)
        bar.tick_params(labelsize=6.5, colors=QUIET, length=2)
        bar.set_ylabel(label, fontsize=6, color=QUIET)
        bar.spines[:].set_visible(False)

    def title(self, x: float, y: float, name: str, caption: str, wide: float) -> None:
        """Two lines above an image: its name, and smaller what is to be said of it."""
        self.text(x, y - 0.18, _short(name, wide), weight="bold", va="bottom")
        self.text(x, y - 0.04, _short(caption, wide), size=7, color=QUIET, va="bottom")

    def text(self, x: float, y: float, text: str, size: float = 7.5, **options: Any) -> None:
        options.setdefault("color", INK)
        self.figure.text(x / _WIDTH, 1 - y / self.height, text, size=size, **options)

    def _axis(self, x: float, y: float, wide: float, tall: float) -> Any:
        place = x / _WIDTH, 1 - (y + tall) / self.height, wide / _WIDTH, tall / self.height
        return self.figure.add_axes(place)


def _frame(axis: Any, picture: Picture) -> None:
    from matplotlib.patches import Rectangle

    y, x, side = picture.region
    for color, width in (("white", 3.2), (ACCENT, 1.8)):  # seen on any ground
        corner = x - 0.5, y - 0.5
        axis.add_patch(Rectangle(corner, side, side, fill=False, ec=color, lw=width))


def _short(text: str, inches: float) -> str:
    """Text cut to what fits into a width."""
    most = max(6, int(inches * 13.5))
    return text if len(text) <= most else text[: most - 1] + "…"
