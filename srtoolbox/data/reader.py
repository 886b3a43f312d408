"""Reading 8-bit grey and RGB images from disk, with clear words for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from srtoolbox.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def list_images(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem, in the order of their names.

    Raises:
        UserError: if the folder is missing, holds no image, or two images share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        if path.stem in found:
            raise UserError(f"{folder}: {found[path.stem].name} and {path.name} share a stem")
        found[path.stem] = path
    if not found:
        raise UserError(
            f"{folder}: no images here (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return found


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header, without decoding it.

    Raises:
        UserError: as ``read_image``, except that a file broken after its header passes.
    """
    with _open(path) as image:
        return image.height, image.width


def read_image(path: Path) -> np.ndarray:
    """An image as uint8 (H, W, 3) RGB; grey images are replicated to three channels.

    Raises:
        UserError: if the file is missing, broken, has an alpha channel or is not 8 bits deep.
    """
    with _open(path) as image:
        try:
            return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's ways to say "broken"
            raise UserError(f"{path}: broken image ({error}); replace or remove it") from error


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image, or broken; replace or remove it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    # Pillow would silently cut 16-bit colour to 8 bits; only the raw mode tells, "RGB;16B" or so.
    deep = ";16" in str(image.tile)
    if image.mode not in ("RGB", "L") or deep:
        image.close()
        raise UserError(
            f"{path}: image mode {image.mode}{' of 16 bits' if deep else ''}; expected 8-bit RGB "
            "or grey without alpha, convert the file first"
        )
    return image
