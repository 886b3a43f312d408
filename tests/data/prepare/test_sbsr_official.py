"""Generated SBSR bursts are read as the bursts that are made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.generated import content
from support.images import picture, save

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.data.datasets.sbsr_bursts import SBSRBursts
from srtoolbox.data.prepare.dataset import prepare
from srtoolbox.data.prepare.sbsr_official import generate_sbsr_official
from srtoolbox.errors import UserError


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    sizes = {"p": (384, 384), "q": (60, 71)}
    return [
        save(tmp_path / "images" / f"{name}.png", picture(*size, seed))
        for seed, (name, size) in enumerate(sizes.items())
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [4, 8])
def test_the_set_is_read_as_the_bursts_made_on_the_fly(
    images: list[Path], tmp_path: Path, scale: int
) -> None:
    assert generate_sbsr_official(images, tmp_path / "set", scale=scale, num_frame=3) == 2
    written = Bursts("sbsr_official", str(tmp_path / "set"), "all", scale=scale, num_frame=3)
    drawn = SBSRBursts(
        dataroot=str(images[0].parent), scale=scale, num_frame=3, image_size=384, resize=True
    )
    assert len(written) == 2
    for index in range(2):
        assert written[index]["key"] == drawn[index]["key"]
        assert np.array_equal(written[index]["lq"], drawn[index]["lq"])
        assert np.array_equal(written[index]["gt"], drawn[index]["gt"])


def test_files(images: list[Path], tmp_path: Path) -> None:
    generate_sbsr_official(images[:1], tmp_path / "set", num_frame=2)
    found = content(tmp_path / "set")
    assert found.keys() == {
        "sbsr_official.json",
        "gt/p.bmp",
        "lr/p/lr_frame_00.bmp",
        "lr/p/lr_frame_01.bmp",
        "lr/p/motion_vectors.txt",
        "lr/p/hr_motion_vectors.txt",
    }
    lr, hr = (
        np.loadtxt(tmp_path / "set/lr/p" / f"{name}.txt")
        for name in ("motion_vectors", "hr_motion_vectors")
    )
    assert lr[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(4 * lr[1, 1:], hr[1, 1:], atol=1e-5)
    assert generate_sbsr_official(images[:1], tmp_path / "set", num_frame=2) == 0
    generate_sbsr_official(images[:1], tmp_path / "other", num_frame=2, seed=1)
    frame = "lr/p/lr_frame_01.bmp"
    assert content(tmp_path / "other")[frame] != found[frame]


@pytest.mark.slow
def test_prepare_makes_bursts_of_photographs_and_checks_existing_ones(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = prepare("sbsr_official", images[0].parent, cache=None)
    made = Path("datasets/SBSR-official/train")
    assert done.root == made
    (part,) = done.parts
    assert (part.split, [len(item.lq) for item in part.items]) == ("all", [16, 16])
    (made / "sbsr_official.json").unlink()  # as bursts of the authors, which have no such file
    again = prepare("sbsr_official", made, cache=None)
    assert again.root == made
    assert not (tmp_path / "datasets/SBSR-official/train/train").exists()


def test_faults(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rename the file without '-'"):
        generate_sbsr_official([save(tmp_path / "a-b.png", picture(8, 8))], tmp_path / "hyphen")
    with pytest.raises(UserError, match="384 is not a multiple of scale 5"):
        generate_sbsr_official(images, tmp_path / "five", scale=5)
    with pytest.raises(UserError, match="uint16 pixels"):
        deep = save(tmp_path / "deep.png", picture(8, 8, 0, np.uint16))
        generate_sbsr_official([deep], tmp_path / "deep")
