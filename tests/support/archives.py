"""Writes folders of PNG files as LMDB folders of BasicSR and as HDF5 files of DSRNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import h5py
import lmdb


def write_lmdb(
    folder: Path, out: Path, key: Callable[[str], str] = str, *, meta_info: bool = True
) -> Path:
    """Writes all PNG files below a folder; ``key`` returns the key of a path without suffix."""
    lines = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(out), map_size=2**26) as environment, environment.begin(write=True) as file:
        for path in sorted(folder.rglob("*.png")):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            name = key(path.relative_to(folder).with_suffix("").as_posix())
            file.put(name.encode(), content)
            height, width, channels = (*image.shape, 1)[:3]
            lines.append(f"{name}.png ({height},{width},{channels}) 1\n")
    if meta_info:
        (out / "meta_info.txt").write_text("".join(lines))
    return out


def write_hdf5(folders: Mapping[str, Path], out: Path) -> Path:
    """Writes the images of each folder to the group of that name, by their numbers."""
    with h5py.File(out, "w") as file:
        for group, folder in folders.items():
            for number, path in enumerate(sorted(folder.glob("*.png"))):
                image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                image = image if image.ndim == 2 else image[..., ::-1]
                file.create_dataset(f"{group}/{number}", data=image)
    return out
