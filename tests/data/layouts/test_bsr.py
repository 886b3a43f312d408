"""The layouts of BSR are found with all that the authors' generator leaves beside the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.images import chw, picture, save

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.errors import UserError

EXTRA = ("motion_vectors.txt", "hr_motion_vectors.txt", "psf_info.txt")


def plant(
    root: Path, gt: str, lr: str, ids: dict[str, str], frames: int = 4, side: int = 8
) -> None:
    """Writes bursts of 8×8 frames as the authors do; ``ids`` gives the folder of each burst."""
    for seed, (key, folder) in enumerate(ids.items()):
        (root / gt).mkdir(parents=True, exist_ok=True)
        save(root / gt / f"{key}.bmp", picture(4 * side, 4 * side, seed))
        for t in range(frames):
            save(root / lr / folder / f"lr_frame_{t:02d}.bmp", picture(8, 8, 100 * seed + t))
        save(root / lr / folder / "psf_kernel.bmp", picture(31, 31)[..., 0])
        save(root / lr / folder / "reference_upsampled.bmp", picture(32, 32))
        for name in EXTRA:
            (root / lr / folder / name).write_text("0 0\n")


IDS = {"1": "1", "2": "2-a", "10": "10-b-3"}


def bursts(root: Path, layout: str = "sbsr_official", **more) -> Bursts:
    return Bursts(layout, str(root), **{"num_frame": 4, "gt_size": 16, **more})


@pytest.mark.parametrize(
    ("split", "gt", "lr"),
    [
        ("train", "gtlarge384", "lr_outputlarge384"),
        ("train", "gtlarge384", "lr_output_v4+"),
        ("val", "gtlargetest384", "lrlarge384"),
        ("val", "gtlargetest384", "lr_output_testv4+"),
        ("all", "gt", "lr"),
    ],
)
def test_the_authors_folders(tmp_path: Path, split: str, gt: str, lr: str) -> None:
    plant(tmp_path, gt, lr, IDS)
    dataset = bursts(tmp_path, split=split)
    assert [dataset[index]["key"] for index in range(3)] == ["1", "2", "10"]
    for seed in range(3):
        sample = dataset[seed]
        assert np.array_equal(sample["gt"], chw(picture(32, 32, seed)))
        for t in range(4):
            assert np.array_equal(sample["lq"][t], chw(picture(8, 8, 100 * seed + t)))
    assert len(dataset.paths()) == 3 * 5


def test_both_scales_share_their_hr_images(tmp_path: Path) -> None:
    plant(tmp_path, "gtlarge384", "lr_outputlarge384", IDS, side=16)
    for folder in IDS.values():
        for t in range(4):
            save(tmp_path / "lr_output_v8+" / folder / f"lr_frame_{t:02d}.bmp", picture(8, 8, t))
            save(tmp_path / "lr_outputlarge384" / folder / f"lr_frame_{t:02d}.bmp", picture(16, 16))
    assert bursts(tmp_path, split="train", scale=8)[0]["lq"].shape == (4, 3, 8, 8)
    assert bursts(tmp_path, split="train")[0]["lq"].shape == (4, 3, 16, 16)


def test_rbsr(tmp_path: Path) -> None:
    plant(tmp_path, "train/gt", "train/lr", IDS, frames=14)
    dataset = bursts(tmp_path, "rbsr", split="train", num_frame=14)
    assert [dataset[index]["key"] for index in range(3)] == ["1", "2", "10"]
    assert dataset.reference == 0


def test_num_frame_takes_the_first_frames(tmp_path: Path) -> None:
    plant(tmp_path, "gt", "lr", {"7": "7-x"}, frames=20)
    sample = bursts(tmp_path, split="all", num_frame=16)[0]
    assert sample["lq"].shape[0] == 16
    assert np.array_equal(sample["lq"][15], chw(picture(8, 8, 15)))


def test_faults_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "gt", "lr", IDS)
    with pytest.raises(UserError, match="1 has 4 frames, num_frame asks for 16; lower num_frame"):
        bursts(tmp_path, split="all", num_frame=16)
    (tmp_path / "lr/10-b-3/lr_frame_01.bmp").unlink()
    with pytest.raises(UserError, match="burst 10 has 3 frames, most others have 4"):
        bursts(tmp_path, split="all", num_frame=3)
    (tmp_path / "lr/10-b-3/lr_frame_01.bmp").write_bytes(
        (tmp_path / "lr/10-b-3/lr_frame_00.bmp").read_bytes()
    )
    (tmp_path / "gt/2.bmp").unlink()
    with pytest.raises(UserError, match="burst 2 has no HR files"):
        bursts(tmp_path, split="all")
    save(tmp_path / "gt/2.bmp", picture(40, 40))
    with pytest.raises(UserError, match=r"resizes such HR images to 384×384 by Lanczos"):
        bursts(tmp_path, split="all")
    save(tmp_path / "gt/2.bmp", picture(32, 32))
    save(tmp_path / "lr/2/lr_frame_00.bmp", picture(8, 8))
    with pytest.raises(UserError, match="second file for the same image"):
        bursts(tmp_path, split="all")
