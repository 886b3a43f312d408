"""SEN2VENµS: tensors of patches become pairs of files; damaged and foreign files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from support.generated import content

from srtoolbox.data.files.find import scan
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.prepare.sen2venus import convert_sen2venus
from srtoolbox.errors import UserError

PAIR = "SITE_C_32ULU_2018-02-14"


def plant(
    folder: Path, name: str, scale: int = 2, bands: str = "b2b3b4b8", count: int = 3, side: int = 6
) -> dict[str, np.ndarray]:
    """Writes the tensors of a pair as the authors do; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name) + scale)
    tensors = {}
    for metres, factor in (("05m", scale), ({2: "10m", 4: "20m"}[scale], 1)):
        shape = (count, 4, factor * side, factor * side)
        tensors[metres] = rng.integers(-50, 12000, shape).astype(np.int16)
        torch.save(torch.from_numpy(tensors[metres]), folder / f"{name}_{metres}_{bands}.pt")
    return tensors


def read(path: Path) -> np.ndarray:
    return tifffile.imread(path).transpose(2, 0, 1)


@pytest.mark.parametrize(("scale", "bands"), [(2, "b2b3b4b8"), (4, "b4b5b6b8a"), (4, "b5b6b7b8a")])
def test_patches_are_written_as_pairs(tmp_path: Path, scale: int, bands: str) -> None:
    tensors = plant(tmp_path / "in" / "SITE", PAIR, scale, bands)
    plant(tmp_path / "in" / "OTHER", "OTHER_2019-01-01", scale, bands, count=1)
    assert convert_sen2venus(tmp_path / "in", tmp_path / "out", scale=scale) == 2
    items, faults = scan(get_layout("sen2venus"), tmp_path / "out", "all", scale)
    assert faults == []
    assert [item.key for item in items] == [
        f"OTHER_2019-01-01_05m_{bands}_0000",
        *(f"{PAIR}_05m_{bands}_{number:04d}" for number in range(3)),
    ]
    hr, lr = tensors["05m"], tensors["10m" if scale == 2 else "20m"]
    for number, item in enumerate(items[1:]):
        for path, stored in ((item.gt[0], hr[number]), (item.lq[0], lr[number])):
            assert read(path).dtype == np.uint16
            assert np.array_equal(read(path), stored.clip(0))


def test_work_continues(tmp_path: Path) -> None:
    plant(tmp_path / "in", PAIR)
    plant(tmp_path / "in", "B")
    assert convert_sen2venus(tmp_path / "in", tmp_path / "out") == 2
    before = content(tmp_path / "out")
    (tmp_path / "out" / "LR_x2" / f"{PAIR}_05m_b2b3b4b8").rename(tmp_path / "away")
    assert convert_sen2venus(tmp_path / "in", tmp_path / "out") == 1
    assert content(tmp_path / "out") == before


class _Code:
    def __reduce__(self) -> tuple:
        return (print, ("a file's code ran",))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / f"{PAIR}_10m_b2b3b4b8.pt").unlink(), "has no partner"),
        (lambda f: (f / f"{PAIR}_05m_b2b3b4b8.pt").write_bytes(b"x"), "cannot be loaded"),
        (lambda f: torch.save(_Code(), f / f"{PAIR}_05m_b2b3b4b8.pt"), "cannot be loaded"),
        (lambda f: torch.save({"a": 1}, f / f"{PAIR}_05m_b2b3b4b8.pt"), "dict; expected a tensor"),
        (
            lambda f: torch.save(torch.zeros(3, 4, 9, 9), f / f"{PAIR}_05m_b2b3b4b8.pt"),
            "larger by 2",
        ),
        (
            lambda f: torch.save(torch.full((3, 4, 12, 12), 1e6), f / f"{PAIR}_05m_b2b3b4b8.pt"),
            "beyond 65535",
        ),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, damage, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "in", PAIR)
    damage(tmp_path / "in")
    with pytest.raises(UserError, match=words) as caught:
        convert_sen2venus(tmp_path / "in", tmp_path / "out")
    assert PAIR in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_other_folders_and_scales(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no files \*_05m_b2b3b4b8.pt"):
        convert_sen2venus(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="scale is 2"):
        convert_sen2venus(tmp_path, tmp_path / "out", scale=3)
    for bands in ("b4b5b6b8a", "b5b6b7b8a"):
        plant(tmp_path, f"P{bands}", 4, bands)
    with pytest.raises(UserError, match="both editions"):
        convert_sen2venus(tmp_path, tmp_path / "out", scale=4)
