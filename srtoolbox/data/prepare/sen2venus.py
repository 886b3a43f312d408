"""Writes the patches of SEN2VENµS as files, in the layout ``sen2venus``.

The archive has for each pair of images a tensor file (N, C, H, W) of each sensor, in a folder of
the site: ``…_05m_b2b3b4b8.pt`` (VENµS, 5 m) with ``…_10m_b2b3b4b8.pt`` (Sentinel-2, 10 m), and four
other bands at 5 m with ``…_20m_….pt``. Each patch becomes a pair of TIFF files::

    GT_x2/<pair>/<pair>_0000.tif …    uint16, surface reflectance × 10000, negative values as 0
    LR_x2/<pair>/<pair>_0000.tif …
    sen2venus.json                    the options

Tensors are loaded without running code that a file may contain (``weights_only``).
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import torch

from srtoolbox.data.prepare.generate import generate, plain_tiff
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

_RESOLUTION = {2: "10m", 4: "20m"}  # of Sentinel-2, by scale
_BANDS = {2: ("b2b3b4b8",), 4: ("b4b5b6b8a", "b5b6b7b8a")}  # of both editions


def convert_sen2venus(
    source: Path,
    out: Path,
    *,
    scale: int = 2,
    progress: Progress = lambda done, total: None,
) -> int:
    """Writes the patches of all pairs below a folder; continues after an interruption.

    Args:
        source: Folder of a site, or of several sites.
        out: Folder for the dataset.
        scale: 2 for the bands of 10 m, 4 for those of 20 m.
        progress: Called with the number of finished pairs and the number of all pairs.

    Returns:
        The number of pairs whose patches were written, without those that existed.

    Raises:
        UserError: if there are no pairs, a file has no partner or is not a tensor of patches, or
            ``out`` contains a dataset made with other options.
    """
    if scale not in _RESOLUTION:
        raise UserError(f"sen2venus: scale is 2 (from 10 m) or 4 (from 20 m), got {scale}")
    pairs = _pairs(source, scale)

    def make(key: str, path: Path) -> dict[str, bytes]:
        files = {}
        sides = {"GT": _patches(path), "LR": _patches(pairs[path])}
        shapes = {side: patches.shape for side, patches in sides.items()}
        height, width = shapes["LR"][2:]
        if shapes["GT"] != (*shapes["LR"][:2], scale * height, scale * width):
            raise UserError(
                f"{path}: patches {shapes['GT']}, but those of {pairs[path].name} are "
                f"{shapes['LR']}; expected as many, larger by {scale}"
            )
        for side, patches in sides.items():
            for number, patch in enumerate(patches):
                files[f"{side}_x{scale}/{key}/{key}_{number:04d}.tif"] = plain_tiff(patch)
        return files

    options = {"scale": scale, "bands": next(iter(pairs)).stem.rpartition("_")[2]}
    return generate(list(pairs), out, "sen2venus.json", options, f"LR_x{scale}", make, progress)


def _pairs(source: Path, scale: int) -> dict[Path, Path]:
    """Returns the tensor file of Sentinel-2 of each tensor file of VENµS.

    Raises:
        UserError: if there are none, one lacks its partner, or both editions are mixed.
    """
    found = {}
    for bands in _BANDS[scale]:
        files = sorted(source.rglob(f"*_05m_{bands}.pt"))
        found |= {path: path.with_name(_low(path.name, scale)) for path in files}
    if not found:
        names = " or ".join(f"*_05m_{bands}.pt" for bands in _BANDS[scale])
        raise UserError(
            f"{source}: no files {names} here or in its sub-folders; unpack the archive of a site "
            "of SEN2VENµS"
        )
    endings = {path.stem.rpartition("_")[2] for path in found}
    if len(endings) > 1:
        raise UserError(
            f"{source}: files of both editions, with bands {' and '.join(sorted(endings))}; "
            "prepare them separately"
        )
    for path, partner in found.items():
        if not partner.is_file():
            raise UserError(f"{path}: has no partner {partner.name}; unpack the archive again")
    return found


def _low(name: str, scale: int) -> str:
    return re.sub(r"_05m_(\w+\.pt)$", rf"_{_RESOLUTION[scale]}_\1", name)


def _patches(path: Path) -> np.ndarray:
    """Reads (N, C, H, W) as uint16; negative values become 0.

    Raises:
        UserError: if the file is not a tensor of that shape.
    """
    wanted = "expected a tensor (N, bands, H, W) of reflectances × 10000"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be loaded ({reason}); {wanted}") from error
    if not isinstance(content, torch.Tensor) or content.ndim != 4:
        shape = (
            tuple(content.shape) if isinstance(content, torch.Tensor) else type(content).__name__
        )
        raise UserError(f"{path}: {shape}; {wanted}")
    values = content.double().numpy()
    if not np.isfinite(values).all() or values.max(initial=0) > 65535:
        raise UserError(f"{path}: values beyond 65535 or not finite; {wanted}")
    return np.floor(values.clip(0) + 0.5).astype(np.uint16)
