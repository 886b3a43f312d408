"""The SBSR generator agrees with the authors' files, and its crops with its whole frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.images import picture

from srtoolbox.data.degradations.sbsr import Draws, SBSRPipeline, affine_matrices, gaussian
from srtoolbox.errors import UserError

# OpenCV 5 and 4 move 8-bit images by other arithmetic; the files were made with OpenCV 5.
SAME_ARITHMETIC = cv2.__version__.startswith("5.")


def draw(pipeline: SBSRPipeline, seed: int = 0) -> Draws:
    return pipeline.draw(np.random.default_rng(seed))


@pytest.fixture(params=["clean", "noise"])
def golden(request: pytest.FixtureRequest, reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "goldens" / f"sbsr_x8_{request.param}.npz") as stored:
        return dict(stored)


def test_the_authors_matrices_kernel_and_frames(golden: dict[str, np.ndarray]) -> None:
    matrices = affine_matrices(golden["draws"], golden["image"].shape)
    assert np.array_equal(matrices, golden["matrices"])
    kernel = np.outer(gaussian(3.2), gaussian(3.2))
    np.testing.assert_allclose(kernel, golden["kernel"], rtol=0, atol=1e-17)
    noise = golden["noise"] if golden["noise"].size else None
    frames = SBSRPipeline().capture(golden["image"], matrices, noise)
    as_float = frames.transpose(0, 3, 1, 2).astype(np.float32) / 255
    if SAME_ARITHMETIC:
        assert np.array_equal(as_float, golden["frames_float"])
        assert np.array_equal(frames, golden["frames"])
    else:
        assert np.abs(as_float - golden["frames_float"]).max() < 2.5 / 255
        assert (frames != golden["frames"]).mean() < 0.02


def test_given_draws_the_written_frames_are_the_authors(reference: Path) -> None:
    with np.load(reference / "goldens" / "sbsr_x8_clean.npz") as golden:
        made = SBSRPipeline(noise_sigma=0).make(golden["image"], Draws(golden["draws"], 0))
        assert (made != golden["frames"]).mean() <= (0 if SAME_ARITHMETIC else 0.02)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("scale", [4, 8])
def test_crops_are_crops_of_the_whole_frames(scale: int, exact: bool) -> None:
    """At the edges of the image, in its middle, and where the margin just fits or just does not."""
    image = picture(160, 192, 3)
    pipeline = SBSRPipeline(scale, num_frame=5, noise_sigma=0, exact=exact)
    draws = draw(pipeline)
    whole = pipeline.make(image, draws)
    height, width = whole.shape[1:3]
    side = 32 // scale
    for y in (0, 1, 15 // scale, 16 // scale, height - side - 2, height - side):
        for x in (0, 16 // scale, width // 2 - side, width - side):
            part = pipeline.make(image, draws, (y, x, side, side))
            assert np.array_equal(part, whole[:, y : y + side, x : x + side])


def test_draws_are_within_the_authors_ranges() -> None:
    pipeline = SBSRPipeline(scale=8, num_frame=400)
    motion, seed = draw(pipeline)
    assert motion.shape == (400, 6)
    assert motion[0].tolist() == [0, 0, 0, 0, 0, 1]
    steps = np.abs(np.diff(motion[:, :2], axis=0))
    assert 7.5 < steps.max() <= 8
    assert np.abs(motion[:, :2]).max() == 24
    for column, limit, middle in ((2, 1.5, 0), (3, 0.001, 0), (4, 0.001, 0), (5, 0.03, 1)):
        far = np.abs(motion[1:, column] - middle).max()
        assert 0.95 * limit < far <= limit
    assert seed != draw(pipeline, 1).noise_seed


@pytest.mark.parametrize("exact", [True, False])
def test_the_first_frames_do_not_depend_on_the_number_of_frames(exact: bool) -> None:
    image = picture(48, 64)
    few, many = (SBSRPipeline(4, num_frame, exact=exact) for num_frame in (3, 7))
    short, long = few.make(image, draw(few)), many.make(image, draw(many))
    assert np.array_equal(short, long[:3])
    assert not np.array_equal(long[0], long[1])


def test_likeness_darkens_edges_but_no_flat_area() -> None:
    flat = np.full((64, 64, 3), 200, np.uint8)
    exact, smooth = (SBSRPipeline(4, 2, noise_sigma=0, exact=exact) for exact in (True, False))
    dark, even = exact.make(flat, draw(exact)), smooth.make(flat, draw(smooth))
    assert (even == 200).all()
    assert dark[:, 0, 0].max() < 120
    for level in range(0, 256, 15):
        image = np.full((64, 64, 3), level, np.uint8)
        assert (exact.make(image, draw(exact))[:, 6:10, 6:10] == level).all()


def test_writing_changes_no_level() -> None:
    """The authors' code truncates frames a second time, after float32 arithmetic."""
    levels = np.arange(256).astype(np.float32)
    assert np.array_equal((levels / 255 * 255).astype(np.uint8), levels)


def test_noise_has_the_given_deviation() -> None:
    flat = np.full((256, 256, 3), 120, np.uint8)
    pipeline = SBSRPipeline(4, 4, noise_sigma=5, exact=False)
    frames = pipeline.make(flat, draw(pipeline)).astype(float)
    assert abs(frames.mean() - 120) < 0.2
    assert abs(frames.std() - 5) < 0.1
    other = pipeline.make(flat, draw(pipeline, 1))
    assert not np.array_equal(frames, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1}, "scale must be at least 2"),
        ({"num_frame": 0}, "num_frame must be at least 1"),
        ({"blur_sigma": 0}, "blur_sigma must be positive"),
        ({"noise_sigma": -1}, "noise_sigma must not be negative"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SBSRPipeline(**options)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_a_band_does_not_depend_on_the_number_of_bands(channels: int, exact: bool) -> None:
    pipeline = SBSRPipeline(4, 3, noise_sigma=0, exact=exact)
    image = np.random.default_rng(0).integers(0, 256, (48, 40, channels), dtype=np.uint8)
    frames = pipeline.make(image, draw(pipeline))
    assert frames.shape == (3, 12, 10, channels)
    for band in range(channels):
        colour = np.repeat(image[..., band : band + 1], 3, axis=2)
        assert np.array_equal(pipeline.make(colour, draw(pipeline))[..., 0], frames[..., band])
    noisy = SBSRPipeline(4, 3, exact=exact)
    whole = noisy.make(image, draw(noisy))
    assert whole.shape == frames.shape
    assert not np.array_equal(whole, frames)
