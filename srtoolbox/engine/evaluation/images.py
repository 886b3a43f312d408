"""Writes SR images as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.utils.files import write_atomic


def save_image(path: Path, image: Tensor, rgb_bands: Sequence[int] | None = None) -> None:
    """Writes an SR image as an 8-bit RGB PNG, and all of its bands as a TIFF if it has others.

    Args:
        path: The PNG. An image of other than one or three bands is also written beside it, with the
            suffix ``.tif``: uint16, 65535 is 1, one page of interleaved bands, which GDAL reads as
            bands 1 to C.
        image: (C, H, W) on the CPU; clamped to [0, 1].
        rgb_bands: Numbers, from 1, of the bands that are red, green and blue in the PNG, or of one
            that is grey. None: the first three, or the first of one or two.

    Raises:
        UserError: if the image has no such band.
    """
    image = image.clamp(0, 1)
    if len(image) not in (1, 3):  # first: an existing PNG means that nothing is missing
        write_atomic(path.with_suffix(".tif"), _encode_bands(image))
    image = choose_bands(image, rgb_bands).expand(3, -1, -1)
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    content = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "png")
    write_atomic(path, content.getvalue())


def choose_bands(image: Tensor, rgb_bands: Sequence[int] | None) -> Tensor:
    """Returns the bands of an image (C, H, W) that a picture shows: (3, H, W) or (1, H, W).

    Raises:
        UserError: if the image has no such band.
    """
    if rgb_bands is None:
        return image[: 1 if len(image) < 3 else 3]
    if max(rgb_bands) > len(image):
        raise UserError(
            f"val.rgb_bands: there is no band {max(rgb_bands)} in images with {len(image)}"
        )
    return image[[band - 1 for band in rgb_bands]]


def image_writer(
    folder: Path, rgb_bands: Sequence[int] | None = None
) -> Callable[[str, Tensor], None]:
    """Returns a function that writes each image to ``folder``/``key``.png; see ``save_image``."""
    return lambda key, sr: save_image(folder / f"{key}.png", sr, rgb_bands)


def _encode_bands(image: Tensor) -> bytes:
    import tifffile

    pixels = (image.double() * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)
    content = BytesIO()
    tifffile.imwrite(
        content,
        np.ascontiguousarray(pixels),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unspecified"] * (len(image) - 1),
        compression="zlib",
        metadata=None,
    )
    return content.getvalue()
