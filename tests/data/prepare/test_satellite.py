"""Satellite-like clips: motion of the platform and the objects, and the files written."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support.generated import content, stop_at_file
from support.images import picture, save

from srtoolbox.cli import main
from srtoolbox.data.datasets.clips import Clips
from srtoolbox.data.datasets.space_time_clips import SpaceTimeClips
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.prepare.satellite import SatellitePipeline, generate_satellite_clips
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError

NUM_FRAME = 7  # the fewest that a window in space and time needs
BARE = SatellitePipeline(num_frame=NUM_FRAME, object_area=1e9, object_light=(0, 0))
SIDE = BARE.min_size + 2 * BARE.margin


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    grey = picture(SIDE, SIDE, 1)[..., 0]
    return [
        save(folder / "p.png", picture(SIDE + 20, SIDE, 0)),
        save(folder / "grey.png", grey),
        save(folder / "small.png", picture(SIDE - 1, 300, 2)),
    ]


@pytest.fixture(scope="module")
def made(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    assert generate_satellite_clips(images, out, num_frame=NUM_FRAME) == 2
    return out


def test_two_commands_cannot_share_a_folder(images: list[Path], tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from srtoolbox.utils.files import locked
        with locked(Path({str(tmp_path)!r})):
            print("locked", flush=True)
            input()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="is in use by process"):
            generate_satellite_clips(images, tmp_path, num_frame=NUM_FRAME)
        other.kill()


def waves(height: int, width: int) -> np.ndarray:
    """An image (3, H, W) that blurring hardly changes, as a function of the position."""
    y, x = (np.arange(side)[:, None] - (side - 1) / 2 for side in (height, width))
    return wave(x.T, y)


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    numbers = [(0.11, 0.05, 0.3), (-0.06, 0.13, 1.1), (0.09, -0.1, 2.0)]
    return np.stack([127 + 100 * np.sin(a * x + b * y + c) for a, b, c in numbers])


class TestPlatform:
    def test_frames_show_the_stated_motion(self) -> None:
        image = waves(SIDE, SIDE).round().astype(np.uint8)  # of which all is seen
        clip = BARE.make(image, rng(5))
        size = BARE.min_size
        y, x = np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2, indexing="ij")
        for frame, motion in zip(clip["gt"], clip["motion"].astype(float), strict=True):
            seen = wave(*np.tensordot(motion, np.stack([x, y, np.ones_like(x)]), 1))
            difference = np.abs(frame - seen)
            assert difference.mean() < 1.5
            assert np.quantile(difference, 0.99) < 3  # but for the one object

    def test_it_is_slow_smooth_and_of_different_speeds(self) -> None:
        pipeline = SatellitePipeline()
        motion = np.stack([pipeline._draw_platform(rng(seed)) for seed in range(200)])
        step = np.hypot(*np.moveaxis(np.diff(motion[..., 2], axis=1), 2, 0))
        assert 1.3 < step.max() < 1.5 + 0.25 + 0.2  # acceleration, jitter
        assert np.quantile(step.mean(1), 0.25) < 0.3
        change = np.abs(np.diff(motion[..., 2], 2, axis=1))
        assert change.max() < 0.03 + 0.15 * (2 * np.pi / 6) ** 2
        angle = np.degrees(np.arctan2(motion[:, :, 1, 0], motion[:, :, 0, 0]))
        assert 0.03 < np.abs(angle).max() <= 0.0601

    @pytest.mark.parametrize("num_frame", [2, 7, 13, 40])
    def test_no_frame_shows_what_is_beyond_the_image(self, num_frame: int) -> None:
        pipeline = SatellitePipeline(num_frame=num_frame)
        corner = np.array([319.5, 319.5, 1])
        for seed in range(60):
            for motion in pipeline._draw_platform(rng(seed)):
                for sign in ((1, 1, 1), (1, -1, 1), (-1, 1, 1), (-1, -1, 1)):
                    reach = np.abs(motion @ (corner * sign)).max() + 2 + pipeline.blur_radius
                    assert reach <= 319.5 + pipeline.margin

    def test_sizes(self) -> None:
        pipeline = SatellitePipeline()
        assert pipeline.margin == 16
        assert pipeline.frame_size(1356, 2040) == (640, 640)
        assert pipeline.frame_size(321, 481) == (288, 448)
        assert pipeline.frame_size(160, 175) == (128, 128)
        assert pipeline.frame_size(159, 500) is None
        assert SatellitePipeline(scale=3).frame_size(321, 481) == (288, 444)

    def test_windows_of_large_images_are_taken_anywhere(self) -> None:
        image = np.broadcast_to(np.arange(1100, dtype=np.uint16) * 50, (1, 700, 1100))
        seen = [
            SatellitePipeline(num_frame=1, object_area=1e9).make(image, rng(seed))["gt"][0].mean()
            for seed in range(3)
        ]
        assert len({round(value) for value in seen}) == 3


class TestObjects:
    def test_they_move_along_straight_lines_at_the_stated_speeds(self) -> None:
        pipeline = SatellitePipeline()
        shape, light, source, paths = pipeline._draw_objects((640, 640), rng())
        assert shape.shape == (1, 64 * 100 // 100, 4)
        assert light.shape == source.shape[:2] == shape.shape[:2]
        step = np.diff(paths[:, 0].double().numpy(), axis=0)
        np.testing.assert_allclose(step, np.broadcast_to(step[:1], step.shape), atol=1e-4)
        speed = np.hypot(*step[0].T)
        assert speed.min() >= 0.5 and speed.max() <= 4
        heading = np.arctan2(step[0, :, 1], step[0, :, 0]) % (2 * np.pi)
        np.testing.assert_allclose(heading, shape[0, :, 2], atol=1e-3)
        length = 2 * shape[0, :, 0]
        assert length.min() >= 4 and length.max() <= 12
        fades = light.sign().flatten().tolist()
        assert min(fades.count(kind) for kind in (-1, 0, 1)) > 10

    def test_a_bright_object_moves_through_the_frames(self) -> None:
        pipeline = SatellitePipeline(
            num_frame=9, max_drift=0, max_acceleration=0, max_jitter=0, max_turn=0, object_area=1e9
        )
        side = pipeline.min_size + 2 * pipeline.margin
        grey = np.full((1, side, side), 100, np.uint8)
        for seed in range(20):
            _, light, _, paths = pipeline._draw_objects((128, 128), _after_platform(pipeline, seed))
            if light > 0.5 and np.abs(paths.numpy()).max() < 50:
                break
        gt = pipeline.make(grey, rng(seed))["gt"][:, 0].astype(float) - 100
        place = np.arange(128) - 63.5
        x, y = ((gt.sum(axis) * place).sum(1) / gt.sum((1, 2)) for axis in (1, 2))
        np.testing.assert_allclose(np.stack([x, y], 1), paths[:, 0, 0], atol=0.05)


def _after_platform(pipeline: SatellitePipeline, seed: int) -> np.random.Generator:
    """The random generator after it drew the window and the platform of a clip."""
    numbers = rng(seed)
    numbers.integers(1), numbers.integers(1)  # the window
    pipeline._draw_platform(numbers)
    return numbers


class TestFiles:
    def test_names(self, made: Path) -> None:
        expected = {"satellite_clips.json"}
        for key in ("p", "grey"):
            frames = {f"{key}/{t:08d}.png" for t in range(NUM_FRAME)}
            expected |= {f"{side}/{name}" for side in ("GT", "LR4x") for name in frames}
            expected.add(f"motion/{key}.npy")
        assert content(made).keys() == expected
        assert np.load(made / "motion" / "p.npy").shape == (NUM_FRAME, 2, 3)

    @pytest.mark.parametrize("layout", ["satellite_clips", "clips"])
    def test_they_are_read_as_clips(self, made: Path, layout: str) -> None:
        clips = Clips(layout, str(made), num_frame=5, gt_size=128)
        clips.check_training()
        assert len(clips) == 2 * NUM_FRAME
        sample = clips.draw(0, rng())
        assert sample["lq"].shape == (5, 3, 32, 32)
        assert sample["gt"].shape == (3, 128, 128)
        joint = SpaceTimeClips(layout, str(made), num_frame=4, gt_size=128)
        joint.check_training()
        assert joint.draw(1, rng())["gt"].shape == (7, 3, 128, 128)

    def test_lr_frames_are_those_of_the_rule_of_jilin(self, made: Path) -> None:
        rule, written = get_layout("jilin189"), get_layout("satellite_clips")
        assert (rule.edge, rule.round_between_passes) == ("replicate", False)
        assert (written.edge, written.round_between_passes) == ("replicate", False)
        clip = Clips("satellite_clips", str(made), num_frame=None, target="all")[0]
        for gt, lq in zip(clip["gt"], clip["lq"], strict=True):
            expected = imresize(gt.transpose(1, 2, 0), 1 / 4, edge="replicate")
            assert np.array_equal(lq, expected.transpose(2, 0, 1))

    def test_clips_do_not_depend_on_their_company_but_on_the_seed(
        self, images: list[Path], made: Path, tmp_path: Path
    ) -> None:
        generate_satellite_clips(images[:1], tmp_path / "one", num_frame=NUM_FRAME)
        generate_satellite_clips(images[:1], tmp_path / "other", num_frame=NUM_FRAME, seed=1)
        every, one, other = (content(path) for path in (made, tmp_path / "one", tmp_path / "other"))
        for name in ("GT/p/00000001.png", "LR4x/p/00000001.png", "motion/p.npy"):
            assert every[name] == one[name] != other[name]

    @pytest.mark.parametrize("stop", [1, 2, 9, 20])
    def test_a_set_that_was_stopped_is_completed_to_the_same_files(
        self,
        images: list[Path],
        made: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        stop: int,
    ) -> None:
        stop_at_file(monkeypatch, stop)
        with pytest.raises(KeyboardInterrupt):
            generate_satellite_clips(images, tmp_path, num_frame=NUM_FRAME)
        there = [path.name for path in (tmp_path / "GT").glob("*")]
        assert there == (["p"] if stop > 16 else [])
        again = generate_satellite_clips(images, tmp_path, num_frame=NUM_FRAME)
        assert again == 2 - len(there)
        assert content(tmp_path) == content(made)
        assert generate_satellite_clips(images, tmp_path, num_frame=NUM_FRAME) == 0

    def test_small_images_are_left_out_and_named(
        self, images: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        generate_satellite_clips(images, tmp_path / "set", num_frame=NUM_FRAME)
        assert f"1 of 3 images have a side below {SIDE} pixels (small.png)" in caplog.text
        with pytest.raises(UserError, match=r"too small for clips of 7 frames \(small\.png\)"):
            generate_satellite_clips(images[2:], tmp_path / "none", num_frame=NUM_FRAME)

    def test_faults(self, images: list[Path], made: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="made with other options"):
            generate_satellite_clips(images, made, num_frame=NUM_FRAME, seed=1)
        with pytest.raises(UserError, match="no images"):
            generate_satellite_clips([], tmp_path)


def test_prepare_makes_them_once(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs = tmp_path / "photographs"
    save(photographs / "p.png", picture(160, 162, 0))
    command = ["prepare", "satellite_clips", "--source", str(photographs), "--no-cache"]
    assert main(command) == 0
    assert "dataroot: datasets/SatelliteClips/train" in capsys.readouterr().out
    frames = Path("datasets/SatelliteClips/train/GT/p")
    assert len(list(frames.iterdir())) == 13
    time = frames.stat().st_mtime_ns
    assert main(command) == 0
    assert frames.stat().st_mtime_ns == time
    assert main([*command[:3], "datasets/SatelliteClips/train", "--no-cache"]) == 0
