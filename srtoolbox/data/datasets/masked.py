"""Images with missing pixels, read by windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from srtoolbox.data.transforms.missing import FILL_RADIUS, fill_missing


class MaskedImage:
    """An image whose missing pixels are filled from their neighbours, and the mask of the others.

    A slice of it is read like that of an array (C, H, W). The values of missing pixels have no
    influence on the result. A window equals that of the whole image.

    Args:
        stored: The image as read: an array, or an object that reads the pixels of a slice. With
            ``has_known``, its last channel is not 0 where pixels are known, and the others are
            already filled.
        has_known: As stated.
        mask: (C', H, W): a pixel counts where a channel is not 0; None: all pixels count.
    """

    ndim = 3

    def __init__(self, stored: Any, has_known: bool, mask: Any = None) -> None:
        self._stored, self._mask, self._has_known = stored, mask, has_known
        channels, height, width = stored.shape
        self.shape = (channels - has_known, height, width)
        self.dtype: np.dtype = stored.dtype

    def __getitem__(self, window: tuple[slice, slice, slice]) -> np.ndarray:
        """Returns the filled pixels of a window."""
        bands, rows, columns = window
        count = self.shape[0]
        if self._mask is None:
            return self._stored[:count, rows, columns][bands]
        sides = zip((rows, columns), self.shape[1:], strict=True)
        (y, rows), (x, columns) = (_widen(*part.indices(side)[:2], side) for part, side in sides)
        pixels = self._stored[:count, rows, columns]
        known = np.broadcast_to(self.mask(rows, columns), pixels.shape)
        filled = fill_missing(pixels, known)
        return filled[bands, y, x]

    def mask(self, rows: slice, columns: slice) -> np.ndarray:
        """Returns which pixels of a window count: bool (1, h, w)."""
        if self._mask is None:
            return self._stored[self.shape[0] :, rows, columns] != 0
        known: np.ndarray = np.any(self._mask[:, rows, columns], axis=0, keepdims=True)
        if self._has_known:
            known &= self._stored[self.shape[0] :, rows, columns] != 0
        return known


def _widen(start: int, stop: int, side: int) -> tuple[slice, slice]:
    """Returns the place of start:stop in the part of an axis that filling reads, and that part."""
    first = max(start - FILL_RADIUS, 0)
    return slice(start - first, stop - first), slice(first, min(stop + FILL_RADIUS, side))
