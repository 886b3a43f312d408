"""Generated bursts are complete or absent, can be continued, and equal the fixed bursts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.generated import content, stop_at_file
from support.images import picture, save

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.data.datasets.synthetic_bursts import SyntheticBursts
from srtoolbox.data.prepare.sbsr import generate_sbsr
from srtoolbox.errors import UserError

NAMES = ("p", "q", "r_1")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return [
        save(tmp_path / "images" / f"{name}.png", picture(25, 34, seed))
        for seed, name in enumerate(NAMES)
    ]


def test_files(images: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = generate_sbsr(
        images, tmp_path / "set", num_frame=2, progress=lambda *at: seen.append(at)
    )
    assert made == 3
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    expected = {"sbsr.json"}
    for name in NAMES:
        frames = {f"LR/{name}/{name}_x1_{t:02d}.png" for t in range(2)}
        expected |= frames | {f"HR/{name}/{name}_x4.png", f"motion/{name}.npy"}
    assert content(tmp_path / "set").keys() == expected
    motion = np.load(tmp_path / "set" / "motion" / "p.npy")
    assert motion.shape == (2, 2, 3)
    assert np.array_equal(motion[0], np.eye(2, 3))


def test_the_set_is_read_as_the_fixed_bursts_of_its_images(
    images: list[Path], tmp_path: Path
) -> None:
    generate_sbsr(images, tmp_path / "set", num_frame=3)
    written = Bursts("sbsr", str(tmp_path / "set"), num_frame=3, gt_size=16)
    drawn = SyntheticBursts(dataroot=str(images[0].parent), num_frame=3)
    assert len(written) == 3
    for index in range(3):
        assert written[index]["key"] == drawn[index]["key"]
        assert np.array_equal(written[index]["lq"], drawn[index]["lq"])
        assert np.array_equal(written[index]["gt"], drawn[index]["gt"])


def test_bursts_do_not_depend_on_their_company_but_on_the_seed(
    images: list[Path], tmp_path: Path
) -> None:
    generate_sbsr(images, tmp_path / "all", num_frame=2)
    generate_sbsr(images[2:], tmp_path / "one", num_frame=2)
    generate_sbsr(images[2:], tmp_path / "other", num_frame=2, seed=1)
    frame = "LR/r_1/r_1_x1_01.png"
    every, one, other = (content(tmp_path / name) for name in ("all", "one", "other"))
    assert every[frame] == one[frame] != other[frame]


@pytest.mark.parametrize("stop", range(1, 14, 3))
def test_a_set_that_was_stopped_is_completed_to_the_same_files(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """The generator is stopped while it writes file number ``stop``."""
    generate_sbsr(images, tmp_path / "whole", num_frame=2)
    stop_at_file(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        generate_sbsr(images, tmp_path / "part", num_frame=2)
    part = content(tmp_path / "part")
    for name in NAMES:  # what is there is complete
        frames = [path for path in part if path.startswith(f"LR/{name}/")]
        assert len(frames) in (0, 2)
    made = generate_sbsr(images, tmp_path / "part", num_frame=2)
    assert made == 3 - max(stop - 2, 0) // 4
    assert content(tmp_path / "part") == content(tmp_path / "whole")


@pytest.mark.parametrize("moved", range(3))
def test_stopped_between_the_parts_of_a_burst(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    generate_sbsr(images, tmp_path / "whole", num_frame=2)
    replace, count = Path.replace, 0

    def replace_some(self: Path, target: Path) -> Path:
        nonlocal count
        count += target.suffix != ".json"
        if count > 3 + moved:  # of the second burst
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        generate_sbsr(images, tmp_path / "part", num_frame=2)
    monkeypatch.undo()
    assert generate_sbsr(images, tmp_path / "part", num_frame=2) == 2
    assert content(tmp_path / "part") == content(tmp_path / "whole")
    assert generate_sbsr(images, tmp_path / "part", num_frame=2) == 0


def test_faults(images: list[Path], tmp_path: Path) -> None:
    generate_sbsr(images, tmp_path / "set", num_frame=2)
    with pytest.raises(UserError, match="made with other options"):
        generate_sbsr(images, tmp_path / "set", num_frame=3)
    with pytest.raises(UserError, match="no images"):
        generate_sbsr([], tmp_path / "none")
    twin = save(tmp_path / "more" / "p.bmp", picture(8, 8))
    with pytest.raises(UserError, match="share a stem"):
        generate_sbsr([*images, twin], tmp_path / "twins")
    deep = save(tmp_path / "deep.png", picture(8, 8, 0, np.uint16))
    with pytest.raises(UserError, match="uint16 pixels"):
        generate_sbsr([deep], tmp_path / "deep")
    small = save(tmp_path / "small.png", picture(3, 8))
    with pytest.raises(UserError, match="smaller than scale 4"):
        generate_sbsr([small], tmp_path / "small")
