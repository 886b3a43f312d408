"""MATLAB's imresize: exact on the field's own LR images, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srtoolbox.data.resize.array import imresize, imresize_window
from srtoolbox.errors import UserError


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _modcrop(image: np.ndarray, scale: int) -> np.ndarray:
    height, width = (length // scale * scale for length in image.shape[:2])
    return image[:height, :width]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
def test_exact_on_the_single_image_sets(reference, dataset, scale):
    folder = reference / "data" / dataset
    differing = {}
    for path in sorted((folder / "HR").glob("*.png")):
        lr = _read(folder / f"LR_bicubic/X{scale}" / path.name)
        ours = imresize(
            _modcrop(_read(path), scale), 1 / scale, edge="replicate", round_between_passes=True
        )
        differing[path.name] = int((ours != lr).sum()) if ours.shape == lr.shape else ours.shape
    assert len(differing) == {"Set5": 5, "Set14": 14}[dataset]
    assert set(differing.values()) == {0}, differing


def test_exact_on_jilin(reference):
    folder = reference / "data/Jilin/001"
    paths = sorted((folder / "GT").glob("*.png"))
    assert len(paths) == 7
    for path in paths:
        ours = imresize(_read(path), 1 / 4, edge="replicate")
        assert np.array_equal(ours, _read(folder / "LR" / path.name)), path.name


_GOLDEN = [
    *((f"down{s}", 1 / s, s, True) for s in (2, 3, 4)),
    *((f"up{s}", s, 1, True) for s in (2, 3, 4)),
    *((f"down{s}_odd", 1 / s, 1, True) for s in (2, 4)),
    ("down2_noaa", 1 / 2, 2, False),
    ("up1p5", 1.5, 1, True),
    ("rand_gray_down3", 1 / 3, 3, True),
]


@pytest.mark.parametrize(("name", "scale", "multiple", "antialias"), _GOLDEN)
def test_agrees_with_basicsr(reference, name, scale, multiple, antialias):
    golden = np.load(reference / "goldens/imresize_basicsr.npz")
    image = golden["rand_gray"] if "gray" in name else golden["img_uint8"] / 255
    ours = imresize(_modcrop(image, multiple), scale, antialias=antialias)
    assert ours.dtype == np.float64
    assert ours.shape == golden[name].shape
    # The stored values were computed in float32.
    np.testing.assert_allclose(ours, golden[name], rtol=0, atol=3e-6)


def test_known_values():
    """By hand: halving weights eight pixels by the Keys cubic at 1/8, 3/8, … of its width."""
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    image = np.random.default_rng(0).random((16, 16))
    ours = imresize(image, 1 / 2)
    expected = weights @ image[5:13, 5:13] @ weights
    assert ours.shape == (8, 8)
    assert ours[4, 4] == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("edge", ["symmetric", "replicate"])
@pytest.mark.parametrize("scale", [1 / 7, 1 / 4, 0.6, 1, 1.5, 4])
def test_keeps_constants_and_sizes(scale, edge):
    image = np.full((37, 5, 2), 200, np.uint8)
    ours = imresize(image, scale, edge=edge)
    assert ours.shape == (int(np.ceil(37 * scale)), int(np.ceil(5 * scale)), 2)
    assert ours.dtype == np.uint8
    assert (ours == 200).all()


def test_scale_one_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 70, 3), dtype=np.uint8)
    assert np.array_equal(imresize(image, 1), image)


def test_long_lines_agree_with_short_ones():
    """The image is worked off in blocks of lines; their seams must not show."""
    image = np.random.default_rng(0).random((500, 3))
    whole = imresize(image, 1 / 2)
    part = imresize(image[100:400], 1 / 2)
    np.testing.assert_allclose(whole[60:190], part[10:140], rtol=0, atol=1e-14)


def test_edges_differ_only_near_the_border():
    image = np.random.default_rng(0).random((64, 64))
    difference = np.abs(imresize(image, 1 / 4) - imresize(image, 1 / 4, edge="replicate"))
    assert difference.max() > 1e-3
    assert difference[2:-2, 2:-2].max() < 1e-14


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_clipped_and_rounded_half_up(dtype):
    top = np.iinfo(dtype).max
    step = np.repeat(np.array([0, top], dtype), 8)[None].repeat(8, 0)
    ours = imresize(step, 2)
    assert ours.dtype == dtype
    assert ours.min() == 0
    assert ours.max() == top
    assert imresize(np.array([[0, 1]], dtype), None, out_size=(1, 1)).item() == 1


@pytest.mark.parametrize("round_between_passes", [False, True])
def test_signed_integers_are_those_of_shifted_unsigned_ones(round_between_passes):
    image = np.random.default_rng(0).integers(0, 2**16, (30, 41, 5), np.uint16)
    signed = (image.astype(np.int32) - 2**15).astype(np.int16)
    for scale in (1 / 4, 1 / 3, 2):
        options = {"edge": "replicate", "round_between_passes": round_between_passes}
        ours = imresize(signed, scale, **options)
        assert ours.dtype == np.int16
        expected = imresize(image, scale, **options).astype(np.int32) - 2**15
        assert np.array_equal(ours, expected)


def test_floats_are_neither_clipped_nor_rounded():
    step = np.repeat(np.array([0.0, 1.0]), 8)[None].repeat(8, 0)
    ours = imresize(step, 2)
    assert ours.min() < 0
    assert ours.max() > 1


def test_out_size():
    image = np.random.default_rng(0).random((24, 36, 3))
    assert imresize(image, None, out_size=(12, 12)).shape == (12, 12, 3)
    np.testing.assert_array_equal(imresize(image, None, out_size=(12, 18)), imresize(image, 1 / 2))
    np.testing.assert_array_equal(
        imresize(image, 4, out_size=(90, 141)), imresize(image, 4)[:90, :141]
    )


def test_views_and_repeated_calls():
    """Any memory layout gives the same, and the cached weights survive their use."""
    image = np.random.default_rng(0).random((40, 30, 3))
    first = imresize(image, 1 / 2)
    np.testing.assert_array_equal(first, imresize(np.asfortranarray(image), 1 / 2))
    np.testing.assert_allclose(first[:, ::-1], imresize(image[:, ::-1], 1 / 2), atol=1e-14)
    np.testing.assert_array_equal(first, imresize(image, 1 / 2))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((3, 4, 4, 3)), {"scale": 2}, r"\(3, 4, 4, 3\)"),
        (np.zeros((0, 4)), {"scale": 2}, r"\(0, 4\)"),
        (np.zeros((4, 4), int), {"scale": 2}, "int64"),
        (np.zeros((4, 4)), {"scale": 2, "round_between_passes": True}, "uint8"),
        (np.zeros((4, 4)), {"scale": 2, "edge": "reflect"}, "symmetric"),
        (np.zeros((4, 4)), {"scale": None}, "out_size"),
        (np.zeros((4, 4)), {"scale": 0}, "positive"),
        (np.zeros((4, 4)), {"scale": 2, "out_size": (0, 4)}, "at least"),
    ],
)
def test_bad_input_is_named(image, options, message):
    with pytest.raises(UserError, match=message):
        imresize(image, **options)


def _windows(rng: np.random.Generator, height: int, width: int):
    """Random windows (top, left, height, width), among them ones at each border and the whole."""
    yield 0, 0, height, width
    for corner in range(4):
        h, w = rng.integers(1, height + 1), rng.integers(1, width + 1)
        yield (corner & 1) * (height - h), (corner >> 1) * (width - w), h, w
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        yield top, left, rng.integers(1, height - top + 1), rng.integers(1, width - left + 1)


@pytest.mark.parametrize("round_between_passes", [False, True])
@pytest.mark.parametrize("edge", ["symmetric", "replicate"])
@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
def test_a_window_is_that_of_the_whole(scale, edge, round_between_passes):
    rng = np.random.default_rng(round(1000 * scale))
    options = {"edge": edge, "round_between_passes": round_between_passes}
    for channels, height, width in ((3, 200, 137), (1, 3, 90), (13, 31, 64)):
        for dtype in (np.uint8, np.uint16, np.int16):
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
            image = rng.integers(low, high, (channels, height, width), dtype)
            whole = imresize(image.transpose(1, 2, 0), scale, **options).transpose(2, 0, 1)
            for top, left, h, w in _windows(rng, *whole.shape[1:]):
                part = imresize_window(image, scale, (top, left, h, w), **options)
                assert part.dtype == dtype
                assert part.flags.c_contiguous
                assert np.array_equal(part, whole[:, top : top + h, left : left + w])


@given(
    st.data(),
    st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64]),
    st.tuples(st.integers(1, 4), st.integers(1, 90), st.integers(1, 90)),
    st.one_of(st.sampled_from([1 / 8, 1 / 4, 1 / 3, 1 / 2, 1, 2, 3, 4]), st.floats(0.08, 4.5)),
    st.sampled_from(["symmetric", "replicate"]),
    st.booleans(),
)
def test_any_window_of_any_image_is_that_of_the_whole(
    data, dtype, shape, scale, edge, round_between_passes
):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    is_integer = np.issubdtype(dtype, np.integer)
    top_value = np.iinfo(dtype).max if is_integer else 1
    image = (rng.random(shape) * top_value).astype(dtype)
    options = {"edge": edge, "round_between_passes": round_between_passes and is_integer}
    whole = imresize(image.transpose(1, 2, 0), scale, **options).transpose(2, 0, 1)
    top, left = (data.draw(st.integers(0, length - 1)) for length in whole.shape[1:])
    height = data.draw(st.integers(1, whole.shape[1] - top))
    width = data.draw(st.integers(1, whole.shape[2] - left))
    part = imresize_window(image, scale, (top, left, height, width), **options)
    expected = whole[:, top : top + height, left : left + width]
    assert part.dtype == whole.dtype
    np.testing.assert_allclose(part, expected, rtol=0, atol=0 if is_integer else 1e-13)


@pytest.mark.parametrize("edge", ["symmetric", "replicate"])
def test_a_window_of_floats(edge):
    rng = np.random.default_rng(0)
    image = rng.random((3, 90, 130), dtype=np.float32)
    whole = imresize(image.transpose(1, 2, 0), 1 / 4, edge=edge).transpose(2, 0, 1)
    for top, left, h, w in _windows(rng, *whole.shape[1:]):
        part = imresize_window(image, 1 / 4, (top, left, h, w), edge=edge)
        assert part.dtype == np.float64
        expected = whole[:, top : top + h, left : left + w]
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-14)


def test_a_window_reads_no_more_than_it_needs():
    """All that lies beyond the kernel's reach may be anything."""
    image = np.full((1, 4000, 4000), np.nan, np.float32)
    image[:, 4 * 100 - 8 : 4 * 132 + 8, 4 * 50 - 8 : 4 * 90 + 8] = 0.25
    part = imresize_window(image, 1 / 4, (100, 50, 32, 40))
    np.testing.assert_allclose(part, np.full((1, 32, 40), 0.25), rtol=0, atol=1e-14)


def test_a_window_of_the_upper_left_part():
    image = np.random.default_rng(0).integers(0, 256, (4, 43, 50), dtype=np.uint8)
    for window in ((0, 0, 10, 12), (6, 7, 4, 5)):
        part = imresize_window(image, 1 / 4, window, size=(40, 48), edge="replicate")
        cut = imresize_window(image[:, :40, :48], 1 / 4, window, edge="replicate")
        assert np.array_equal(part, cut)


def test_a_window_of_a_memory_map(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (3, 60, 80), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", image)
    view = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    part = imresize_window(view, 1 / 2, (20, 3, 10, 16))
    assert type(part) is np.ndarray
    assert np.array_equal(part, imresize_window(image, 1 / 2, (20, 3, 10, 16)))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((16, 16)), {}, r"\(C, H, W\).*\(16, 16\)"),
        (np.zeros((3, 0, 16)), {}, r"\(3, 0, 16\)"),
        (np.zeros((3, 16, 16), int), {}, "int64"),
        (np.zeros((3, 16, 16)), {"round_between_passes": True}, "uint8"),
        (np.zeros((3, 16, 16)), {"edge": "reflect"}, "symmetric"),
        (np.zeros((3, 16, 16)), {"scale": 0}, "positive"),
        (np.zeros((3, 16, 24)), {"window": (5, 0, 4, 4)}, r"\(5, 0, 4, 4\).*8 x 12"),
        (np.zeros((3, 16, 24)), {"window": (0, -1, 4, 4)}, "leaves"),
        (np.zeros((3, 16, 24)), {"window": (0, 0, 0, 4)}, "leaves"),
    ],
)
def test_a_bad_window_is_named(image, options, message):
    with pytest.raises(UserError, match=f"imresize_window: .*{message}"):
        imresize_window(image, **{"scale": 1 / 2, "window": (0, 0, 4, 4), **options})
